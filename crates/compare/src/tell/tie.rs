//! How large the noise is at a point, and whether it explains a tie.

use crate::{stats::summary::Field, tell::text::ratio};

/// A difference that noise alone can make: `±3 %`, `a factor of 37`.
pub fn noise(smallest_detectable: f64) -> String {
    if smallest_detectable < 2.0 {
        format!("±{:.0} %", (smallest_detectable - 1.0) * 100.0)
    } else {
        format!("a factor of {}", ratio(smallest_detectable))
    }
}

/// The noise where it is larger than the difference between best and worst; `None` where the rounds vary too much instead.
pub fn noise_of_tie(field: &Field) -> Option<String> {
    let (smallest_detectable, spread) = (field.smallest_detectable?, field.slowest_to_fastest?.median);
    (spread < smallest_detectable).then(|| noise(smallest_detectable))
}
