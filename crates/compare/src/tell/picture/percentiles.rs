//! Latency percentiles, on HdrHistogram's axis: each step to the right is ten times rarer.

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use plotters::prelude::PathElement;

use super::{
    axis::Ruler,
    canvas::{self, at, line},
    data::{BEYOND, Distribution, NS_PER_US, Scale, Server},
    frame::{self, Frame},
    label::micros,
    marker,
    palette::Paint,
};

/// How many steps are looked at along a curve.
const STEPS: u32 = 300;
/// How far a drawn curve may be off, in units: what is invisible is left out.
const TOLERANCE: f64 = 0.3;
/// Shares that have a mark where enough requests lie beyond: as text, and in tenths of a percent.
const MARKED: [(&str, u32); 4] = [("50 %", 500), ("90 %", 900), ("99 %", 990), ("99.9 %", 999)];
/// The end of an empty axis.
const EMPTY_END: f64 = 2.0;
/// Free space at the right end of the axis, as a share of it.
const FREE: f64 = 0.02;
const FAINT: &str = "class=\"faint\" opacity=\"0.4\"";

/// A picture of these distributions; the part of each beyond which there are fewer than ten requests is faint.
pub fn percentiles(title: &str, scale: Scale, distributions: &[Distribution]) -> String {
    let curves: Vec<Vec<(f64, f64)>> = distributions.iter().map(|one| points(one.latency_ns)).collect();
    let longest = curves.iter().filter_map(|curve| Some(curve.last()?.0)).fold(0.0, f64::max);
    let x = rarity_axis(if longest > 0.0 { longest } else { EMPTY_END });
    let y = Ruler::of_values(scale, curves.iter().flatten().map(|&(_, us)| us));
    let note = if curves.iter().all(Vec::is_empty) { "" } else { "faint: fewer than ten requests took longer" };
    let frame = Frame::new(distributions.iter().map(|one| frame::entry_width(&one.server)), !note.is_empty());
    let mut groups = frame.drawn(title, ("share of requests", &x), ("answered within, µs", &y), note);
    for (index, (one, points)) in distributions.iter().zip(&curves).enumerate() {
        let place = |(rarity, us): (f64, f64)| frame.place(x.nearest(rarity), y.nearest(us));
        let sure = sure_until(one.latency_ns);
        let content = [
            frame::entry(&one.server, frame.legend(index)),
            drawn(points.iter().filter(|point| point.0 <= sure).map(|&point| place(point))),
            canvas::group(FAINT, &drawn(points.iter().filter(|point| point.0 >= sure).map(|&point| place(point)))),
            marks(&one.server, one.latency_ns, place),
        ];
        groups += &canvas::server_group(&one.server, &content.concat());
    }
    canvas::picture(title, frame.height(), &groups)
}

/// An axis of rarities: the logarithms to base 10 of 1/(1-share).
fn rarity_axis(end: f64) -> Ruler {
    let nines = (2..=end.ceil() as i32).map(|rarity| (f64::from(rarity), share_label(rarity)));
    let ticks = [(2_f64.log10(), "50 %".into()), (1.0, "90 %".into())].into_iter().chain(nines);
    Ruler::of_ticks((0.0, end / (1.0 - FREE)), ticks, frame::label_width)
}

/// All but one in so many powers of ten: 99 %, 99.9 % ...
fn share_label(rarity: i32) -> String {
    let nines = "9".repeat((rarity - 2).max(0) as usize);
    if nines.is_empty() { "99 %".into() } else { format!("99.{nines} %") }
}

/// Rarities, each with the time in microseconds within which all but so rare requests were answered; the last is the slowest request.
fn points(latency_ns: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency_ns.is_empty() {
        return Vec::new();
    }
    let requests = latency_ns.len() as f64;
    let end = requests.log10();
    let mut rarities: Vec<f64> = (0..=STEPS).map(|step| end * f64::from(step) / f64::from(STEPS)).collect();
    rarities.extend(Some(sure_until(latency_ns)).filter(|&sure| sure > 0.0));
    rarities.sort_by(f64::total_cmp);
    let recorded = up_to_each_value(latency_ns);
    let us_at = |rarity: f64| {
        let answered = requests - requests * 10_f64.powf(-rarity);
        let index = recorded.partition_point(|&(count, _)| (count as f64) < answered);
        recorded[index.min(recorded.len() - 1)].1 as f64 / NS_PER_US
    };
    let mut points: Vec<(f64, f64)> = rarities.into_iter().map(|rarity| (rarity, us_at(rarity))).collect();
    points.last_mut().expect("there are steps").1 = latency_ns.max() as f64 / NS_PER_US;
    points
}

/// How many requests took no longer than each value that was recorded.
fn up_to_each_value(latency_ns: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = latency_ns.iter_recorded().scan(0, |count, value| {
        *count += value.count_at_value();
        Some((*count, value.value_iterated_to().min(latency_ns.max())))
    });
    recorded.collect()
}

/// The rarity beyond which there are too few requests.
fn sure_until(latency_ns: &Histogram<u64>) -> f64 {
    (latency_ns.len() as f64 / BEYOND as f64).log10()
}

/// The same line through fewer points: those of Ramer, Douglas and Peucker.
fn simplified(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let &[first, .., last] = line else { return line.to_vec() };
    let height_at = |x: f64| first.1 + (last.1 - first.1) * (x - first.0) / (last.0 - first.0).max(f64::EPSILON);
    let off = |index: &usize| (line[*index].1 - height_at(line[*index].0)).abs();
    match (1..line.len() - 1).max_by(|one, other| off(one).total_cmp(&off(other))).filter(|index| off(index) > TOLERANCE) {
        Some(index) => {
            let mut kept = simplified(&line[..=index]);
            kept.pop();
            kept.extend(simplified(&line[index..]));
            kept
        }
        None => vec![first, last],
    }
}

fn drawn(places: impl Iterator<Item = (f64, f64)>) -> String {
    let places: Vec<_> = simplified(&places.collect::<Vec<_>>()).into_iter().map(at).collect();
    if places.len() < 2 {
        return String::new();
    }
    canvas::shapes(|sheet| {
        sheet.draw(&PathElement::new(places, line(Paint::Server, 1.8))).expect("memory takes all shapes");
    })
}

fn marks(server: &Server, latency_ns: &Histogram<u64>, place: impl Fn((f64, f64)) -> (f64, f64)) -> String {
    let requests = latency_ns.len();
    let mark = |(share, permille): (&str, u32)| {
        let beyond = u128::from(requests) * u128::from(1000 - permille);
        if beyond < 1000 * u128::from(BEYOND) {
            return String::new();
        }
        let quantile = f64::from(permille) / 1000.0;
        let ns = latency_ns.value_at_quantile(quantile).min(latency_ns.max());
        let us = ns as f64 / NS_PER_US;
        let middle = place((-(1.0 - quantile).log10(), us));
        let requests = HumanCount(requests);
        let tooltip = format!("{}: {share} of {requests} requests within {}", server.name, micros(ns));
        let data = format!("data-x=\"{quantile}\" data-y=\"{us}\"");
        let shapes = canvas::shapes(|sheet| marker::draw(sheet, server.look.mark, middle, Paint::Server));
        canvas::mark(server, "full", &data, &tooltip, &shapes)
    };
    MARKED.into_iter().map(mark).collect()
}
