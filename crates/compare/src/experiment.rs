//! The experiments: each a question, an axis, a load, and what the textbook expects.

/// What is compared, as data.
#[derive(Debug)]
pub struct Experiment {
    /// Its name in files and tables.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// What the textbook answers.
    pub expectation: &'static str,
    /// What its points count.
    pub axis: &'static str,
    /// Where on the axis it measures.
    pub points: &'static [usize],
    /// The load at a point.
    pub load: fn(usize) -> Load,
}

/// How many connections there are, and how many of them speak.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections with one request in flight at all times.
    pub active: usize,
    /// Connections that are open and silent.
    pub idle: usize,
}

/// Every experiment, in the order in which the results show them.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "scaling",
        question: "How do throughput and latency change with the number of connections, all of them active?",
        expectation: "One at a time serves one; a loop over readiness serves all; threads pay for their switches.",
        axis: "active connections",
        points: &[1, 8, 64, 512],
        load: |active| Load { active, idle: 0 },
    },
    Experiment {
        name: "idle",
        question: "What do silent connections cost the ten that speak?",
        expectation: "poll looks at every descriptor on every wait and slows down; epoll and threads do not.",
        axis: "idle connections beside 10 active ones",
        points: &[0, 1000, 5000],
        load: |idle| Load { active: 10, idle },
    },
];
