//! Why servers share a rank, for sentences.

use crate::{stats::summary::Field, tell::english::times};

/// Why servers that differ as much as these share a rank.
pub fn why_tied(field: &Field) -> Option<String> {
    let (floor, spread) = (field.told_apart_from?, field.slowest_to_fastest?.median);
    let in_rounds = format!("{} in the median round", times(spread));
    Some(if spread < floor {
        format!("{in_rounds}, and less than {} cannot be told", times(floor))
    } else {
        format!("{in_rounds}, but the rounds differ too much to tell")
    })
}
