//! A bar on the terminal while the run goes on; nothing where stderr is not a terminal.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use loadgen::{Config, Phase};

const REDRAW: Duration = Duration::from_millis(200);

/// Shows what the run does now, and how long it will.
pub struct Progress {
    config: Config,
    shown: Option<Shown>,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(config: &Config) -> Progress {
        Progress { config: config.clone(), shown: None }
    }

    /// Shows a phase instead of the one before.
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

/// A bar, and the thread that moves it on until this is dropped.
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
        // A painter that has failed has nothing to say that matters.
        let _ = self.painter.take().map(JoinHandle::join);
    }
}

fn bar(what: &'static str, length: Option<Duration>) -> ProgressBar {
    let bar = ProgressBar::new(length.unwrap_or_default().as_millis() as u64).with_prefix(what);
    let template = if length.is_some() { "{prefix} {bar:40} {msg}" } else { "{prefix} {spinner}" };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
    bar
}
