//! What pictures are drawn from: plain data.

use hdrhistogram::Histogram;
use models::Look;

/// A percentile needs this many requests beyond it.
pub const BEYOND: u64 = 10;
pub const NS_PER_US: f64 = 1e3;

/// The server that a curve or a row belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Its number in the run, from which its CSS class is made.
    pub index: usize,
    pub name: &'a str,
    pub look: Look,
}

impl Server<'_> {
    /// The CSS class of everything that belongs to it.
    pub fn class(&self) -> String {
        format!("s{}", self.index)
    }
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

/// What runs along an edge.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// With the unit.
    pub title: &'a str,
    pub scale: Scale,
}

/// A server's points along an axis, in its order.
#[derive(Clone, Debug)]
pub struct Curve<'a> {
    pub server: Server<'a>,
    pub points: Vec<Dot>,
}

/// One measured point.
#[derive(Clone, Debug)]
pub struct Dot {
    pub x: f64,
    /// `None` after a failure or with too few requests: drawn as a cross on the axis.
    pub value: Option<Value>,
    pub tooltip: String,
}

/// What was measured at a point.
#[derive(Clone, Debug)]
pub struct Value {
    pub y: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<(f64, f64)>,
    pub kind: ValueKind,
}

/// What limits a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Nothing but the server: drawn as a filled mark.
    Measured,
    /// The generator, or the rate that was requested: drawn as a hollow mark.
    LimitedElsewhere,
    /// It covers only the clients that were served: drawn as a cross.
    Unserved,
}

/// Latencies of a server's requests.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    pub server: Server<'a>,
    pub latency_ns: &'a Histogram<u64>,
}

/// A server's total, and the parts that it is made up of.
#[derive(Clone, Debug)]
pub struct Bar<'a> {
    pub server: Server<'a>,
    /// One for each kind, in their order.
    pub parts: Vec<f64>,
    pub tooltip: String,
}
