//! Two runs compared: the numbers of the cells that both have, and which of them changed beyond noise.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Result;
use statistics::{Better, Change, Estimate, changed};

use crate::{
    plan::{
        experiment::{CAPACITY, Experiment},
        metric::{self, Metric},
        place::Place,
    },
    run::{
        folder::read_trials,
        manifest::Run,
        record::{Measured, Trial},
    },
    stats::values::value,
};

/// What is compared of each cell beside what its experiment ranks by. Each further number makes it harder for all others to be
/// significant.
static ALSO_COMPARED: [&Metric; 3] = [&metric::CPU_US, &metric::P99, &metric::SERVED];

/// A factor that nearly all cells share is reported from this ratio on, in either direction.
const COMMON_FACTOR: f64 = 1.1;

/// What share of the cells are nearly all.
const NEARLY_ALL: f64 = 0.9;

/// A run as read from its folder.
#[derive(Debug)]
pub struct StoredRun {
    pub folder: PathBuf,
    pub run: Run,
    /// Trials that count.
    pub trials: usize,
    pub failed: usize,
    /// Trials that the machine spoiled.
    pub void: usize,
    /// Without those that only set the scale of other experiments: a changed rate shows in these.
    pub cells: BTreeMap<CellKey, Vec<Trial>>,
}

/// A server at a point of an experiment.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellKey {
    pub experiment: String,
    pub place: Place,
    pub server: String,
}

/// A number of a cell, in the rounds of both runs.
#[derive(Debug)]
pub struct Pair<'a> {
    pub key: &'a CellKey,
    pub metric: &'static Metric,
    pub before: Vec<f64>,
    pub after: Vec<f64>,
}

/// A [`Pair`] with enough rounds.
#[derive(Debug)]
pub struct Compared<'a> {
    pub pair: Pair<'a>,
    pub change: Change,
    pub interval: (f64, f64),
}

/// All numbers of two runs.
#[derive(Debug)]
pub struct Comparison<'a> {
    pub compared: Vec<Compared<'a>>,
    /// How many pairs have too few rounds, or a value of 0.
    pub not_compared: usize,
    /// The most good rounds that a number has, before and after.
    pub rounds: (usize, usize),
}

/// A change of throughput that nearly all cells share, whether or not each is beyond noise: no single server explains it.
#[derive(Debug)]
pub struct CommonFactor {
    pub ratio: f64,
    /// How many cells changed in this direction.
    pub alike: usize,
    pub cells: usize,
}

impl StoredRun {
    pub fn read(folder: &Path) -> Result<StoredRun> {
        let run = Run::read(folder)?;
        let (void, all): (Vec<Trial>, Vec<Trial>) = read_trials(folder)?.into_iter().partition(Trial::is_void);
        let (trials, failed, void) = (all.len(), failures(&all).count(), void.len());
        let mut cells: BTreeMap<CellKey, Vec<Trial>> = BTreeMap::new();
        for trial in all.into_iter().filter(|trial| trial.experiment != CAPACITY.name) {
            let Trial { experiment, place, server, .. } = &trial;
            let key = CellKey { experiment: experiment.clone(), place: place.clone(), server: server.clone() };
            cells.entry(key).or_default().push(trial);
        }
        Ok(StoredRun { folder: folder.into(), run, trials, failed, void, cells })
    }
}

/// The cells that both runs have.
pub fn shared<'a>(
    before: &'a StoredRun,
    after: &'a StoredRun,
) -> impl Iterator<Item = (&'a CellKey, &'a [Trial], &'a [Trial])> {
    before.cells.iter().filter_map(|(key, trials)| Some((key, trials.as_slice(), after.cells.get(key)?.as_slice())))
}

pub fn failures(trials: &[Trial]) -> impl Iterator<Item = &str> {
    trials.iter().filter_map(|trial| trial.failure.as_deref())
}

/// The measurements of the rounds that did not fail.
pub fn good(trials: &[Trial]) -> impl Iterator<Item = &Measured> {
    trials.iter().filter(|trial| trial.failure.is_none()).filter_map(|trial| trial.measured.as_ref())
}

pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    Estimate::of(&values.collect::<Vec<_>>()).map(|estimate| estimate.median)
}

/// How many times the larger is the smaller.
pub fn away_from_one(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}

impl Comparison<'_> {
    pub fn of<'a>(before: &'a StoredRun, after: &'a StoredRun) -> Comparison<'a> {
        let pairs: Vec<Pair> = shared(before, after).flat_map(|(key, before, after)| pairs(key, before, after)).collect();
        let most_rounds = |values: fn(&Pair) -> usize| pairs.iter().map(values).max().unwrap_or(0);
        let rounds = (most_rounds(|pair| pair.before.len()), most_rounds(|pair| pair.after.len()));
        let comparisons = pairs.len();
        let compared: Vec<Compared> = pairs.into_iter().filter_map(|pair| Compared::of(pair, comparisons)).collect();
        Comparison { not_compared: comparisons - compared.len(), compared, rounds }
    }

    /// The numbers that changed beyond noise, the largest change first.
    pub fn changes(&self) -> Vec<&Compared<'_>> {
        let mut changes: Vec<&Compared> = self.compared.iter().filter(|compared| compared.change.beyond_noise).collect();
        let size = |compared: &Compared| away_from_one(compared.change.ratio.median);
        changes.sort_by(|one, other| size(other).total_cmp(&size(one)));
        changes
    }

    /// `None` of a single server.
    pub fn common_factor(&self) -> Option<CommonFactor> {
        let of_throughput = || self.compared.iter().filter(|one| one.pair.metric.name == metric::THROUGHPUT.name);
        let servers: BTreeSet<_> = of_throughput().map(|one| &one.pair.key.server).collect();
        let ratios: Vec<f64> = of_throughput().map(|one| one.change.ratio.median).collect();
        let (ratio, cells) = (median(ratios.iter().copied())?, ratios.len());
        let alike = ratios.iter().filter(|one| (**one > 1.0) == (ratio > 1.0)).count();
        let is_common = away_from_one(ratio) > COMMON_FACTOR && alike as f64 >= NEARLY_ALL * cells as f64;
        (is_common && servers.len() > 1).then_some(CommonFactor { ratio, alike, cells })
    }
}

impl Compared<'_> {
    fn of(pair: Pair, comparisons: usize) -> Option<Compared> {
        let change = changed(&pair.before, &pair.after, comparisons)?;
        let interval = change.ratio.interval?;
        Some(Compared { pair, change, interval })
    }

    pub fn is_better(&self) -> bool {
        match self.pair.metric.better {
            Better::Higher => self.change.ratio.median > 1.0,
            Better::Lower => self.change.ratio.median < 1.0,
        }
    }
}

/// The numbers of a cell that either run has.
fn pairs<'a>(key: &'a CellKey, before: &[Trial], after: &[Trial]) -> Vec<Pair<'a>> {
    let ranked_by = Experiment::named(&key.experiment).map(|experiment| experiment.ranked_by);
    let others = ALSO_COMPARED.into_iter().filter(|metric| ranked_by.is_none_or(|ranked_by| ranked_by.name != metric.name));
    let values = |trials, metric: &Metric| good(trials).filter_map(|measured| value(metric, measured)).collect::<Vec<_>>();
    let pair = |metric| Pair { key, metric, before: values(before, metric), after: values(after, metric) };
    ranked_by.into_iter().chain(others).map(pair).filter(|pair| !pair.before.is_empty() || !pair.after.is_empty()).collect()
}
