//! A small picture that moves: bars that grow while something is measured. In a pipe, a plain line for each when it is done.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How finely a bar is divided.
const STEPS: f64 = 1000.0;

/// Bars one below the other.
#[derive(Debug)]
pub struct Picture {
    labels: Vec<String>,
    longest: f64,
    /// Empty in a pipe.
    bars: Vec<ProgressBar>,
}

impl Picture {
    /// Bars of length 0, the longest possible being for this value.
    pub fn new(labels: &[&str], longest: f64, moves: bool) -> Picture {
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let template = format!("  {{prefix:<{width}}}  {{bar:40}}  {{msg}}");
        let style = ProgressStyle::with_template(&template).expect("the template is well-formed").progress_chars("█▉▊▋▌▍▎▏ ");
        let all = MultiProgress::new();
        let bar = |label: &&str| {
            let bar = all.add(ProgressBar::new(STEPS as u64).with_style(style.clone()).with_prefix(label.to_string()));
            bar.tick();
            bar
        };
        let bars = if moves { labels.iter().map(bar).collect() } else { Vec::new() };
        Picture { labels: labels.iter().map(|label| label.to_string()).collect(), longest, bars }
    }

    /// The value of a bar as it is by now.
    pub fn show(&self, index: usize, value: f64, says: &str) {
        if let Some(bar) = self.bars.get(index) {
            bar.set_position((value / self.longest * STEPS).clamp(0.0, STEPS) as u64);
            bar.set_message(says.to_owned());
        }
    }

    /// A bar works, and its value is not known yet.
    pub fn begin(&self, index: usize) {
        if let Some(bar) = self.bars.get(index) {
            bar.set_message("...");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// The value of a bar as it stays.
    pub fn settle(&self, index: usize, value: f64, says: &str) {
        self.show(index, value, says);
        match self.bars.get(index) {
            Some(bar) => bar.abandon(),
            None => _ = writeln!(io::stdout(), "  {}: {says}", self.labels[index]),
        }
    }
}
