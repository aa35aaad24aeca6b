//! The progress bar of a run, with the time left; shown on terminals only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::schedule::{Plan, Step};

/// The progress bar of a run.
pub struct Progress<'a> {
    bar: ProgressBar,
    plan: &'a Plan,
    steps: &'a [Step],
}

impl<'a> Progress<'a> {
    /// Shows the bar, with none of these steps done.
    pub fn start(plan: &'a Plan, steps: &'a [Step]) -> Progress<'a> {
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len}, {prefix} left  {msg}")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps.len() as u64).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress { bar, plan, steps }
    }

    /// Shows that this trial runs.
    pub fn begin(&self, step: &Step) {
        let left = &self.steps[self.bar.position() as usize..];
        self.bar.set_prefix(self.plan.duration_of(left));
        let Step { experiment, point, round, .. } = step;
        let server = &self.plan.settings.servers[step.server].name;
        self.bar.set_message(format!("round {round}: {server}, {} {}", experiment.name, point.place));
    }

    /// Counts a trial as done.
    pub fn end(&self) {
        self.bar.inc(1);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
