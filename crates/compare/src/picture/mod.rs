//! A stand-in for the pictures, until they are drawn.
#![allow(dead_code, missing_docs)]

use hdrhistogram::Histogram;

#[derive(Clone, Copy)]
pub struct Server<'a> {
    pub slot: usize,
    pub name: &'a str,
}
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Linear,
    Log,
}
pub struct Axis<'a> {
    pub title: &'a str,
    pub scale: Scale,
}
pub struct Curve<'a> {
    pub server: Server<'a>,
    pub points: Vec<Dot>,
}
pub struct Dot {
    pub x: f64,
    pub value: Option<Value>,
    pub says: String,
}
pub struct Value {
    pub y: f64,
    pub interval: Option<(f64, f64)>,
    pub mark: Mark,
}
#[derive(Clone, Copy, PartialEq)]
pub enum Mark {
    Full,
    Hollow,
    Unserved,
}
pub struct Distribution<'a> {
    pub server: Server<'a>,
    pub latency_ns: &'a Histogram<u64>,
}
pub struct Bar<'a> {
    pub server: Server<'a>,
    pub parts: Vec<f64>,
    pub says: String,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn svg(title: &str, body: String) -> String {
    let title = escaped(title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 300" role="img" aria-label="{title}"><title>{title}</title><text x="8" y="18" font-size="13" font-weight="bold" fill="var(--ink,#222)">{title}</text>{body}</svg>"#
    )
}

fn group(server: &Server, body: String) -> String {
    format!(r#"<g class="server s{}" data-server="{}">{body}</g>"#, server.slot, escaped(server.name))
}

pub fn curves(title: &str, x: &Axis, y: &Axis, curves: &[Curve]) -> String {
    let place = |axis: &Axis, value: f64| if axis.scale == Scale::Log { value.max(0.1).ln() } else { value };
    let dots = || curves.iter().flat_map(|curve| &curve.points);
    let (x0, x1) = dots().fold((f64::MAX, f64::MIN), |(a, b), dot| (a.min(place(x, dot.x)), b.max(place(x, dot.x))));
    let ys = || dots().filter_map(|dot| dot.value.as_ref()).map(|value| place(y, value.y));
    let (y0, y1) = ys().fold((f64::MAX, f64::MIN), |(a, b), y| (a.min(y), b.max(y)));
    let body = curves.iter().map(|curve| {
        let marks = curve.points.iter().map(|dot| {
            let value = dot.value.as_ref().map_or(y0, |value| place(y, value.y));
            let (px, py) = (50.0 + 370.0 * (place(x, dot.x) - x0) / (x1 - x0), 270.0 - 220.0 * (value - y0) / (y1 - y0));
            let title = escaped(&dot.says);
            let y = dot.value.as_ref().map_or(String::new(), |value| value.y.to_string());
            format!(r#"<g class="mark" data-server="{}" data-x="{}" data-y="{y}"><title>{title}</title><circle cx="{px:.1}" cy="{py:.1}" r="4" fill="currentColor"/></g>"#, escaped(curve.server.name), dot.x)
        });
        group(&curve.server, marks.collect())
    });
    svg(title, body.collect())
}

pub fn percentiles(title: &str, _scale: Scale, distributions: &[Distribution]) -> String {
    svg(title, distributions.iter().map(|one| group(&one.server, String::new())).collect())
}

pub fn heat(title: &str, server: &Server, _columns: &[Histogram<u64>], _range_ns: (u64, u64)) -> String {
    svg(title, group(server, String::new()))
}

pub fn bars(title: &str, _unit: &str, _kinds: &[&str], bars: &[Bar]) -> String {
    svg(title, bars.iter().map(|one| group(&one.server, String::new())).collect())
}

pub fn glyph(_slot: usize) -> String {
    r#"<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="5" fill="currentColor"/></svg>"#.into()
}
