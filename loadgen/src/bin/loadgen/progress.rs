//! The progress bar on the terminal during a run; none if stderr is not a terminal.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressFinish, ProgressState, ProgressStyle};
use loadgen::{Config, Phase};

const REDRAW: Duration = Duration::from_millis(200);
const BAR_WIDTH: usize = 40;

/// Shows the phase of a run, and how long it will last.
pub struct Progress {
    config: Config,
    shown: Option<ProgressBar>,
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(config: &Config) -> Progress {
        Progress { config: config.clone(), shown: None }
    }

    /// Shows the phase, and no longer the one before.
    pub fn show(&mut self, phase: Phase) {
        self.shown = None;
        if !io::stderr().is_terminal() {
            return;
        }
        self.shown = match phase {
            Phase::Connecting => Some(bar("connecting", None)),
            Phase::Ready => Some(bar("waiting for the start", None)),
            Phase::WarmingUp => Some(bar("warming up", Some(self.config.warmup))),
            Phase::Measuring => Some(bar("measuring", Some(self.config.duration))),
            Phase::Draining => Some(bar("awaiting the last replies", None)),
            Phase::Finished => None,
        };
    }
}

/// A bar that fills by itself in `length`, or a spinner, until it is dropped.
fn bar(what: &'static str, length: Option<Duration>) -> ProgressBar {
    let template = if length.is_some() { "{prefix} {passed} {left}" } else { "{prefix} {spinner}" };
    let length = length.unwrap_or_default();
    let passed = move |state: &ProgressState, out: &mut dyn Write| {
        let share = state.elapsed().div_duration_f64(length).min(1.0);
        let _ = write!(out, "{:░<BAR_WIDTH$}", "█".repeat((share * BAR_WIDTH as f64) as usize));
    };
    let left = move |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0} s left", length.saturating_sub(state.elapsed()).as_secs_f64().ceil());
    };
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let style = style.with_key("passed", passed).with_key("left", left);
    let bar = ProgressBar::new_spinner().with_style(style).with_prefix(what).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(REDRAW);
    bar
}
