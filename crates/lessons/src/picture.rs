//! A bar chart that grows while something is measured. In a pipe, one plain line per finished bar.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The resolution of a bar.
const STEPS: f64 = 1000.0;

/// Bars, one below the other.
#[derive(Debug)]
pub struct Picture {
    labels: Vec<String>,
    longest: f64,
    /// Empty in a pipe.
    bars: Vec<ProgressBar>,
}

impl Picture {
    /// Bars of length 0; the longest possible bar is for the value `longest`.
    pub fn new(labels: &[&str], longest: f64, is_animated: bool) -> Picture {
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let template = format!("  {{prefix:<{width}}}  {{bar:40}}  {{msg}}");
        let style = ProgressStyle::with_template(&template).expect("the template is well-formed").progress_chars("█▉▊▋▌▍▎▏ ");
        let all = MultiProgress::new();
        let bar = |label: &&str| {
            let bar = all.add(ProgressBar::new(STEPS as u64).with_style(style.clone()).with_prefix(label.to_string()));
            bar.tick();
            bar
        };
        let bars = if is_animated { labels.iter().map(bar).collect() } else { Vec::new() };
        Picture { labels: labels.iter().map(|label| label.to_string()).collect(), longest, bars }
    }

    /// Shows the value of a bar so far.
    pub fn show(&self, index: usize, value: f64, text: &str) {
        if let Some(bar) = self.bars.get(index) {
            bar.set_position((value / self.longest * STEPS).clamp(0.0, STEPS) as u64);
            bar.set_message(text.to_owned());
        }
    }

    /// Marks a bar as being measured.
    pub fn begin(&self, index: usize) {
        if let Some(bar) = self.bars.get(index) {
            bar.set_message("...");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// Shows the final value of a bar.
    pub fn finish(&self, index: usize, value: f64, text: &str) {
        self.show(index, value, text);
        match self.bars.get(index) {
            Some(bar) => bar.abandon(),
            None => _ = writeln!(io::stdout(), "  {}: {text}", self.labels[index]),
        }
    }
}
