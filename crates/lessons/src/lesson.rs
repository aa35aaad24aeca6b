//! What a lesson is: a claim, its source, a prediction, an experiment with a verdict, and what to read next.

use std::fmt;

use anyhow::Result;

use crate::lab::Lab;

/// A claim of textbooks, and the experiment that tests it.
#[derive(Debug)]
pub struct Lesson {
    /// Its name on the command line.
    pub name: &'static str,
    pub claim: &'static str,
    /// The kind of text that makes the claim.
    pub source: &'static str,
    /// A question for the viewer, before the experiment.
    pub prediction: &'static str,
    /// Shows what is measured, and judges it.
    pub experiment: fn(&Lab) -> Result<Finding>,
    pub read_next: &'static [Passage],
}

/// A function of this project to read next.
#[derive(Debug)]
pub struct Passage {
    /// From the project's root.
    pub file: &'static str,
    pub function: &'static str,
    /// What it shows.
    pub shows: &'static str,
}

/// The result of an experiment.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// Pairs of a label and a measured value.
    pub numbers: Vec<(String, String)>,
    pub verdict: Verdict,
    /// The reason for the verdict: sentences with numbers.
    pub reason: String,
}

/// Whether the claim holds on this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Holds,
    /// It holds only when this condition is met.
    HoldsOnly(String),
    DoesNotHold,
    /// The data do not decide it.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Holds => f.write_str("holds"),
            Verdict::HoldsOnly(when) => write!(f, "holds only when {when}"),
            Verdict::DoesNotHold => f.write_str("does not hold here"),
            Verdict::Inconclusive => f.write_str("remains undecided (inconclusive)"),
        }
    }
}
