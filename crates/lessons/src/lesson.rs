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
    /// Whether its verdict depends on times, which a disturbed machine changes.
    pub is_timed: bool,
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

impl Finding {
    /// The same numbers, of a machine that was disturbed.
    pub fn of_disturbed_machine(self, disturbance: &str) -> Finding {
        let reason = format!(
            "While the experiment ran, {disturbance}: its times are not those of the servers. Run it again when the machine is quiet."
        );
        Finding { verdict: Verdict::Disturbed, reason, ..self }
    }
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
    /// The machine was disturbed, so the data say nothing about it.
    Disturbed,
}

impl Verdict {
    /// The verdict on a claim that was tested in several cases. A case has a name and says whether the claim holds in it, if the
    /// data decide that. `condition` introduces the names, as in "the pause is".
    pub fn of_cases(condition: &str, cases: &[(String, Option<bool>)]) -> Verdict {
        let with = |outcome| cases.iter().filter(move |(_, holds)| *holds == outcome).map(|(name, _)| name.as_str());
        let (holds, fails, undecided) = (with(Some(true)), with(Some(false)).count(), with(None).count());
        match (holds.clone().count(), fails, undecided) {
            (0, 0, _) => Verdict::Inconclusive,
            (0, _, _) => Verdict::DoesNotHold,
            (_, 0, 0) => Verdict::Holds,
            _ => Verdict::HoldsOnly(format!("{condition} {}", holds.collect::<Vec<_>>().join(" or "))),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Holds => f.write_str("holds"),
            Verdict::HoldsOnly(when) => write!(f, "holds only when {when}"),
            Verdict::DoesNotHold => f.write_str("does not hold here"),
            Verdict::Inconclusive => f.write_str("remains undecided (inconclusive)"),
            Verdict::Disturbed => f.write_str("remains undecided (inconclusive: this machine was disturbed)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_machine_decides_nothing_and_its_numbers_are_kept() {
        let numbers = vec![("p50".into(), "3 µs".into())];
        let finding = Finding { numbers: numbers.clone(), verdict: Verdict::Holds, reason: "it is so".into() };
        let finding = finding.of_disturbed_machine("other programs used 50 % of the processors' time");
        assert_eq!((finding.numbers, &finding.verdict), (numbers, &Verdict::Disturbed));
        assert!(finding.reason.starts_with("While the experiment ran, other programs used 50 %"), "{}", finding.reason);
        assert!(finding.verdict.to_string().ends_with("(inconclusive: this machine was disturbed)"));
    }

    #[test]
    fn a_verdict_on_cases_needs_a_decided_one() {
        let verdict = |cases: &[Option<bool>]| {
            let named = cases.iter().enumerate().map(|(index, holds)| (index.to_string(), *holds));
            Verdict::of_cases("it is", &named.collect::<Vec<_>>())
        };
        assert_eq!(verdict(&[Some(true), Some(true)]), Verdict::Holds);
        assert_eq!(verdict(&[Some(false), None]), Verdict::DoesNotHold);
        assert_eq!(verdict(&[None, None]), Verdict::Inconclusive);
        assert_eq!(verdict(&[Some(true), Some(false), Some(true)]), Verdict::HoldsOnly("it is 0 or 2".into()));
        assert_eq!(verdict(&[Some(true), None]), Verdict::HoldsOnly("it is 0".into()));
    }
}
