//! The counters that a built-in server writes as JSON when it stops (`--stats -`).

use serde::{Deserialize, Serialize};

/// What a server counted in its whole life, and what its process cost. A field that a server does not write is an error, unless
/// it has a default; fields that are not here are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields have the names and meanings of echo-server's report")]
pub struct Counters {
    pub model: String,
    #[serde(default)]
    pub connections_accepted: u64,
    #[serde(default)]
    pub connections_rejected: u64,
    #[serde(default)]
    pub connections_closed: u64,
    #[serde(default)]
    pub connections_reset: u64,
    #[serde(default)]
    pub connections_timed_out: u64,
    #[serde(default)]
    pub connections_abandoned: u64,
    pub frames: u64,
    #[serde(default)]
    pub bytes_in: u64,
    #[serde(default)]
    pub bytes_out: u64,
    #[serde(default)]
    pub protocol_errors: u64,
    pub waits: u64,
    #[serde(default)]
    pub wakeups: u64,
    pub interest_changes: u64,
    pub accepts: u64,
    pub reads: u64,
    pub writes: u64,
    pub would_block: u64,
    #[serde(default)]
    pub user_cpu_s: f64,
    #[serde(default)]
    pub system_cpu_s: f64,
    #[serde(default)]
    pub voluntary_switches: u64,
    #[serde(default)]
    pub involuntary_switches: u64,
    #[serde(default)]
    pub peak_rss_bytes: u64,
    #[serde(default)]
    pub child_peak_rss_bytes: u64,
    #[serde(default)]
    pub threads: u64,
    #[serde(default)]
    pub processes: u64,
}
