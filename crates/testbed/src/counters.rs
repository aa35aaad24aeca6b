//! The counters that a built-in server writes as JSON when it stops (`--stats -`).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a server counted in its whole life, and what its process cost. As files of earlier versions may hold fewer counters,
/// deserializing sets those that are missing to 0; what a server writes now is read by [`Counters::parse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields have the names and meanings of echo-server's report")]
pub struct Counters {
    pub model: String,
    pub connections_accepted: u64,
    pub connections_rejected: u64,
    pub connections_closed: u64,
    pub connections_reset: u64,
    pub connections_timed_out: u64,
    pub connections_abandoned: u64,
    pub frames: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub protocol_errors: u64,
    pub waits: u64,
    pub wakeups: u64,
    pub interest_changes: u64,
    pub submissions: u64,
    pub completions: u64,
    pub enters: u64,
    pub overflows: u64,
    pub accepts: u64,
    pub reads: u64,
    pub writes: u64,
    pub would_block: u64,
    pub user_cpu_s: f64,
    pub system_cpu_s: f64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub peak_rss_bytes: u64,
    pub child_peak_rss_bytes: u64,
    pub threads: u64,
    pub processes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted_per_worker: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers_died: Option<u64>,
}

impl Counters {
    /// Reads what a server wrote. A missing counter is an error; further ones are ignored.
    pub fn parse(json: &str) -> Result<Counters> {
        let written: Value = serde_json::from_str(json)?;
        let counters = Counters::deserialize(&written)?;
        let all = serde_json::to_value(&counters)?;
        for name in all.as_object().into_iter().flat_map(|all| all.keys()) {
            ensure!(written.get(name).is_some(), "the counter {name} is missing");
        }
        Ok(counters)
    }
}
