//! What a generator thread sends when and where, and what a reply means: without sockets or clock.

use crate::{
    Config, Load,
    clock::{Window, nanoseconds},
    content::Content,
    conversation::Conversation,
    record::{Cause, Outcome, Record},
    schedule::{Schedule, Shard},
};

/// Bytes of an open loop's requests that may be in flight per connection: as many as sockets hold by default. Further ones
/// queue in the generator.
const MAX_BYTES_IN_FLIGHT: usize = 256 * 1024;

/// Requests that may be pending: more than any server that keeps up leaves. Each takes memory, and a rate far beyond what can be
/// sent makes ten million due per second.
const MAX_PENDING: u64 = 1 << 20;

/// A thread's share of the load. Its connections are its slots, counted from 0.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    content: &'a Content,
    pace: Pace,
    /// Requests that may be in flight per slot.
    window: usize,
    churn: bool,
    drain_ns: u64,
    slots: Vec<Slot>,
    pub(crate) record: Record,
}

/// What makes requests due.
#[derive(Debug)]
enum Pace {
    /// Replies: this many requests in flight per slot.
    Closed(usize),
    Schedule(Schedule),
}

/// Aligned to a cache line: with a thousand slots each turn finds its slot outside the processor's caches.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    conversation: Conversation,
    /// Why the connection has ended for good.
    lost: Option<Cause>,
}

impl<'a> Engine<'a> {
    /// The shard's share of the load, on connections with the given ids; an open loop's schedule begins at `begins_ns`.
    pub(crate) fn new(
        config: &Config,
        content: &'a Content,
        shard: Shard,
        ids: impl Iterator<Item = u64>,
        begins_ns: u64,
        record: Record,
    ) -> Engine<'a> {
        let (pace, window) = match &config.load {
            Load::Closed { pipeline } => (Pace::Closed(*pipeline), *pipeline),
            Load::Open(open) => {
                let one_at_a_time = open.one_outstanding || config.churn;
                let most = (MAX_BYTES_IN_FLIGHT / content.message_bytes()).max(1);
                (Pace::Schedule(Schedule::new(open, shard, config.seed, begins_ns)), if one_at_a_time { 1 } else { most })
            }
        };
        let slots = ids.map(|id| Slot { conversation: Conversation::new(id), lost: None }).collect();
        Engine { content, pace, window, churn: config.churn, drain_ns: nanoseconds(config.drain), slots, record }
    }

    /// A turn begins: its slice is the measured window, and the schedule goes on where the last slice ended.
    pub(crate) fn begin_turn(&mut self, slice: Window, now_ns: u64) {
        if let Pace::Schedule(schedule) = &mut self.pace {
            schedule.postpone(now_ns.saturating_sub(self.record.window.until_ns));
        }
        self.record.begin_turn(slice, now_ns);
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether a schedule says when requests are due.
    pub(crate) fn is_scheduled(&self) -> bool {
        matches!(self.pace, Pace::Schedule(_))
    }

    /// In a closed loop, adds as many requests as may be in flight.
    pub(crate) fn fill(&mut self, slot: usize, now_ns: u64) {
        let Slot { conversation, lost } = &mut self.slots[slot];
        if let Pace::Closed(most) = self.pace
            && now_ns < self.record.window.until_ns
            && lost.is_none()
        {
            (conversation.pending()..most).for_each(|_| conversation.add_request(now_ns, now_ns, &mut self.record));
        }
    }

    /// When the schedule's next request is due; `None` when no more are due before the window's end.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        match &self.pace {
            Pace::Closed(_) => None,
            Pace::Schedule(schedule) => Some(schedule.next_due_ns()).filter(|&due_ns| due_ns < self.record.window.until_ns),
        }
    }

    /// Adds the schedule's next request if it is due by now, and returns its slot. On a lost slot the request fails. While too many
    /// requests are pending already, those that are due stay in the schedule.
    pub(crate) fn add_due_request(&mut self, now_ns: u64) -> Option<usize> {
        if self.record.pending >= MAX_PENDING {
            return None;
        }
        let due_ns = self.next_due_ns().filter(|&due_ns| due_ns <= now_ns)?;
        let Pace::Schedule(schedule) = &mut self.pace else { return None };
        let slot = schedule.next_connection();
        schedule.advance();
        let Slot { conversation, lost } = &mut self.slots[slot];
        conversation.add_request(due_ns, now_ns, &mut self.record);
        if let Some(cause) = *lost {
            conversation.give_up(1, Outcome::Failed(cause), now_ns, &mut self.record);
        }
        Some(slot)
    }

    /// Whether the slot has bytes to write now.
    pub(crate) fn has_unwritten(&self, slot: usize) -> bool {
        self.slots[slot].conversation.has_unwritten(self.window)
    }

    /// Fills `out` with the slot's next bytes to write, and returns how many.
    pub(crate) fn unwritten(&self, slot: usize, out: &mut [u8]) -> usize {
        self.slots[slot].conversation.unwritten(self.content, self.window, out)
    }

    /// The slot's socket took `bytes`, offered to it at `at_ns`.
    pub(crate) fn wrote(&mut self, slot: usize, bytes: usize, at_ns: u64) {
        self.slots[slot].conversation.wrote(self.content, bytes, at_ns, &mut self.record);
    }

    /// The slot's socket received these bytes.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub(crate) fn received(&mut self, slot: usize, bytes: &[u8], now_ns: u64) -> Result<(), Cause> {
        self.slots[slot].conversation.receive(self.content, bytes, now_ns, &mut self.record)
    }

    /// A connection is being opened for the slot's oldest request, which counts as sent from now on.
    pub(crate) fn connecting(&mut self, slot: usize, now_ns: u64) {
        self.slots[slot].conversation.sent_ahead(now_ns, &mut self.record);
    }

    /// Whether a request is being written or its reply awaited.
    pub(crate) fn has_begun(&self, slot: usize) -> bool {
        !self.slots[slot].conversation.is_between_requests()
    }

    /// Whether the slot's connection, on which a request had begun, has served its one request.
    pub(crate) fn is_used_up(&self, slot: usize) -> bool {
        self.churn && !self.has_begun(slot)
    }

    /// Whether a connection must be opened for the slot if it has none.
    pub(crate) fn needs_connection(&self, slot: usize) -> bool {
        let Slot { conversation, lost } = &self.slots[slot];
        self.churn && lost.is_none() && conversation.pending() > 0
    }

    /// The slot's connection has ended, or did not open. Returns whether the slot is lost; otherwise only one request is.
    pub(crate) fn disconnected(&mut self, slot: usize, cause: Cause, now_ns: u64) -> bool {
        // A closed loop would only retry as fast as it can.
        let is_lost = cause == Cause::Connect && !self.is_scheduled();
        let Slot { conversation, lost } = &mut self.slots[slot];
        let (most, gone) = if self.churn && !is_lost { (1, None) } else { (usize::MAX, Some(cause)) };
        *lost = gone;
        conversation.give_up(most, Outcome::Failed(cause), now_ns, &mut self.record);
        gone.is_some()
    }

    /// Whether the window has ended and no request is pending, or the drain is over.
    pub(crate) fn is_over(&self, now_ns: u64) -> bool {
        let until_ns = self.record.window.until_ns;
        let is_done = self.record.is_drained() && self.next_due_ns().is_none();
        now_ns >= until_ns && (is_done || now_ns - until_ns >= self.drain_ns)
    }

    /// The times at which the thread must act even if nothing arrives, ascending.
    pub(crate) fn milestones_ns(&self) -> [u64; 3] {
        let window = self.record.window;
        [window.from_ns, window.until_ns, window.until_ns.saturating_add(self.drain_ns)]
    }

    /// Ends the pending requests and those that never left the schedule, and returns the record and, for each slot, the replies
    /// since the window began.
    pub(crate) fn finish(mut self, now_ns: u64) -> (Record, Vec<u64>) {
        for slot in &mut self.slots {
            slot.conversation.give_up(usize::MAX, Outcome::Unanswered, now_ns, &mut self.record);
        }
        while let Some(slot) = self.add_due_request(now_ns) {
            self.slots[slot].conversation.give_up(1, Outcome::Unanswered, now_ns, &mut self.record);
        }
        self.record.timeline.end(now_ns);
        let replies = self.slots.iter().map(|slot| slot.conversation.replies()).collect();
        (self.record, replies)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Arrival, Failures, Measurement, OpenLoop, Requests, Times,
        calibrate::{
            behaviour::Behaviour,
            kolmogorov_smirnov::{ks_critical, ks_distance},
            md1,
        },
        simulation::{World, arrivals_ns, simulate},
    };

    const US: u64 = 1000;
    const MS: u64 = 1000 * US;
    const SECOND: u64 = 1000 * MS;
    /// One round trip.
    const BASE_NS: u64 = 20 * US;
    const FREEZE: Behaviour = Behaviour::Freeze { period: Duration::from_secs(1), pause: Duration::from_millis(100) };
    const DELAY: Behaviour = Behaviour::Delay { usual: Duration::from_millis(5), every: 50, rare: Duration::from_millis(20) };

    fn config(load: Load, connections: usize, duration_ns: u64) -> Config {
        Config {
            connections,
            load,
            warmup: Duration::ZERO,
            duration: Duration::from_nanos(duration_ns),
            ..Config::new(([127, 0, 0, 1], 1).into())
        }
    }

    fn closed(pipeline: usize) -> Load {
        Load::Closed { pipeline }
    }

    fn open(rate_per_s: f64, arrival: Arrival) -> Load {
        Load::Open(OpenLoop { rate_per_s, arrival, one_outstanding: false })
    }

    fn constant(rate_per_s: f64) -> Load {
        open(rate_per_s, Arrival::Constant)
    }

    /// The measurement of a simulated run, with its counts checked for consistency.
    fn measure(config: &Config, world: &World) -> Measurement {
        let measurement = simulate(config, world);
        let broken = broken_rules(config, &measurement);
        assert!(broken.is_empty(), "{broken:?} do not hold in {measurement:?}");
        measurement
    }

    /// The consistency rules that the counts break.
    fn broken_rules(config: &Config, measurement: &Measurement) -> Vec<&'static str> {
        let requests = &measurement.requests;
        let timed_from_sending = if config.rate_per_s().is_some() { requests.sent } else { requests.due };
        let lags = measurement.send_lag.as_ref().map_or(requests.sent, Times::count);
        let rules = [
            ("outcomes", outcomes(requests) == requests.due),
            ("outcomes in the warm-up", outcomes(&measurement.warmup_requests) == measurement.warmup_requests.due),
            ("sent", requests.sent <= requests.due),
            ("latencies", measurement.latency.count() == requests.due),
            ("lower bounds", measurement.latency.unanswered == requests.due - requests.answered),
            ("service times", measurement.service.count() == timed_from_sending),
            ("send lags", lags == requests.sent),
            ("Little's law", measurement.littles_law.gap() < 0.01),
        ];
        rules.into_iter().filter_map(|(what, holds)| (!holds).then_some(what)).collect()
    }

    fn outcomes(requests: &Requests) -> u64 {
        let Requests { answered, altered, crossed, timed_out, failed, unanswered, .. } = requests;
        answered + altered + crossed + timed_out + failed.total() + unanswered
    }

    fn warns(measurement: &Measurement, kind: &str) -> bool {
        measurement.warnings.iter().any(|warning| warning.kind() == kind)
    }

    /// Whether two times are equal at the histogram's precision.
    fn are_equal(times: &Times, one_ns: u64, other_ns: u64) -> bool {
        times.all.equivalent(one_ns, other_ns)
    }

    fn are_all(times: &Times, expected_ns: u64) -> bool {
        are_equal(times, times.all.min(), expected_ns) && are_equal(times, times.all.max(), expected_ns)
    }

    #[track_caller]
    fn assert_percentiles(times: &Times, expected: &[(f64, u64)]) {
        for &(quantile, expected_ns) in expected {
            let percentile = times.percentile(quantile).expect("samples enough");
            assert!(
                are_equal(times, percentile.value_ns, expected_ns) && !percentile.at_least,
                "{quantile}: {percentile:?}, expected {expected_ns}"
            );
        }
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value}, expected {expected} +- {tolerance}");
    }

    #[test]
    fn a_slot_takes_two_cache_lines() {
        assert_eq!(size_of::<Slot>(), 128);
    }

    #[test]
    fn with_a_prompt_server_every_latency_of_an_open_loop_is_the_networks() {
        let config = Config { warmup: Duration::from_secs(1), ..config(constant(1000.0), 3, 10 * SECOND) };
        let measurement = measure(&config, &World::new(Behaviour::Prompt));
        assert_eq!(measurement.requests, Requests { due: 10_000, sent: 10_000, answered: 10_000, ..Requests::default() });
        assert_eq!(measurement.warmup_requests.answered, 1000);
        assert!(are_all(&measurement.latency, BASE_NS) && are_all(&measurement.service, BASE_NS));
        assert_eq!(measurement.send_lag.as_ref().unwrap().all.max(), 0);
        assert!(measurement.all_answered());
        assert_eq!(measurement.warnings, []);
    }

    #[test]
    fn a_closed_loop_keeps_its_pipeline_full() {
        let measurement = measure(&config(closed(4), 3, 50 * MS), &World::new(Behaviour::Prompt));
        // 12 requests per round trip, of which 2500 fit; the last twelve replies arrive as the window ends.
        assert_eq!((measurement.replies_in_window, measurement.requests.due), (30_000 - 12, 30_000));
        assert!(are_all(&measurement.latency, BASE_NS));
        assert_near(measurement.littles_law.mean_in_flight, 12.0, 1e-9);
    }

    #[test]
    fn a_closed_loop_at_a_busy_server_waits_in_its_queue() {
        let queue = World::new(Behaviour::Queue { service: Duration::from_micros(50) });
        let config = Config { warmup: Duration::from_millis(10), ..config(closed(4), 3, SECOND) };
        let measurement = measure(&config, &queue);
        assert_eq!(measurement.throughput_per_s(), 20_000.0);
        assert!(are_all(&measurement.latency, 12 * 50 * US));
        assert_near(measurement.connections.jain_index.unwrap(), 1.0, 1e-6);
    }

    #[test]
    fn a_late_reply_delays_a_send_only_if_one_may_be_outstanding() {
        let at_once = World { network_ns: 0, ..World::new(FREEZE) };
        let load = |one_outstanding| Load::Open(OpenLoop { rate_per_s: 1000.0, arrival: Arrival::Constant, one_outstanding });
        let pipelined = measure(&config(load(false), 2, 2 * SECOND), &at_once);
        let one_by_one = measure(&config(load(true), 2, 2 * SECOND), &at_once);
        let lag = |measurement: &Measurement| measurement.send_lag.as_ref().unwrap().all.max();
        assert_eq!(lag(&pipelined), 0);
        // The slot's second request is due 2 ms into the pause.
        let lags = one_by_one.send_lag.as_ref().unwrap();
        assert!(are_equal(lags, lags.all.max(), 98 * MS), "{}", lags.all.max());
        assert_eq!(pipelined.latency.all, one_by_one.latency.all);
        assert_eq!(pipelined.service.all, pipelined.latency.all);
        assert!(one_by_one.service.all.mean() < pipelined.service.all.mean() / 10.0);
    }

    #[test]
    fn requests_past_the_limit_of_bytes_queue_and_count_from_when_they_were_due() {
        let config = Config { payload_bytes: MAX_BYTES_IN_FLIGHT / 4 - 4, ..config(constant(10.0), 1, SECOND) };
        let world = |behaviour| World { network_ns: 0, ..World::new(behaviour) };
        let stopped = measure(&config, &world(Behaviour::StopAt(Duration::ZERO)));
        assert_eq!(stopped.requests, Requests { due: 10, sent: 4, unanswered: 10, ..Requests::default() });
        assert!(are_equal(&stopped.latency, stopped.latency.all.max(), 2 * SECOND));
        assert!(are_equal(&stopped.latency, stopped.latency.all.min(), 1100 * MS));

        let pause = Duration::from_millis(500);
        let frozen = measure(&config, &world(Behaviour::Freeze { period: Duration::from_secs(1), pause }));
        let latencies_ms: Vec<u64> = frozen.latency.all.iter_recorded().map(|step| step.value_iterated_to() / MS).collect();
        assert_eq!(latencies_ms, [0, 100, 200, 300, 400, 500]);
        let lags = frozen.send_lag.unwrap();
        assert!(are_equal(&lags, lags.all.max(), 100 * MS) && lags.all.count_between(1, u64::MAX) == 1, "only the fifth waits");
    }

    #[test]
    fn a_server_that_stops_leaves_the_median_and_lower_bounds() {
        let config = config(constant(1000.0), 4, 10 * SECOND);
        let world = World::new(Behaviour::StopAt(Duration::from_secs(8)));
        let stopped = measure(&config, &world);
        let expected = Requests { due: 10_000, sent: 10_000, answered: 8000, unanswered: 2000, ..Requests::default() };
        assert_eq!(stopped.requests, expected);
        assert_percentiles(&stopped.latency, &[(0.5, BASE_NS), (0.75, BASE_NS)]);
        assert!([0.9, 0.99, 0.999].iter().all(|&quantile| stopped.latency.percentile(quantile).unwrap().at_least));
        assert!(!stopped.all_answered() && warns(&stopped, "censored") && warns(&stopped, "saturated"));

        // The drain ends after 11 s: a request due at 9 s is then just within the timeout.
        let impatient = measure(&Config { timeout: Duration::from_secs(2), ..config }, &world);
        assert_eq!(impatient.requests, Requests { timed_out: 1000, unanswered: 1000, ..expected });
    }

    #[test]
    fn replies_after_the_timeout_have_timed_out_and_no_others() {
        let config = Config { timeout: Duration::from_millis(10), ..config(constant(1000.0), 50, 10 * SECOND) };
        let measurement = measure(&config, &World::new(DELAY));
        let expected = Requests { due: 10_000, sent: 10_000, answered: 9800, timed_out: 200, ..Requests::default() };
        assert_eq!(measurement.requests, expected);
        assert!(are_equal(&measurement.latency, measurement.latency.unanswered_from_ns.unwrap(), 20 * MS + BASE_NS));
    }

    #[test]
    fn a_delay_of_every_fiftieth_begins_at_its_percentile() {
        let measurement = measure(&config(constant(1000.0), 50, 10 * SECOND), &World::new(DELAY));
        let (usual_ns, rare_ns) = (5 * MS + BASE_NS, 20 * MS + BASE_NS);
        let expected = [(0.5, usual_ns), (0.975, usual_ns), (0.98, usual_ns), (0.985, rare_ns), (0.999, rare_ns)];
        assert_percentiles(&measurement.latency, &expected);
        assert!(measurement.all_answered());
    }

    #[test]
    fn a_stalled_generator_shows_in_send_lag_and_latency_and_not_in_service_time() {
        let world = World { stall: Some(500 * MS..550 * MS), ..World::new(Behaviour::Prompt) };
        let measurement = measure(&config(constant(1000.0), 5, SECOND), &world);
        // Requests due 0, 1 .. 49 ms into the stall leave 50, 49 .. 1 ms late.
        assert_percentiles(measurement.send_lag.as_ref().unwrap(), &[(0.95, 0), (0.951, MS), (0.97, 20 * MS), (0.99, 40 * MS)]);
        assert_percentiles(&measurement.latency, &[(0.95, BASE_NS), (0.99, 40 * MS + BASE_NS)]);
        assert!(are_all(&measurement.service, BASE_NS));
        assert_eq!(measurement.pauses.longest_ns, 50 * MS);
        assert!(warns(&measurement, "send_lag") && warns(&measurement, "paused"));
    }

    #[test]
    fn an_open_loop_sees_a_freeze_in_full() {
        const GAP_NS: f64 = 1e5;
        let measurement = measure(&config(constant(10_000.0), 10, 10 * SECOND), &World::new(FREEZE));
        for (quantile, frozen_ms) in [(0.5, 0), (0.899, 0), (0.95, 50), (0.99, 90), (0.999, 99)] {
            let expected_ns = (frozen_ms * MS + BASE_NS) as f64;
            let value_ns = measurement.latency.percentile(quantile).unwrap().value_ns as f64;
            assert_near(value_ns, expected_ns, GAP_NS + expected_ns / 1000.0);
        }
        assert_near(measurement.latency.all.mean(), (5 * MS + BASE_NS) as f64, GAP_NS);
    }

    #[test]
    fn a_closed_loop_omits_what_it_should_have_sent_in_a_freeze() {
        let far = World { network_ns: 100 * US, ..World::new(FREEZE) };
        let measurement = measure(&config(closed(1), 1, 9500 * MS), &far);
        assert_percentiles(&measurement.latency, &[(0.5, 200 * US), (0.99, 200 * US), (0.999, 200 * US)]);
        // One request meets each freeze.
        assert_eq!(measurement.latency.all.count_between(201 * US, u64::MAX), 10);
    }

    #[test]
    fn random_arrivals_at_one_server_queue_as_long_as_theory_says() {
        const SERVICE: Duration = Duration::from_millis(1);
        let world = World { network_ns: 0, ..World::new(Behaviour::Queue { service: SERVICE }) };
        for (rho, seconds) in [(0.3, 60), (0.5, 60), (0.7, 120), (0.8, 240)] {
            let load = open(rho / SERVICE.as_secs_f64(), Arrival::Poisson);
            let latency =
                measure(&Config { warmup: Duration::from_secs(1), ..config(load, 4, seconds * SECOND) }, &world).latency;
            let near = |ns: f64, expected_s: Option<f64>| assert_near(ns / 1e9 / expected_s.unwrap(), 1.0, 0.03);
            for quantile in [0.5, 0.9] {
                let value_ns = latency.percentile(quantile).unwrap().value_ns as f64;
                near(value_ns, md1::response_quantile(rho, SERVICE.as_secs_f64(), quantile));
            }
            near(latency.all.mean(), md1::response_mean(rho, SERVICE.as_secs_f64()));
        }
    }

    #[test]
    fn random_sends_are_a_poisson_process_however_many_threads_send() {
        const RATE_PER_S: f64 = 5000.0;
        for threads in [1, 2] {
            let config = Config { threads, ..config(open(RATE_PER_S, Arrival::Poisson), 5, 4 * SECOND) };
            let arrivals_ns = arrivals_ns(&config, &World::new(Behaviour::Prompt));
            let mut gaps_s: Vec<f64> = arrivals_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
            gaps_s.sort_unstable_by(f64::total_cmp);
            let distance = ks_distance(&gaps_s, |gap_s| 1.0 - (-RATE_PER_S * gap_s).exp());
            assert!(gaps_s.len() > 19_000 && distance < ks_critical(gaps_s.len(), 0.01), "{threads}: {distance}");
        }
    }

    #[test]
    fn a_connection_that_is_lost_fails_what_is_due_on_it_and_nothing_else() {
        let world = World { close: Some((1, 1000 * MS + 500 * US)), ..World::new(DELAY) };
        let measurement = measure(&config(constant(1000.0), 4, 2 * SECOND), &world);
        // Of its requests the one due at 997 ms is in flight, and those due at 1001, 1005 .. 1997 ms are still to come.
        let failed = Failures { closed: 251, ..Failures::default() };
        assert_eq!(measurement.requests, Requests { due: 2000, sent: 1750, answered: 1749, failed, ..Requests::default() });
        assert_eq!(measurement.connections.reset, 1);
        assert!(!measurement.all_answered());
    }

    #[test]
    fn a_run_without_connections_ends() {
        let world = World { close: Some((0, 100 * MS)), ..World::new(DELAY) };
        let measurement = measure(&config(constant(1000.0), 1, SECOND), &world);
        assert_eq!(measurement.elapsed, Duration::from_millis(100));
        assert_eq!((measurement.requests.due, measurement.connections.reset), (100, 1));
    }

    #[test]
    fn an_open_loop_of_single_use_connections_fails_by_request() {
        let config = Config { churn: true, ..config(constant(1000.0), 5, SECOND) };
        let measurement = measure(&config, &World { refuse_every: 10, ..World::new(Behaviour::Prompt) });
        let failed = Failures { connect: 100, ..Failures::default() };
        assert_eq!(measurement.requests, Requests { due: 1000, sent: 1000, answered: 900, failed, ..Requests::default() });
        assert_eq!((measurement.connections.refused, measurement.connections.opened_in_window), (100, 900));
        assert_eq!(measurement.connections.reset, 0);
        assert!(are_equal(&measurement.latency, measurement.latency.all.max(), 2 * BASE_NS), "to connect is part of it");
    }

    #[test]
    fn a_closed_loop_of_single_use_connections_gives_up_a_slot_that_is_refused() {
        let config = Config { churn: true, ..config(closed(1), 4, SECOND) };
        let measurement = measure(&config, &World { refuse_every: 100, ..World::new(Behaviour::Prompt) });
        let failed = Failures { connect: 4, ..Failures::default() };
        assert_eq!(measurement.requests, Requests { due: 400, sent: 400, answered: 396, failed, ..Requests::default() });
        assert_eq!((measurement.connections.reset, measurement.connections.refused), (4, 4));
        assert!(measurement.elapsed < Duration::from_secs(1));
    }

    fn any_load() -> impl Strategy<Value = Load> {
        let arrival = || prop_oneof![Just(Arrival::Constant), Just(Arrival::Poisson)];
        let open = (100.0..50_000.0, arrival(), any::<bool>()).prop_map(|(rate_per_s, arrival, one_outstanding)| OpenLoop {
            rate_per_s,
            arrival,
            one_outstanding,
        });
        prop_oneof![(1_usize..5).prop_map(closed), open.prop_map(Load::Open)]
    }

    prop_compose! {
        fn any_config()(
            connections in 1_usize..9,
            load in any_load(),
            churn in any::<bool>(),
            payload_bytes in 1_usize..200,
            threads in 1_usize..4,
            warmup_us in 0_u64..3000,
            timeout_us in 100_u64..5000,
            drain_us in 0_u64..3000,
            seed in 0_u64..1 << 53,
        ) -> Config {
            Config {
                churn: churn && matches!(load, Load::Closed { pipeline: 1 } | Load::Open(_)),
                payload_bytes,
                threads,
                warmup: Duration::from_micros(warmup_us),
                timeout: Duration::from_micros(timeout_us),
                drain: Duration::from_micros(drain_us),
                seed,
                ..config(load, connections, 10 * MS)
            }
        }
    }

    fn any_behaviour() -> impl Strategy<Value = Behaviour> {
        let time = || (0_u64..5000).prop_map(Duration::from_micros);
        prop_oneof![
            Just(Behaviour::Prompt),
            (time(), time()).prop_map(|(period, pause)| Behaviour::Freeze { period, pause }),
            time().prop_map(Behaviour::StopAt),
            (time(), 0_u64..20, time()).prop_map(|(usual, every, rare)| Behaviour::Delay { usual, every, rare }),
            (0_u64..200).prop_map(|us| Behaviour::Queue { service: Duration::from_micros(us) }),
        ]
    }

    prop_compose! {
        fn any_world()(
            behaviour in any_behaviour(),
            network_us in 10_u64..200,
            stall in prop::option::of((0..5 * MS, 0..5 * MS)),
            close in prop::option::of(0..10 * MS),
            refuse_every in 0_u64..30,
        ) -> World {
            World {
                behaviour,
                network_ns: network_us * US,
                stall: stall.map(|(from_ns, length_ns)| from_ns..from_ns + length_ns),
                close: close.map(|at_ns| (0, at_ns)),
                refuse_every,
            }
        }
    }

    proptest! {
        #[test]
        fn the_counts_are_consistent_whatever_happens(config in any_config(), world in any_world()) {
            let measurement = simulate(&config, &world);
            prop_assert_eq!(broken_rules(&config, &measurement), Vec::<&str>::new(), "{:?}", measurement.requests);
        }
    }
}
