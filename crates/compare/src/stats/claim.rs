//! A textbook's claim about an experiment, and whether the data support it, at each point that it is about.

use std::fmt;

use models::Model;
use statistics::{CLEAR_FACTOR, is_ahead, is_below};

use crate::{
    plan::{
        metric::{self, Metric},
        place::Place,
    },
    stats::summary::Field,
};

/// A textbook's claim, and how it is tested.
#[derive(Debug)]
pub struct Claim {
    pub text: &'static str,
    /// The models it is about.
    pub about: &'static [&'static Model],
    /// The number by which it is judged.
    pub by: &'static Metric,
    /// Whether it is about this place.
    pub of: fn(&Place) -> bool,
    pub test: Test,
}

/// Whether a claim holds at a point: `None` where the data are inconclusive.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// By the measurements there.
    There(fn(&Field) -> Option<bool>),
    /// By the measurements there (second) against those at the first point of its curve (first).
    SinceFirst(fn(&Field, &Field) -> Option<bool>),
}

/// Whether the data support a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// At some points, and not at others.
    HoldsInPart,
    DoesNotHold,
    Inconclusive,
}

impl Verdict {
    /// Its name in files.
    pub fn key(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::HoldsInPart => "holds-in-part",
            Verdict::DoesNotHold => "does-not-hold",
            Verdict::Inconclusive => "inconclusive",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "holds",
            Verdict::HoldsInPart => "holds in part",
            Verdict::DoesNotHold => "does not hold",
            Verdict::Inconclusive => "inconclusive",
        })
    }
}

/// A claim, and the points that it is about by whether it holds there.
#[derive(Debug)]
pub struct Judged<'a> {
    pub claim: &'static Claim,
    pub holds: Vec<Case<'a>>,
    pub fails: Vec<Case<'a>>,
    pub undecided: Vec<Case<'a>>,
}

/// A point that a claim is about, with the first one of its curve.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub first: &'a Field<'a>,
    pub here: &'a Field<'a>,
}

impl Judged<'_> {
    pub fn verdict(&self) -> Verdict {
        match (self.holds.is_empty(), self.fails.is_empty()) {
            (true, true) => Verdict::Inconclusive,
            (false, true) => Verdict::Holds,
            (true, false) => Verdict::DoesNotHold,
            (false, false) => Verdict::HoldsInPart,
        }
    }
}

impl Claim {
    /// Whether all models that it is about took part.
    pub fn is_about(&self, fields: &[Field]) -> bool {
        self.about.iter().all(|model| fields.iter().any(|field| field.cell(model.name).is_some()))
    }

    /// Tests the claim at the points of its experiment.
    pub fn judged<'a>(&'static self, fields: &'a [Field<'a>]) -> Judged<'a> {
        let mut judged = Judged { claim: self, holds: Vec::new(), fails: Vec::new(), undecided: Vec::new() };
        for here in fields.iter().filter(|field| (self.of)(&field.point.place)) {
            let Some(first) = fields.iter().find(|field| field.point.place.variant == here.point.place.variant) else {
                continue;
            };
            let holds = match self.test {
                Test::There(test) => test(here),
                // The first point of a curve has nothing before it.
                Test::SinceFirst(_) if here.point.place.x == first.point.place.x => continue,
                Test::SinceFirst(test) => test(first, here),
            };
            let cases = match holds {
                Some(true) => &mut judged.holds,
                Some(false) => &mut judged.fails,
                None => &mut judged.undecided,
            };
            cases.push(Case { first, here });
        }
        judged
    }
}

/// Whether one server is better than another.
pub fn ahead(field: &Field, one: &Model, other: &Model) -> Option<bool> {
    let (one, other) = (one.name, other.name);
    is_ahead(field.is_ahead(one, other)?, field.is_ahead(other, one)?, field.times_better(one, other))
}

/// Whether the best and the worst of those with ranks are even.
pub fn even(field: &Field) -> Option<bool> {
    is_below(field.slowest_to_fastest?.interval?, CLEAR_FACTOR)
}

/// Whether a server's number is this many times what it was.
pub fn grew(first: &Field, here: &Field, model: &Model, metric: &Metric, times: f64) -> Option<bool> {
    let interval = |field: &Field| field.cell(model.name).filter(|cell| cell.serves_all())?.estimate(metric)?.interval;
    let ((before_least, before_most), (least, most)) = (interval(first)?, interval(here)?);
    is_below((least / before_most, most / before_least), times).map(|below| !below)
}

/// Whether a server answers clearly less than it did.
pub fn slowed(first: &Field, here: &Field, model: &Model) -> Option<bool> {
    grew(here, first, model, &metric::THROUGHPUT, CLEAR_FACTOR)
}

/// Whether a server's number is less than this.
pub fn under(field: &Field, model: &Model, metric: &Metric, limit: f64) -> Option<bool> {
    let estimate = field.cell(model.name)?.estimate(metric)?;
    is_below(estimate.interval.unwrap_or((estimate.median, estimate.median)), limit)
}

/// Whether one server's number is less than so many times the other's.
pub fn less(field: &Field, one: &Model, other: &Model, metric: &Metric, times: f64) -> Option<bool> {
    let interval = |model: &Model| field.cell(model.name).filter(|cell| cell.serves_all())?.estimate(metric)?.interval;
    let ((least, most), (least_of_other, most_of_other)) = (interval(one)?, interval(other)?);
    is_below((least / most_of_other, most / least_of_other), times)
}

/// Whether it serves every client.
pub fn serves_all(field: &Field, model: &Model) -> Option<bool> {
    field.cell(model.name).filter(|cell| cell.rounds() > 0).map(|cell| cell.serves_all())
}
