//! What one sees while it runs: on a terminal a bar with the time left, in a pipe nothing.

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
    /// Shows that nothing of these steps has been done yet.
    pub fn start(plan: &'a Plan, steps: &'a [Step]) -> Progress<'a> {
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len}, {prefix} left  {msg}")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps.len() as u64).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress { bar, plan, steps }
    }

    /// This trial has begun.
    pub fn begin(&self, step: &Step) {
        let left = &self.steps[self.bar.position() as usize..];
        self.bar.set_prefix(self.plan.duration_of(left));
        let Step { experiment, point, round, .. } = step;
        let server = &self.plan.settings.servers[step.server].name;
        self.bar.set_message(format!("round {round}: {server}, {} {}", experiment.name, point.place));
    }

    /// A trial has ended.
    pub fn end(&self) {
        self.bar.inc(1);
    }

    /// Nothing is left to show.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
