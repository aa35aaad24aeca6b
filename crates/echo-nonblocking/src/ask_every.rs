//! `--ask-every`, which this server has alone: a sleep in its loop, to be seen what waiting without knowing for whom does.

use std::{thread, time::Duration};

use clap::Args;

/// How long to let pass before each turn.
#[derive(Debug, Args)]
pub struct AskEvery {
    /// Ask only now and then: sleep this long before each turn, e.g. 1ms, to see what that does. Default: ask at once
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ask_every: Option<Duration>,
}

impl AskEvery {
    /// Sleeps, if that was asked for.
    pub fn pause(&self) {
        if let Some(time) = self.ask_every {
            thread::sleep(time);
        }
    }
}
