//! Stand-ins for pictures that are not drawn yet.

use hdrhistogram::Histogram;

use super::{Scale, Server, canvas};

pub struct Distribution<'a> {
    pub server: Server<'a>,
    pub latency_ns: &'a Histogram<u64>,
}
pub struct Bar<'a> {
    pub server: Server<'a>,
    pub parts: Vec<f64>,
    pub says: String,
}

pub fn percentiles(title: &str, _scale: Scale, distributions: &[Distribution]) -> String {
    canvas::picture(
        title,
        300.0,
        &format!(
            "<!-- {} -->",
            distributions.iter().map(|one| one.latency_ns.len().to_string() + one.server.name).collect::<String>().len()
        ),
    )
}

pub fn heat(title: &str, _server: &Server, _columns: &[Histogram<u64>], _range_ns: (u64, u64)) -> String {
    canvas::picture(title, 300.0, "")
}

pub fn bars(title: &str, _unit: &str, _kinds: &[&str], bars: &[Bar]) -> String {
    canvas::picture(
        title,
        300.0,
        &format!("<!-- {} -->", bars.iter().map(|one| one.parts.len() + one.says.len() + one.server.slot).sum::<usize>()),
    )
}
