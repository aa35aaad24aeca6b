//! Warming a server up until it stops getting faster: one that compiles while it runs is slow at first.

use std::{sync::atomic::AtomicBool, time::Duration};

use anyhow::{Result, ensure};
use loadgen::{Config, Load};
use serde::{Deserialize, Serialize};

/// How long each step takes.
const STEP: Duration = Duration::from_millis(100);

/// A server that gets faster for longer than so many steps is measured as it is, and said not to be steady.
const MOST_STEPS: usize = 20;

/// Fewer steps show no trend.
const FEWEST_STEPS: usize = 3;

/// A step that is faster than all before it by less than this is no faster.
const FASTER: f64 = 1.03;

/// More connections make no server compile more.
const CONNECTIONS: usize = 8;

/// How a server was warmed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    /// For how long.
    pub seconds: f64,
    /// Whether it had stopped getting faster.
    pub steady: bool,
}

impl WarmUp {
    /// Drives a server in a closed loop, on connections of its own, until it stops getting faster.
    ///
    /// # Errors
    /// When the server cannot be driven, or gives a wrong reply.
    pub fn of_server(config: &Config, stop: &AtomicBool) -> Result<WarmUp> {
        let config = Config {
            connections: config.connections.min(CONNECTIONS),
            idle_connections: 0,
            load: Load::Closed { pipeline: 1 },
            churn: false,
            warmup: Duration::ZERO,
            duration: STEP,
            threads: 1,
            ..config.clone()
        };
        until_steady(|| {
            let measurement = loadgen::run(&config, stop, &mut |_| {})?;
            ensure!(!measurement.interrupted, "interrupted");
            if let Some(wrong) = &measurement.first_wrong {
                anyhow::bail!("a reply was wrong while the server warmed up: {wrong}");
            }
            Ok(measurement.throughput_per_s())
        })
    }
}

fn until_steady(mut step_per_s: impl FnMut() -> Result<f64>) -> Result<WarmUp> {
    let (mut fastest, mut steps, mut steady) = (0.0_f64, 0, false);
    while steps < MOST_STEPS && !steady {
        let per_s = step_per_s()?;
        steps += 1;
        steady = steps >= FEWEST_STEPS && per_s < fastest * FASTER;
        fastest = fastest.max(per_s);
    }
    Ok(WarmUp { seconds: (STEP * steps as u32).as_secs_f64(), steady })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warm_up(mut per_s: impl FnMut(usize) -> f64) -> (usize, bool) {
        let mut step = 0;
        let WarmUp { seconds, steady } = until_steady(|| {
            step += 1;
            Ok(per_s(step))
        })
        .unwrap();
        ((seconds / STEP.as_secs_f64()).round() as usize, steady)
    }

    #[test]
    fn a_server_that_is_as_fast_as_ever_is_steady_at_once() {
        assert_eq!(warm_up(|_| 1000.0), (3, true));
        assert_eq!(warm_up(|step| [1000.0, 900.0, 1010.0][step - 1]), (3, true));
    }

    #[test]
    fn one_that_gets_faster_is_driven_until_it_stops() {
        assert_eq!(warm_up(|step| 100.0 * step.min(7) as f64), (8, true));
    }

    #[test]
    fn one_that_never_stops_is_not_steady() {
        assert_eq!(warm_up(|step| 1.1_f64.powi(step as i32)), (20, false));
    }
}
