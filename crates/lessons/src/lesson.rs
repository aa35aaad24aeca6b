//! What a lesson is: a claim, a prediction, an experiment, a verdict, and what to read next.

use std::fmt;

use anyhow::Result;

use crate::stage::Stage;

/// One claim of the textbooks, and how it is tried.
#[derive(Debug)]
pub struct Lesson {
    /// By which it is asked for.
    pub name: &'static str,
    pub claim: &'static str,
    /// In what kind of text it stands.
    pub told_in: &'static str,
    /// What the viewer may predict before it is shown.
    pub prediction: &'static str,
    /// Shows it and judges what was seen.
    pub experiment: fn(&Stage) -> Result<Finding>,
    pub read: &'static [Passage],
}

/// A function of ours to read next.
#[derive(Debug)]
pub struct Passage {
    /// From the project's root.
    pub file: &'static str,
    pub function: &'static str,
    /// What can be seen there.
    pub shows: &'static str,
}

/// What an experiment found out.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// What was measured, each with what it is.
    pub numbers: Vec<(String, String)>,
    pub verdict: Verdict,
    /// The verdict's reason, in a sentence with numbers.
    pub because: String,
}

/// What the numbers say of the claim, on this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Holds,
    /// ... only when this is so.
    HoldsOnly(String),
    DoesNotHold,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Holds => f.write_str("holds"),
            Verdict::HoldsOnly(when) => write!(f, "holds only when {when}"),
            Verdict::DoesNotHold => f.write_str("does not hold here"),
        }
    }
}

/// What a lesson needs and this machine does not have: no failure, the others go on without it.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}
