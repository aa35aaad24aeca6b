//! The progress of a run, with the time left and the trials that failed: a bar on terminals, elsewhere a line a minute.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    plan::schedule::{Plan, Step},
    run::record::Trial,
};

/// How often a line is written where no bar is shown: jobs that write nothing for long are taken for ones that hang.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// The most characters of a failure beside the bar.
const FAILURE_CHARACTERS: usize = 60;

/// The progress of a run.
pub struct Progress<'a> {
    bar: ProgressBar,
    plan: &'a Plan,
    steps: &'a [Step],
    failures: usize,
    void: usize,
    /// Of the server that failed last, and why.
    last_failure: String,
    wrote: Instant,
}

impl<'a> Progress<'a> {
    /// Shows the bar, with none of these steps done.
    pub fn start(plan: &'a Plan, steps: &'a [Step]) -> Progress<'a> {
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len}, {prefix}  {msg}")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps.len() as u64).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress { bar, plan, steps, failures: 0, void: 0, last_failure: String::new(), wrote: Instant::now() }
    }

    /// Shows that these trials run, at one point.
    pub fn begin(&self, group: &[Step]) {
        self.bar.set_prefix(self.left());
        let Step { experiment, point, round, .. } = group[0];
        let servers = match group {
            [alone] => self.plan.settings.servers[alone.server].name.clone(),
            _ => format!("{} servers in turns", group.len()),
        };
        self.bar.set_message(format!("round {round}: {servers}, {} {}{}", experiment.name, point.place, self.last_failure));
    }

    /// Counts a trial as done.
    pub fn end(&mut self, trial: &Trial) {
        self.bar.inc(1);
        if trial.is_void() {
            self.void += 1;
        } else if let Some(failure) = &trial.failure {
            self.failures += 1;
            self.last_failure = format!("; last failure: {}: {}", trial.server, shortened(failure));
        }
        if self.bar.is_hidden() && self.wrote.elapsed() >= LINE_EVERY {
            self.wrote = Instant::now();
            let (done, all) = (self.bar.position(), self.steps.len());
            let _ = writeln!(io::stderr(), "{done} of {all} trials, {}{}", self.left(), self.last_failure);
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn left(&self) -> String {
        let time = self.plan.duration_of(&self.steps[self.bar.position() as usize..]);
        let counted = |count: usize, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
        format!("{time} left{}{}", counted(self.failures, "failed"), counted(self.void, "spoiled by the machine"))
    }
}

/// The first line, and no more of it than fits.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(FAILURE_CHARACTERS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticRun, fail};

    #[test]
    fn failures_are_counted_and_the_last_is_shown_in_one_short_line() {
        let mut run = SyntheticRun::of(&["--experiment", "churn", "--rounds", "1"]);
        let plan = Plan::new(run.run.plan.clone(), &run.run.processors).unwrap();
        let mut progress = Progress::start(&plan, &plan.trials);
        progress.end(&run.trials[0]);
        assert!(!progress.left().contains("failed") && progress.last_failure.is_empty());
        fail(&mut run.trials[1], &format!("no luck{}\nmore", " at all".repeat(20)));
        progress.end(&run.trials[1]);
        assert!(progress.left().ends_with(" left, 1 failed"), "{}", progress.left());
        let last = &progress.last_failure;
        assert!(last.contains(": no luck at all") && last.ends_with("...") && !last.contains('\n'), "{last}");
    }
}
