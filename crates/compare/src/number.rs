//! Numbers out of the reports of others.

use serde_json::Value;

/// The number in a report of the generator or a server, by its JSON pointer.
pub fn number(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}
