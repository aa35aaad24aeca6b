//! The pictures of a report: SVG that stands by itself, from plain data.
//!
//! plotters draws the shapes. Pictures that are there without scripts, print, and can be sent are what a report is for, and a page can
//! make these answer the pointer with little code; a charting library for browsers would be larger than the whole page, and draw
//! them a second time.

mod axis;
mod bars;
mod canvas;
mod curves;
mod frame;
mod heat;
mod label;
mod marker;
mod palette;
mod percentiles;
#[cfg(test)]
mod tests;

use hdrhistogram::Histogram;

pub use bars::bars;
pub use curves::curves;
pub use heat::heat;
pub use marker::glyph;
pub use palette::CSS;
pub use percentiles::percentiles;

/// A percentile needs this many requests beyond it.
const BEYOND: u64 = 10;
const NS_PER_US: f64 = 1e3;

/// Whose a curve or a row is.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Which colour and shape are its own: 0 to 4 are the built-in models', from 5 on are for those brought along.
    pub slot: usize,
    pub name: &'a str,
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
    /// `None` where there is none, as of one that failed or had too few requests: a cross on the axis, that says why.
    pub value: Option<Value>,
    /// What is shown to whoever points at it.
    pub says: String,
}

/// What was measured at a point.
#[derive(Clone, Debug)]
pub struct Value {
    pub y: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<(f64, f64)>,
    pub mark: Mark,
}

/// How far a value can be believed to be the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is.
    Full,
    /// Something else was the limit: the generator, or the rate that was asked for.
    Hollow,
    /// It is that of the clients that were served; others were not.
    Unserved,
}

/// Latencies of a server's requests.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    pub server: Server<'a>,
    pub latency_ns: &'a Histogram<u64>,
}

/// What something is made up of, of one server.
#[derive(Clone, Debug)]
pub struct Bar<'a> {
    pub server: Server<'a>,
    /// One for each kind, in their order.
    pub parts: Vec<f64>,
    /// What is shown to whoever points at it.
    pub says: String,
}

/// The same picture as a file of its own, with its colours and its paper.
pub fn standalone(svg: &str) -> String {
    let (root, content) = svg.split_once('>').expect("a picture begins with its root");
    let paper = format!("<rect width=\"100%\" height=\"100%\" {}/>", palette::Paint::Paper.fill());
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{root}><style>{CSS}</style>{paper}{content}")
}
