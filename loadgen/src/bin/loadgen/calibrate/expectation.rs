//! Expected values beside measured ones, and tries of an experiment.

use std::fmt;

use serde::Serialize;

/// What a measured value should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    AtMost(f64),
    AtLeast(f64),
    /// A theoretical value, and the highest difference in either direction.
    #[serde(untagged)]
    Near {
        value: f64,
        tolerance: f64,
    },
}

impl Expected {
    /// Whether a value is as expected; NaN never is.
    pub fn holds(self, measured: f64) -> bool {
        match self {
            Expected::Near { value, tolerance } => (measured - value).abs() <= tolerance,
            Expected::AtMost(most) => measured <= most,
            Expected::AtLeast(least) => measured >= least,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Expected::Near { value, tolerance: 0.0 } => f.write_str(&number(value)),
            Expected::Near { value, tolerance } => write!(f, "{} ± {}", number(value), number(tolerance)),
            Expected::AtMost(most) => write!(f, "≤ {}", number(most)),
            Expected::AtLeast(least) => write!(f, "≥ {}", number(least)),
        }
    }
}

/// One value: expected and measured, both in `unit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub what: String,
    /// The unit of both values; empty for a plain number.
    pub unit: &'static str,
    pub expected: Expected,
    pub measured: f64,
}

impl Row {
    /// Whether the value is as expected.
    pub fn holds(&self) -> bool {
        self.expected.holds(self.measured)
    }
}

/// One try of an experiment: its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub name: String,
    pub rows: Vec<Row>,
}

impl Case {
    /// Whether all its values are as expected; a case without values shows nothing, and does not hold.
    pub fn holds(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::holds)
    }

    /// Repeats an experiment until it holds, at most `most` times and at least once.
    ///
    /// A pause of the machine spoils one try now and then; a wrong instrument spoils them all. So only the latter fails, and
    /// the spoiled tries are reported, too.
    ///
    /// # Errors
    /// The first error of the experiment ends the tries.
    pub fn tries<E>(most: usize, mut experiment: impl FnMut() -> Result<Case, E>) -> Result<Tries, E> {
        let mut tries = vec![experiment()?];
        while tries.len() < most && !tries.last().is_some_and(Case::holds) {
            tries.push(experiment()?);
        }
        Ok(Tries(tries))
    }
}

/// An experiment's tries, at least one: all but the last were off.
#[derive(Clone, Debug, PartialEq)]
pub struct Tries(Vec<Case>);

impl Tries {
    /// Whether the last try holds.
    pub fn holds(&self) -> bool {
        self.0.last().is_some_and(Case::holds)
    }

    /// The tries, in order.
    pub fn as_slice(&self) -> &[Case] {
        &self.0
    }
}

/// A number with at most three decimals.
pub fn number(value: f64) -> String {
    ((value * 1000.0).round() / 1000.0).to_string()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn row(what: &str, value: f64, tolerance: f64, measured: f64) -> Row {
        Row { what: what.into(), unit: "ms", expected: Expected::Near { value, tolerance }, measured }
    }

    fn case(measured_ms: &[f64]) -> Case {
        let rows = measured_ms.iter().map(|&measured_ms| row("p99", 90.0, 1.0, measured_ms)).collect();
        Case { name: "freeze".into(), rows }
    }

    fn tried(most: usize, measured_ms: &[f64]) -> Tries {
        let mut measured = measured_ms.iter();
        Case::tries(most, || Ok::<_, Infallible>(case(&[*measured.next().unwrap()]))).unwrap()
    }

    #[test]
    fn a_value_holds_within_its_bounds_and_nan_never() {
        let near = Expected::Near { value: 90.0, tolerance: 1.5 };
        assert_eq!([88.4, 88.5, 91.5, 91.6].map(|ms| near.holds(ms)), [false, true, true, false]);
        assert_eq!([9.0, 9.1].map(|ms| Expected::AtMost(9.0).holds(ms)), [true, false]);
        assert_eq!([9.0, 8.9].map(|ms| Expected::AtLeast(9.0).holds(ms)), [true, false]);
        for expected in [near, Expected::AtMost(9.0), Expected::AtLeast(9.0)] {
            assert!(!expected.holds(f64::NAN));
        }
    }

    #[test]
    fn a_case_holds_with_all_its_values_and_not_without_values() {
        assert!(case(&[90.0, 91.0]).holds());
        assert!(!case(&[90.0, 92.0]).holds());
        assert!(!case(&[]).holds());
    }

    #[test]
    fn tries_end_when_one_holds_and_all_are_kept() {
        let second = tried(3, &[50.0, 90.5, 90.0]);
        assert!(second.holds());
        assert_eq!(second.as_slice(), [case(&[50.0]), case(&[90.5])]);
        assert_eq!(tried(3, &[90.0, 50.0]).as_slice().len(), 1);
    }

    #[test]
    fn an_experiment_fails_only_if_every_try_is_off() {
        let off = tried(3, &[50.0, 51.0, 52.0, 90.0]);
        assert!(!off.holds());
        assert_eq!(off.as_slice().len(), 3);
        assert_eq!(tried(0, &[50.0]).as_slice().len(), 1);
    }

    #[test]
    fn an_error_ends_the_tries() {
        let mut times = 0;
        let failed = Case::tries(3, || {
            times += 1;
            if times == 2 { Err("no server") } else { Ok(case(&[50.0])) }
        });
        assert_eq!((failed, times), (Err("no server"), 2));
    }
}
