//! Known servers: the rules by which they answer, without socket or clock, and the latencies that follow from them.

use std::time::Duration;

use super::clock::nanoseconds;

/// When a known server answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Immediately.
    Prompt,
    /// Not during the first `pause` of every `period`: everything that arrives meanwhile is answered when the pause ends.
    ///
    /// The pause comes first, so that a zero that is set a little late moves no pause out of its window.
    Freeze {
        /// From the beginning of one pause to the next; zero never pauses.
        period: Duration,
        pause: Duration,
    },
    /// Immediately, but not at all from this long after the zero on. Connections stay open.
    StopAt(Duration),
    /// `usual` after the arrival, every `every`th time `rare` after it, whatever else is waiting.
    ///
    /// Arrivals are counted over the whole server. A connection's replies keep their order, since the protocol has no ids: a
    /// rare reply holds back those after it on its connection. Exact delays need so many connections that requests on each are
    /// further apart than `rare`.
    Delay {
        /// The delay of most replies.
        usual: Duration,
        /// The last of this many arrivals gets the other delay; zero never.
        every: u64,
        /// The other delay.
        rare: Duration,
    },
    /// `service` after the later of the arrival and the answer before it: one server, first come, first served. With Poisson
    /// arrivals this is the M/D/1 queue.
    Queue { service: Duration },
}

impl Behaviour {
    /// The latency that a share `quantile` (0 to 1) of the answered requests does not exceed, when requests arrive at equal
    /// gaps over whole periods; `None` for a queue, whose latency depends on how requests arrive.
    ///
    /// For a freeze: a share f = pause / period of the requests arrives in a pause, evenly spread over it, and waits for the
    /// remainder; so latency is 0 up to the quantile 1 - f, and then grows linearly to `pause`.
    pub fn expected_quantile(&self, quantile: f64) -> Option<Duration> {
        match *self {
            Behaviour::Prompt | Behaviour::StopAt(_) => Some(Duration::ZERO),
            Behaviour::Freeze { period, pause } => {
                let frozen = share(pause, period);
                let into_pause = ((quantile - (1.0 - frozen)) / frozen).clamp(0.0, 1.0);
                Some(if frozen > 0.0 { pause.mul_f64(into_pause) } else { Duration::ZERO })
            }
            Behaviour::Delay { usual, every, rare } => {
                let (low, high) = (usual.min(rare), usual.max(rare));
                let high_share = if rare > usual { rare_share(every) } else { 1.0 - rare_share(every) };
                Some(if quantile > 1.0 - high_share { high } else { low })
            }
            Behaviour::Queue { .. } => None,
        }
    }

    /// The mean latency of the answered requests, if [`Behaviour::expected_quantile`] has a value.
    ///
    /// For a freeze: half a pause for the share of requests that arrives in one, pause² / (2 period).
    pub fn expected_mean(&self) -> Option<Duration> {
        match *self {
            Behaviour::Prompt | Behaviour::StopAt(_) => Some(Duration::ZERO),
            Behaviour::Freeze { period, pause } => Some(pause.mul_f64(share(pause, period) / 2.0)),
            Behaviour::Delay { usual, every, rare } => {
                Some(usual.mul_f64(1.0 - rare_share(every)) + rare.mul_f64(rare_share(every)))
            }
            Behaviour::Queue { .. } => None,
        }
    }

    /// The number of requests without an answer, of those that arrive at equal gaps, `rate_per_s` each second, in the first
    /// `window` after the zero.
    pub fn expected_unanswered(&self, rate_per_s: f64, window: Duration) -> f64 {
        match *self {
            Behaviour::StopAt(at) => rate_per_s * window.saturating_sub(at).as_secs_f64(),
            _ => 0.0,
        }
    }
}

/// The share of each period that is pause, 0 to 1.
fn share(pause: Duration, period: Duration) -> f64 {
    if period.is_zero() { 0.0 } else { pause.div_duration_f64(period).min(1.0) }
}

fn rare_share(every: u64) -> f64 {
    if every == 0 { 0.0 } else { 1.0 / every as f64 }
}

/// A known server: given each arrival, it returns when the answer is due.
#[derive(Clone, Debug)]
pub struct ServerModel {
    behaviour: Behaviour,
    zero_ns: u64,
    arrived: u64,
    last_departure_ns: u64,
}

impl ServerModel {
    /// An idle server, with the zero at 0 ns.
    pub fn new(behaviour: Behaviour) -> ServerModel {
        ServerModel { behaviour, zero_ns: 0, arrived: 0, last_departure_ns: 0 }
    }

    /// Sets the zero of freezes and the stop, in nanoseconds of the clock that counts arrivals. Earlier arrivals are affected
    /// by neither.
    pub fn set_zero(&mut self, zero_ns: u64) {
        self.zero_ns = zero_ns;
    }

    /// When the request that arrived now is answered, on the clock of the arrivals; `None` for never. Arrivals must be in order
    /// of time.
    pub fn answers_at(&mut self, arrived_ns: u64) -> Option<u64> {
        self.arrived += 1;
        let since_zero_ns = arrived_ns.checked_sub(self.zero_ns);
        match self.behaviour {
            Behaviour::Prompt => Some(arrived_ns),
            Behaviour::Freeze { period, pause } => {
                let phase_ns = since_zero_ns.and_then(|since_ns| since_ns.checked_rem(nanoseconds(period)));
                let left_ns = phase_ns.map_or(0, |phase_ns| nanoseconds(pause).saturating_sub(phase_ns));
                Some(arrived_ns + left_ns)
            }
            Behaviour::StopAt(at) => match since_zero_ns {
                Some(since_ns) if since_ns >= nanoseconds(at) => None,
                _ => Some(arrived_ns),
            },
            Behaviour::Delay { usual, every, rare } => {
                let delay = if self.arrived.is_multiple_of(every) { rare } else { usual };
                Some(arrived_ns + nanoseconds(delay))
            }
            Behaviour::Queue { service } => {
                self.last_departure_ns = arrived_ns.max(self.last_departure_ns) + nanoseconds(service);
                Some(self.last_departure_ns)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const FREEZE: Behaviour = Behaviour::Freeze { period: Duration::from_secs(1), pause: Duration::from_millis(100) };
    const DELAY: Behaviour = Behaviour::Delay { usual: Duration::from_millis(5), every: 50, rare: Duration::from_millis(20) };

    fn answers(behaviour: Behaviour, arrivals_ms: &[u64]) -> Vec<Option<u64>> {
        let mut known = ServerModel::new(behaviour);
        arrivals_ms.iter().map(|arrived_ms| known.answers_at(arrived_ms * MS).map(|at_ns| at_ns / MS)).collect()
    }

    /// The latencies, ascending, of the answered requests out of 10 000 requests per second for 10 s.
    fn latencies_ns(behaviour: Behaviour) -> Vec<u64> {
        let mut known = ServerModel::new(behaviour);
        let arrivals_ns = (0..100_000).map(|n| n * 100_000);
        let mut latencies: Vec<u64> = arrivals_ns.filter_map(|at_ns| Some(known.answers_at(at_ns)? - at_ns)).collect();
        latencies.sort_unstable();
        latencies
    }

    fn mean_ns(latencies: &[u64]) -> f64 {
        latencies.iter().sum::<u64>() as f64 / latencies.len() as f64
    }

    #[test]
    fn each_answers_at_its_time() {
        assert_eq!(answers(Behaviour::Prompt, &[0, 7, 7]), [Some(0), Some(7), Some(7)]);
        let frozen_and_not = [0, 99, 100, 999, 1000, 1050, 1100];
        let expected = [100, 100, 100, 999, 1100, 1100, 1100].map(Some);
        assert_eq!(answers(FREEZE, &frozen_and_not), expected);
        let stop = Behaviour::StopAt(Duration::from_millis(500));
        assert_eq!(answers(stop, &[0, 499, 500, 9000]), [Some(0), Some(499), None, None]);
        let queue = Behaviour::Queue { service: Duration::from_millis(10) };
        assert_eq!(answers(queue, &[0, 0, 5, 40, 49]), [10, 20, 30, 50, 60].map(Some));
    }

    #[test]
    fn one_arrival_in_fifty_is_the_rare_one_and_delays_no_other() {
        let answers = answers(DELAY, &[0; 101]);
        let rare: Vec<usize> = (0..answers.len()).filter(|&n| answers[n] == Some(20)).collect();
        assert_eq!(rare, [49, 99]);
        assert!(answers.iter().all(|&at| at == Some(5) || at == Some(20)));
    }

    #[test]
    fn freezes_and_the_stop_count_from_the_zero() {
        let mut freeze = ServerModel::new(FREEZE);
        freeze.set_zero(50 * MS);
        assert_eq!(
            [0, 49, 50, 149, 150, 1060].map(|at| freeze.answers_at(at * MS).unwrap() / MS),
            [0, 49, 150, 150, 150, 1150]
        );
        let mut stop = ServerModel::new(Behaviour::StopAt(Duration::ZERO));
        stop.set_zero(50);
        assert_eq!([49, 50].map(|at| stop.answers_at(at)), [Some(49), None]);
    }

    #[test]
    fn a_freeze_shows_in_the_high_percentiles_and_a_twentieth_of_it_in_the_mean() {
        let expected_ms = [0.5, 0.9, 0.95, 0.99, 0.999, 1.0].map(|q| FREEZE.expected_quantile(q).unwrap().as_secs_f64() * 1e3);
        for (expected, textbook) in expected_ms.into_iter().zip([0.0, 0.0, 50.0, 90.0, 99.0, 100.0]) {
            assert!((expected - textbook).abs() < 1e-6, "{expected_ms:?}");
        }
        assert_eq!(FREEZE.expected_mean(), Some(Duration::from_millis(5)));
    }

    #[test]
    fn expected_latencies_are_those_of_the_model() {
        const GAP_NS: f64 = 100_000.0;
        for behaviour in [Behaviour::Prompt, FREEZE, Behaviour::StopAt(Duration::from_secs(6)), DELAY] {
            let latencies = latencies_ns(behaviour);
            for quantile in [0.5, 0.9, 0.95, 0.979, 0.981, 0.99, 0.999, 1.0] {
                let at = (latencies.len() as f64 * quantile).ceil() as usize - 1;
                let expected_ns = behaviour.expected_quantile(quantile).unwrap().as_nanos() as f64;
                assert!((latencies[at] as f64 - expected_ns).abs() <= GAP_NS, "{behaviour:?} at {quantile}: {expected_ns}");
            }
            let expected_ns = behaviour.expected_mean().unwrap().as_nanos() as f64;
            assert!((mean_ns(&latencies) - expected_ns).abs() <= GAP_NS, "{behaviour:?}");
            let unanswered = behaviour.expected_unanswered(10_000.0, Duration::from_secs(10));
            assert_eq!(100_000 - latencies.len(), unanswered as usize, "{behaviour:?}");
        }
    }

    #[test]
    fn a_rare_reply_may_also_be_the_faster_one() {
        let quick = Behaviour::Delay { usual: Duration::from_millis(20), every: 4, rare: Duration::from_millis(8) };
        assert_eq!(quick.expected_quantile(0.2), Some(Duration::from_millis(8)));
        assert_eq!(quick.expected_quantile(0.3), Some(Duration::from_millis(20)));
        assert_eq!(quick.expected_mean(), Some(Duration::from_millis(17)));
    }

    #[test]
    fn a_period_of_zero_and_every_zeroth_never_happen() {
        let freeze = Behaviour::Freeze { period: Duration::ZERO, pause: Duration::from_secs(1) };
        let delay = Behaviour::Delay { usual: Duration::ZERO, every: 0, rare: Duration::from_secs(1) };
        for behaviour in [freeze, delay] {
            assert_eq!(answers(behaviour, &[0, 1, 2]), [0, 1, 2].map(Some));
            assert_eq!(behaviour.expected_quantile(1.0), Some(Duration::ZERO));
            assert_eq!(behaviour.expected_mean(), Some(Duration::ZERO));
        }
    }

    fn any_behaviour() -> impl Strategy<Value = Behaviour> {
        let time = || (0_u64..2000).prop_map(Duration::from_micros);
        prop_oneof![
            Just(Behaviour::Prompt),
            (time(), time()).prop_map(|(period, pause)| Behaviour::Freeze { period, pause }),
            time().prop_map(Behaviour::StopAt),
            (time(), 0_u64..5, time()).prop_map(|(usual, every, rare)| Behaviour::Delay { usual, every, rare }),
            time().prop_map(|service| Behaviour::Queue { service }),
        ]
    }

    fn arrivals_ns() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0_u64..500_000, 1..200).prop_map(|gaps_ns| {
            gaps_ns
                .into_iter()
                .scan(0, |at_ns, gap_ns| {
                    *at_ns += gap_ns;
                    Some(*at_ns)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn no_answer_comes_before_its_request(behaviour in any_behaviour(), arrivals in arrivals_ns(), zero_us in 0_u64..9000) {
            let mut known = ServerModel::new(behaviour);
            known.set_zero(zero_us * 1000);
            for arrived_ns in arrivals {
                prop_assert!(known.answers_at(arrived_ns).is_none_or(|answered_ns| answered_ns >= arrived_ns));
            }
        }

        #[test]
        fn only_delays_let_a_request_overtake_another(behaviour in any_behaviour(), arrivals in arrivals_ns()) {
            prop_assume!(!matches!(behaviour, Behaviour::Delay { .. }));
            let mut known = ServerModel::new(behaviour);
            let answers: Vec<u64> = arrivals.iter().map_while(|&arrived_ns| known.answers_at(arrived_ns)).collect();
            prop_assert!(answers.is_sorted(), "{answers:?}");
        }

        #[test]
        fn nothing_is_answered_inside_a_pause(arrivals in arrivals_ns(), period_us in 2_u64..2000, pause_share in 0.0..0.99) {
            let (period_ns, pause_ns) = (period_us * 1000, (period_us as f64 * 1000.0 * pause_share) as u64);
            let (period, pause) = (Duration::from_nanos(period_ns), Duration::from_nanos(pause_ns));
            let mut known = ServerModel::new(Behaviour::Freeze { period, pause });
            for arrived_ns in arrivals {
                prop_assert!(known.answers_at(arrived_ns).unwrap() % period_ns >= pause_ns);
            }
        }

        #[test]
        fn a_queue_is_never_idle_while_a_request_waits(arrivals in arrivals_ns(), service_us in 1_u64..1000) {
            let service_ns = service_us * 1000;
            let mut known = ServerModel::new(Behaviour::Queue { service: Duration::from_micros(service_us) });
            let mut free_ns = 0;
            for arrived_ns in arrivals {
                let departure_ns = known.answers_at(arrived_ns).unwrap();
                prop_assert_eq!(departure_ns - service_ns, arrived_ns.max(free_ns));
                free_ns = departure_ns;
            }
        }
    }
}
