//! The progress bar on the terminal during a run; none if stderr is not a terminal.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use loadgen::{Config, Phase};

const REDRAW: Duration = Duration::from_millis(200);

/// Shows the phase of a run, and how long it will last.
pub struct Progress {
    config: Config,
    shown: Option<Shown>,
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
            Phase::Connecting => Some(Shown::new("connecting", None)),
            Phase::Ready => Some(Shown::new("waiting for the start", None)),
            Phase::WarmingUp => Some(Shown::new("warming up", Some(self.config.warmup))),
            Phase::Measuring => Some(Shown::new("measuring", Some(self.config.duration))),
            Phase::Draining => Some(Shown::new("awaiting the last replies", None)),
            Phase::Finished => None,
        };
    }
}

/// A bar, and the thread that updates it until this is dropped.
struct Shown {
    stop: Option<Sender<()>>,
    painter: Option<JoinHandle<()>>,
}

impl Shown {
    fn new(what: &'static str, length: Option<Duration>) -> Shown {
        let (stop, stopped) = mpsc::channel();
        let painter = thread::spawn(move || {
            let bar = bar(what, length);
            let start = Instant::now();
            loop {
                if let Some(length) = length {
                    let left = length.saturating_sub(start.elapsed());
                    bar.set_position((length - left).as_millis() as u64);
                    bar.set_message(format!("{:.0} s left", left.as_secs_f64().ceil()));
                }
                bar.tick();
                if stopped.recv_timeout(REDRAW) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
            bar.finish_and_clear();
        });
        Shown { stop: Some(stop), painter: Some(painter) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.stop = None;
        // A failed progress bar does not matter.
        let _ = self.painter.take().map(JoinHandle::join);
    }
}

fn bar(what: &'static str, length: Option<Duration>) -> ProgressBar {
    let bar = ProgressBar::new(length.unwrap_or_default().as_millis() as u64).with_prefix(what);
    let template = if length.is_some() { "{prefix} {bar:40} {msg}" } else { "{prefix} {spinner}" };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
    bar
}
