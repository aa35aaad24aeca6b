//! The trials of a run, by experiment, point and server: medians of the rounds, and ranks at each point.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    ptr,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;
use loadgen::{Interval, Times};

use statistics::{Better, Estimate, Ranking, outliers, rank};
use testbed::Disturbance;

use crate::{
    plan::{
        experiment::{self, CAPACITY, EXPERIMENTS, Experiment, Point},
        metric::{self, Metric},
        place::Place,
        schedule::{Plan, Step},
    },
    run::{
        bottleneck::Bottleneck,
        record::{Measured, Trial},
    },
    stats::values::value,
};

/// All finished trials, in the order of the plan's lists.
#[derive(Debug, Default)]
pub struct Summary {
    servers: Vec<String>,
    rounds: u32,
    comparisons: usize,
    cells: BTreeMap<CellKey, Cell>,
    /// What disturbed the machine during the trials, those too that were repeated.
    disturbances: Vec<Disturbance>,
    void: usize,
    /// How many comparisons are not decided yet; unknown after a trial was added.
    undecided: OnceCell<usize>,
}

/// Experiment, point and server, by their indices in the lists.
type CellKey = (usize, usize, usize);

/// One server at one point: its trials, one per round. A trial that the machine spoiled is void: it says how much a request costs the
/// server, and nothing that depends on time.
#[derive(Debug)]
pub struct Cell {
    pub experiment: &'static Experiment,
    pub point: &'static Point,
    pub server: String,
    trials: BTreeMap<u32, Trial>,
}

/// All servers at one point of an experiment.
#[derive(Debug)]
pub struct Field<'a> {
    pub point: &'static Point,
    /// What they are ranked by.
    pub metric: &'static Metric,
    /// In the order of the plan.
    pub cells: Vec<&'a Cell>,
    /// The rank of each; `None` of one that failed or left clients unserved, or with too few rounds.
    pub ranks: Vec<Option<usize>>,
    /// For each, the indices of those that are significantly better.
    better: Vec<Vec<usize>>,
    /// The paired ratio of the largest to the smallest median of those ranked.
    pub slowest_to_fastest: Option<Estimate>,
    /// The smallest ratio of two servers that would have been significant here.
    pub smallest_detectable: Option<f64>,
}

impl Summary {
    /// Makes room for the trials of a plan with further rounds.
    pub fn extend(&mut self, plan: &Plan) {
        self.rounds = plan.settings.all_rounds();
    }

    /// Without any trial.
    pub fn new(plan: &Plan) -> Summary {
        let servers = plan.settings.servers.iter().map(|server| server.name.clone()).collect();
        Summary { servers, rounds: plan.settings.all_rounds(), comparisons: plan.comparisons(), ..Summary::default() }
    }

    /// Adds a trial, and returns its cell; `None` when the plan has no such trial, or it has been added already. A void trial may be
    /// repeated.
    pub fn add(&mut self, trial: Trial) -> Option<&Cell> {
        let key = self.key(&trial.experiment, &trial.place, &trial.server)?;
        let is_twice =
            self.cells.get(&key).is_some_and(|cell| cell.trials.get(&trial.round).is_some_and(|first| !first.is_void()));
        if is_twice || !(1..=self.rounds).contains(&trial.round) {
            return None;
        }
        self.undecided.take();
        self.disturbances.extend(trial.disturbance);
        self.void += usize::from(trial.is_void());
        let experiment = experiment::all().nth(key.0).expect("the key was made from this list");
        let cell = self.cells.entry(key).or_insert_with(|| Cell {
            experiment,
            point: &experiment.points[key.1],
            server: trial.server.clone(),
            trials: BTreeMap::new(),
        });
        cell.trials.insert(trial.round, trial);
        Some(cell)
    }

    fn key(&self, experiment: &str, place: &Place, server: &str) -> Option<CellKey> {
        let (index, experiment) = experiment::all().enumerate().find(|(_, one)| one.name == experiment)?;
        let point = experiment.points.iter().position(|one| one.place == *place)?;
        Some((index, point, self.servers.iter().position(|one| one == server)?))
    }

    /// How many trials there are.
    pub fn trials(&self) -> usize {
        self.cells.values().map(|cell| cell.trials.len()).sum()
    }

    /// How many trials the machine spoiled, those too that were repeated.
    pub fn void_trials(&self) -> usize {
        self.void
    }

    /// What disturbed the machine during each trial, those too that were repeated.
    pub fn disturbances(&self) -> &[Disturbance] {
        &self.disturbances
    }

    /// Whether any trial has not failed.
    pub fn has_any_success(&self) -> bool {
        self.cells.values().any(|cell| cell.known().next().is_some())
    }

    /// Whether the trial of this step is finished.
    pub fn has(&self, step: &Step) -> bool {
        let key = self.key(step.experiment.name, &step.point.place, &self.servers[step.server]);
        key.and_then(|key| self.cells.get(&key)).is_some_and(|cell| cell.trials.contains_key(&step.round))
    }

    /// All cells, by experiment, point and server.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values()
    }

    /// The highest throughput in this round of a server that served all its clients.
    pub fn capacity_per_s(&self, round: u32) -> Option<f64> {
        let cells = self.cells.values().filter(|cell| cell.experiment.name == CAPACITY.name);
        let trials = cells.filter_map(|cell| cell.trials.get(&round)).filter(|trial| trial.is_known());
        let serving = trials.filter_map(|trial| trial.measured.as_ref()).filter(|measured| measured.connections_unserved == 0);
        serving.filter_map(|measured| value(&metric::THROUGHPUT, measured)).max_by(f64::total_cmp)
    }

    /// The lowest and the highest of the rounds' capacities.
    pub fn capacities_per_s(&self) -> Option<(f64, f64)> {
        let rounds: BTreeSet<u32> = self.cells.values().flat_map(|cell| cell.trials.keys().copied()).collect();
        let capacities: Vec<f64> = rounds.into_iter().filter_map(|round| self.capacity_per_s(round)).collect();
        let least = capacities.iter().copied().min_by(f64::total_cmp)?;
        Some((least, capacities.into_iter().max_by(f64::total_cmp)?))
    }

    /// Among how many comparisons the probability of an error is shared: those that are decided already ask nothing of the others (S.
    /// Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979). His steps, each of which takes all that are significant at
    /// once.
    fn undecided(&self) -> usize {
        *self.undecided.get_or_init(|| {
            let mut undecided = self.comparisons;
            loop {
                let fields =
                    EXPERIMENTS.iter().flat_map(|experiment| self.fields_at(experiment, experiment.ranked_by, undecided));
                let decided: usize = fields.map(|field| field.better.iter().map(Vec::len).sum::<usize>()).sum();
                let left = self.comparisons.saturating_sub(decided).max(1);
                if left >= undecided {
                    return undecided;
                }
                undecided = left;
            }
        })
    }

    /// The points of an experiment that have trials, with all servers and their ranks.
    pub fn fields(&self, experiment: &Experiment) -> Vec<Field<'_>> {
        self.fields_at(experiment, experiment.ranked_by, self.undecided())
    }

    /// The same, ranked by any metric.
    pub fn fields_by(&self, experiment: &Experiment, metric: &'static Metric) -> Vec<Field<'_>> {
        self.fields_at(experiment, metric, self.undecided())
    }

    fn fields_at(&self, experiment: &Experiment, metric: &'static Metric, comparisons: usize) -> Vec<Field<'_>> {
        let mut fields: Vec<(usize, Vec<&Cell>)> = Vec::new();
        for (&(_, point, _), cell) in self.cells.iter().filter(|(_, cell)| cell.experiment.name == experiment.name) {
            match fields.last_mut() {
                Some((last, cells)) if *last == point => cells.push(cell),
                _ => fields.push((point, vec![cell])),
            }
        }
        fields.into_iter().map(|(_, cells)| Field::new(cells, metric, comparisons)).collect()
    }

    /// All servers at a point, ranked by any metric.
    pub fn field(&self, experiment: &Experiment, point: &Point, metric: &'static Metric) -> Option<Field<'_>> {
        let at = |cell: &&Cell| cell.experiment.name == experiment.name && ptr::eq(cell.point, point);
        let cells: Vec<&Cell> = self.cells().filter(at).collect();
        (!cells.is_empty()).then(|| Field::new(cells, metric, self.undecided()))
    }
}

/// Whether servers with several loops had a processor for more than one of them.
pub fn had_several_processors(fields: &[Field]) -> bool {
    fields.iter().flat_map(|field| &field.cells).any(|cell| cell.server_processors().is_some_and(|processors| processors > 1))
}

/// The servers that have a cell in these fields, in the order of the plan.
pub fn servers_of<'a>(fields: &[&Field<'a>]) -> Vec<&'a str> {
    let mut servers: Vec<&str> = Vec::new();
    for cell in fields.iter().flat_map(|field| &field.cells) {
        if !servers.contains(&&*cell.server) {
            servers.push(&cell.server);
        }
    }
    servers
}

impl<'a> Field<'a> {
    fn new(cells: Vec<&'a Cell>, metric: &'static Metric, comparisons: usize) -> Field<'a> {
        let rows: Vec<Option<Row>> = cells.iter().map(|cell| cell.row(metric)).collect();
        let in_play: Vec<usize> = (0..rows.len()).filter(|&index| rows[index].is_some()).collect();
        let ranking = rank(&in_common_rounds(&rows.iter().flatten().collect::<Vec<_>>()), metric.better, comparisons);
        let (mut ranks, mut better) = (vec![None; rows.len()], vec![Vec::new(); rows.len()]);
        for (place, &index) in in_play.iter().enumerate() {
            ranks[index] = ranking.ranks[place];
            better[index] = ranking.better[place].iter().map(|&other| in_play[other]).collect();
        }
        let Ranking { slowest_to_fastest, smallest_detectable, .. } = ranking;
        Field { point: cells[0].point, metric, cells, ranks, better, slowest_to_fastest, smallest_detectable }
    }

    /// The server of this name.
    pub fn cell(&self, server: &str) -> Option<&'a Cell> {
        self.cells.iter().find(|cell| cell.server == server).copied()
    }

    /// Whether one is significantly better than another; `None` unless both have ranks.
    pub fn is_ahead(&self, one: &str, other: &str) -> Option<bool> {
        let place =
            |server| self.cells.iter().position(|cell| cell.server == server).filter(|&place| self.ranks[place].is_some());
        let (one, other) = (place(one)?, place(other)?);
        Some(self.better[other].contains(&one))
    }

    /// How many times better one is than another, round by round: less than 1 when it is worse. `None` unless both have ranks.
    pub fn times_better(&self, one: &str, other: &str) -> Option<Estimate> {
        self.is_ahead(one, other)?;
        let rows = in_common_rounds(&[&self.cell(one)?.row(self.metric)?, &self.cell(other)?.row(self.metric)?]);
        match self.metric.better {
            Better::Higher => Estimate::of_ratio(&rows[0], &rows[1]),
            Better::Lower => Estimate::of_ratio(&rows[1], &rows[0]),
        }
    }

    /// Servers with their ranks, from the best to the worst; those without a rank last, by their medians.
    pub fn standing(&self) -> Vec<(&'a Cell, Option<usize>)> {
        let value = |cell: &Cell| cell.estimate(self.metric).map_or(f64::NAN, |estimate| estimate.median);
        let mut standing: Vec<_> = self.cells.iter().copied().zip(self.ranks.iter().copied()).collect();
        standing.sort_by(|(one, one_rank), (other, other_rank)| {
            let by_value = match self.metric.better {
                Better::Higher => value(other).total_cmp(&value(one)),
                Better::Lower => value(one).total_cmp(&value(other)),
            };
            let by_rank = one_rank.unwrap_or(usize::MAX).cmp(&other_rank.unwrap_or(usize::MAX));
            other.serves_all().cmp(&one.serves_all()).then(by_rank).then(by_value)
        });
        standing
    }
}

impl Cell {
    /// Latencies of all requests of all rounds in nanoseconds; of those without an answer, their age when given up. Counts are
    /// added, percentiles are not averaged.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = Times::default().all;
        for measured in self.good() {
            all.add(measured.latency_hdr.decode()).expect("all latencies have the same bounds");
        }
        all
    }

    /// The same of each round in turn; empty of one that failed.
    pub fn latency_of_rounds(&self) -> impl Iterator<Item = Histogram<u64>> {
        let good = |trial: &Trial| trial.measured.as_ref().filter(|_| trial.is_good()).map(|it| it.latency_hdr.decode());
        self.trials.values().map(move |trial| good(trial).unwrap_or_else(|| Times::default().all))
    }

    /// The number of requests in these histograms.
    pub fn latency_count(&self) -> u64 {
        self.good().filter_map(|measured| Some(measured.load.latency_ns.as_ref()?.count)).sum()
    }

    /// Latencies round by round, as intervals since the start of the run.
    pub fn intervals(&self, run_started: SystemTime) -> Vec<Interval> {
        let interval = |measured: &Measured| {
            let started = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(measured.load.started_unix_s);
            Interval {
                start: started.duration_since(run_started).unwrap_or_default(),
                length: Duration::from_secs_f64(measured.load.elapsed_s),
                latency: measured.latency_hdr.decode(),
                service: measured.service_hdr.as_ref().unwrap_or(&measured.latency_hdr).decode(),
                send_lag: None,
            }
        };
        self.good().map(interval).collect()
    }

    /// Its name in the run's folder: experiment, variant, point and server.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}", self.experiment.name, self.point.place.slug(), self.server)
    }

    /// The number of its rounds that are not void.
    pub fn rounds(&self) -> usize {
        self.trials.values().filter(|trial| !trial.is_void()).count()
    }

    /// Why rounds are void.
    pub fn void_rounds(&self) -> Vec<&str> {
        self.trials.values().filter_map(|trial| trial.void.as_deref()).collect()
    }

    /// The reasons of the rounds that failed.
    pub fn failures(&self) -> Vec<&str> {
        self.trials.values().filter(|trial| !trial.is_void()).filter_map(|trial| trial.failure.as_deref()).collect()
    }

    /// Whether it has rounds, and all of them failed.
    pub fn failed(&self) -> bool {
        self.rounds() > 0 && self.failures().len() == self.rounds()
    }

    /// How many clients were to be served, and how many were not, in the median round.
    pub fn clients(&self) -> Option<(u64, u64)> {
        let asked = self.good().map(|measured| measured.connections_asked).max()?;
        let unserved: Vec<f64> = self.good().map(|measured| measured.connections_unserved as f64).collect();
        Some((asked, Estimate::of(&unserved)?.median.round() as u64))
    }

    /// In how many rounds it was still getting faster when it was measured.
    pub fn unsteady_rounds(&self) -> usize {
        self.good().filter(|measured| measured.warm_up.is_some_and(|warm_up| !warm_up.steady)).count()
    }

    /// On how many processors the server ran, at most.
    pub fn server_processors(&self) -> Option<u64> {
        self.good().map(|measured| measured.server_processors).max()
    }

    /// What was at its limit in most rounds.
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        let mut times: BTreeMap<Bottleneck, usize> = BTreeMap::new();
        self.good().for_each(|measured| *times.entry(measured.bottleneck).or_default() += 1);
        times.into_iter().max_by_key(|&(_, times)| times).map(|(bottleneck, _)| bottleneck)
    }

    /// The estimate from the rounds that did not fail.
    pub fn estimate(&self, metric: &Metric) -> Option<Estimate> {
        Estimate::of(&self.values(metric).into_values().collect::<Vec<_>>())
    }

    /// Which figures of the latency, such as `p99`, are lower bounds in some round, because of requests without an answer.
    pub fn at_least(&self) -> BTreeSet<&'static str> {
        let latencies = self.good().filter_map(|measured| measured.load.latency_ns.as_ref());
        latencies.flat_map(|latency| &latency.at_least).map(|statistic| statistic.name()).collect()
    }

    /// The median as text, without its unit, marked where it is a lower bound.
    pub fn number(&self, metric: &Metric) -> Option<String> {
        let estimate = self.estimate(metric)?;
        Some(self.at_least_mark(metric).to_owned() + &metric.number(estimate.median))
    }

    /// The mark before a latency that is a lower bound in some round.
    pub fn at_least_mark(&self, metric: &Metric) -> &'static str {
        let name = metric.name.strip_prefix("latency_").and_then(|name| name.strip_suffix("_us"));
        if name.is_some_and(|name| self.at_least().contains(name)) { ">= " } else { "" }
    }

    /// Rounds with an outlying value, and that value.
    pub fn outliers(&self, metric: &Metric) -> Vec<(u32, f64)> {
        let (rounds, values): (Vec<u32>, Vec<f64>) = self.values(metric).into_iter().unzip();
        outliers(&values).into_iter().map(|index| (rounds[index], values[index])).collect()
    }

    /// Whether every client was served in every round.
    pub fn serves_all(&self) -> bool {
        self.failures().is_empty() && self.good().all(|measured| measured.connections_unserved == 0)
    }

    /// In how many rounds it was.
    pub fn rounds_that_serve_all(&self) -> usize {
        self.good().filter(|measured| measured.connections_unserved == 0).count()
    }

    /// The values of all rounds, of a server that can be ranked.
    fn row(&self, metric: &Metric) -> Option<Row> {
        let values = self.values(metric);
        let rounds = if metric.survives_disturbance { self.known().count() } else { self.rounds() };
        (self.serves_all() && rounds > 0 && values.len() == rounds).then_some(values)
    }

    /// The values of rounds that did not fail and have one.
    fn values(&self, metric: &Metric) -> Row {
        let counts = |trial: &&Trial| if metric.survives_disturbance { trial.is_known() } else { trial.is_good() };
        let of = |trial: &Trial| Some((trial.round, value(metric, trial.measured.as_ref()?)?));
        self.trials.values().filter(counts).filter_map(of).collect()
    }

    /// What trials gave that neither failed nor are void.
    fn good(&self) -> impl Iterator<Item = &Measured> {
        self.trials.values().filter(|trial| trial.is_good()).filter_map(|trial| trial.measured.as_ref())
    }

    /// What trials gave that did not fail.
    fn known(&self) -> impl Iterator<Item = &Measured> {
        self.trials.values().filter(|trial| trial.is_known()).filter_map(|trial| trial.measured.as_ref())
    }
}

/// Values by round.
type Row = BTreeMap<u32, f64>;

/// The values of the rounds that all have: a void one, or the last of an unfinished run, some do not.
fn in_common_rounds(rows: &[&Row]) -> Vec<Vec<f64>> {
    let is_common = |round: &u32| rows.iter().all(|row| row.contains_key(round));
    rows.iter().map(|row| row.iter().filter(|(round, _)| is_common(round)).map(|(_, value)| *value).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        run::record::Trial,
        synthetic::{SyntheticRun, measured},
    };

    fn run() -> SyntheticRun {
        SyntheticRun::of(&["--experiment", "scaling", "--rounds", "9"])
    }

    fn void(trial: &mut Trial) {
        trial.void = Some("the machine was elsewhere".into());
    }

    #[test]
    fn what_is_decided_asks_nothing_of_the_rest() {
        let smallest = |run: &SyntheticRun| {
            let summary = run.summary();
            let fields = summary.fields(Experiment::named("scaling").unwrap());
            fields[0].smallest_detectable.unwrap()
        };
        let equal = run();
        let apart = run().scaled(|trial| if trial.place.x > 1 { 2_f64.powi(trial.server.len() as i32) } else { 1.0 });
        assert!(smallest(&apart) < smallest(&equal), "{} {}", smallest(&apart), smallest(&equal));
    }

    #[test]
    fn a_void_round_counts_for_costs_alone_and_a_repeat_takes_its_place() {
        let mut run = run();
        let is_first = |trial: &&mut Trial| trial.round == 1 && trial.place.x == 100;
        run.trials.iter_mut().filter(is_first).for_each(|trial| {
            void(trial);
            measured(trial).connections_unserved = 7;
        });
        let experiment = Experiment::named("scaling").unwrap();
        let point = experiment.points.iter().find(|point| point.place.x == 100).unwrap();
        let mut summary = run.summary();
        let rounds = |summary: &Summary, metric| {
            let field = summary.field(experiment, point, metric).unwrap();
            assert!(field.ranks.iter().all(Option::is_some), "a spoiled round takes nobody's rank: {:?}", field.ranks);
            (field.cells[0].rounds(), field.cells[0].values(metric).len())
        };
        assert_eq!(rounds(&summary, &metric::THROUGHPUT), (8, 8));
        assert_eq!(rounds(&summary, &metric::CPU_US), (8, 9));
        assert_eq!(summary.void_trials(), 5);

        let again = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "9"]).trials;
        let again = again.into_iter().filter(|trial| trial.round == 1 && trial.place.x == 100);
        again.for_each(|trial| _ = summary.add(trial).expect("a void trial may be repeated"));
        assert_eq!(rounds(&summary, &metric::THROUGHPUT), (9, 9));
        let third = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "9"]).trials.remove(0);
        assert!(summary.add(third).is_none(), "one that counts may not");
    }
}
