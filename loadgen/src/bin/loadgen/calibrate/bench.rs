//! The bench on which the generator is tested: itself on one processor, a known server on another.

use std::{io, iter, sync::atomic::AtomicBool, thread, time::Duration};

use echo_protocol::HEADER_BYTES;
use host::Cpus;
use loadgen::{Config, Error, Phase, Turn, run, take_turns};

use super::{
    known_server::KnownServer,
    trial::{Outcome, Trial},
};

/// How long requests flow before a slice.
const LEAD_IN: Duration = Duration::from_millis(2);

/// The processors of the two sides; the same if they have to share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bench {
    pub generator_cpu: usize,
    pub server_cpu: usize,
}

impl Bench {
    /// The last two processors the calling thread may use, or the only one for both.
    ///
    /// # Errors
    /// When the system does not list the processors.
    pub fn on_last_cpus() -> io::Result<Bench> {
        let allowed = Cpus::allowed()?;
        let mut last = allowed.as_slice().iter().rev();
        let server_cpu = *last.next().ok_or(io::ErrorKind::NotFound)?;
        Ok(Bench { generator_cpu: last.next().copied().unwrap_or(server_cpu), server_cpu })
    }

    /// Whether the two sides share a processor: then the scheduler determines all times.
    pub fn is_shared(self) -> bool {
        self.generator_cpu == self.server_cpu
    }

    /// Keeps the calling thread, and the threads it starts, on the two processors.
    ///
    /// # Errors
    /// When the processors do not exist, or are not available to this process.
    pub fn run_here(self) -> io::Result<()> {
        Cpus::new([self.generator_cpu, self.server_cpu]).map_or(Ok(()), |cpus| cpus.run_here())
    }

    /// Does a trial on real sockets; ends early once `stop` is true.
    ///
    /// # Errors
    /// As [`run`], and [`Error::Interrupted`] also for a run that had begun: a part of it proves nothing.
    pub fn measure(self, trial: &Trial, stop: &AtomicBool) -> Result<Outcome, Error> {
        let message_bytes = HEADER_BYTES + trial.config.payload_bytes;
        let server = KnownServer::start(trial.behaviour, message_bytes, Some(self.server_cpu), trial.logged_arrivals)
            .map_err(Error::System)?;
        let config = Config { targets: vec![server.address()], cpus: Cpus::new([self.generator_cpu]), ..trial.config.clone() };
        let measurement = match trial.slice {
            Some(slice) => {
                let turns = (config.duration.as_nanos() / slice.as_nanos()) as usize;
                let turn = Turn { run: 0, lead_in: LEAD_IN, length: slice };
                take_turns(&[config], iter::repeat_n(turn, turns), stop, &mut |_, _| {}).remove(0)?
            }
            None => run(&config, stop, &mut |phase| {
                if phase == Phase::Measuring {
                    server.set_zero_now();
                    thread::sleep(trial.standstill);
                }
            })?,
        };
        let arrivals_ns = server.stop().map_err(Error::System)?;
        if measurement.interrupted { Err(Error::Interrupted) } else { Ok(Outcome { measurement, arrivals_ns }) }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use loadgen::{Arrival, Load, OpenLoop};

    use super::*;
    use crate::calibrate::behaviour::Behaviour;

    fn trial(behaviour: Behaviour) -> Trial {
        let config = Config {
            load: Load::Open(OpenLoop { rate_per_s: 500.0, arrival: Arrival::Constant, one_outstanding: false }),
            connections: 2,
            warmup: Duration::from_millis(20),
            duration: Duration::from_millis(200),
            ..Config::new(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        Trial { config, behaviour, standstill: Duration::ZERO, slice: None, logged_arrivals: 0 }
    }

    fn measure(trial: &Trial) -> Outcome {
        Bench::on_last_cpus().unwrap().measure(trial, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn the_server_counts_from_the_windows_beginning() {
        let pause = Duration::from_millis(100);
        let freeze = Behaviour::Freeze { period: Duration::from_secs(3600), pause };
        let outcome = measure(&Trial { logged_arrivals: 10, ..trial(freeze) });
        assert!(outcome.measurement.all_answered());
        assert!(outcome.measurement.latency.max().unwrap().value_ns > 90_000_000);
        assert_eq!(outcome.arrivals_ns.len(), 10);
    }

    #[test]
    fn a_standstill_delays_the_requests_due_meanwhile() {
        let standstill = Duration::from_millis(50);
        let outcome = measure(&Trial { standstill, ..trial(Behaviour::Prompt) });
        assert!(outcome.measurement.send_lag.unwrap().max().unwrap().value_ns > 40_000_000);
        assert!(outcome.measurement.pauses.longest_ns >= 50_000_000);
    }

    #[test]
    fn a_stopped_trial_has_no_outcome() {
        let stopped = Bench::on_last_cpus().unwrap().measure(&trial(Behaviour::Prompt), &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
