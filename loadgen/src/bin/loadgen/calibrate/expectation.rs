//! What was expected beside what was measured.

use std::fmt;

/// What a measured value has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// This, give or take.
    Near {
        /// What the theory says.
        value: f64,
        /// How far off either way still holds.
        tolerance: f64,
    },
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Expected {
    /// Whether a value is what was expected; not a number is never.
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

/// One value: what it should be and what it was, both in `unit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured, in words.
    pub what: String,
    /// The unit of both values; empty for a plain number.
    pub unit: &'static str,
    /// What it should be.
    pub expected: Expected,
    /// What it was.
    pub measured: f64,
}

impl Row {
    /// Whether the value is what it should be.
    pub fn holds(&self) -> bool {
        self.expected.holds(self.measured)
    }
}

/// One experiment done once: the values that it gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The experiment's name.
    pub name: String,
    /// Its values.
    pub rows: Vec<Row>,
}

impl Case {
    /// Whether all its values are what they should be; a case without values shows nothing, and does not hold.
    pub fn holds(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::holds)
    }

    /// Does an experiment until it holds, `most` times at most and once at least.
    ///
    /// A machine that stumbles spoils a try now and then; an instrument that is wrong spoils them all. So only the latter
    /// fails, and the tries that were spoiled are kept for all to see.
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

/// One experiment and all its tries, never none: each but the last was off.
#[derive(Clone, Debug, PartialEq)]
pub struct Tries(Vec<Case>);

impl Tries {
    /// Whether the last try holds.
    pub fn holds(&self) -> bool {
        self.0.last().is_some_and(Case::holds)
    }

    /// The tries, in the order in which they were made.
    pub fn as_slice(&self) -> &[Case] {
        &self.0
    }
}

/// A number to read: three decimals, and no more of them than it has.
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
    fn a_value_holds_up_to_its_bounds_and_nan_never() {
        let near = Expected::Near { value: 90.0, tolerance: 1.5 };
        assert_eq!([88.4, 88.5, 91.5, 91.6].map(|ms| near.holds(ms)), [false, true, true, false]);
        assert_eq!([9.0, 9.1].map(|ms| Expected::AtMost(9.0).holds(ms)), [true, false]);
        assert_eq!([9.0, 8.9].map(|ms| Expected::AtLeast(9.0).holds(ms)), [true, false]);
        for expected in [near, Expected::AtMost(9.0), Expected::AtLeast(9.0)] {
            assert!(!expected.holds(f64::NAN));
        }
    }

    #[test]
    fn a_case_holds_with_all_its_values_and_not_without_any() {
        assert!(case(&[90.0, 91.0]).holds());
        assert!(!case(&[90.0, 92.0]).holds());
        assert!(!case(&[]).holds());
    }

    #[test]
    fn it_is_tried_until_it_holds_and_every_try_is_kept() {
        let second = tried(3, &[50.0, 90.5, 90.0]);
        assert!(second.holds());
        assert_eq!(second.as_slice(), [case(&[50.0]), case(&[90.5])]);
        assert_eq!(tried(3, &[90.0, 50.0]).as_slice().len(), 1);
    }

    #[test]
    fn it_fails_only_when_every_try_is_off() {
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
