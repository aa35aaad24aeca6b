//! Values over an axis: a curve per server, each point with its interval.

use plotters::prelude::PathElement;

use super::{
    axis::Ruler,
    canvas::{self, Sheet, at, line},
    data::{Axis, Curve, Dot, Server, ValueKind},
    frame::{self, Frame},
    marker::{self, RADIUS},
    palette::Paint,
};

/// How far apart points at the same place are drawn, at most.
const DODGE: f64 = 5.0;
/// A line to a point that does not cover all clients.
const DASHED: &str = "class=\"dashed\" stroke-dasharray=\"45 40\"";
/// The outline of a mark that is not filled.
const HOLLOW: &str = "stroke=\"currentColor\" stroke-width=\"18\"";

/// A picture of these curves.
pub fn curves(title: &str, x: &Axis, y: &Axis, curves: &[Curve]) -> String {
    let dots = || curves.iter().flat_map(|curve| &curve.points);
    let x_ruler = Ruler::of_points(x.scale, dots().map(|dot| dot.x), frame::label_width);
    let values = dots().filter_map(|dot| dot.value.as_ref());
    let ends = values.flat_map(|value| [Some(value.y), value.interval.map(|ends| ends.0), value.interval.map(|ends| ends.1)]);
    let y_ruler = Ruler::of_values(y.scale, ends.flatten());
    let note = note(curves, &y_ruler);
    let frame = Frame::new(curves.iter().map(|curve| frame::entry_width(&curve.server)), !note.is_empty());
    let mut groups = frame.drawn(title, (x.title, &x_ruler), (y.title, &y_ruler), &note);
    let apart = apart(&x_ruler, &frame, curves.len());
    for (index, curve) in curves.iter().enumerate() {
        let dodged = (index as f64 - (curves.len() - 1) as f64 / 2.0) * apart;
        let drawing = Drawing { frame: &frame, x: &x_ruler, y: &y_ruler, dodged };
        let content = [frame::entry(&curve.server, frame.legend(index)), drawing.lines(curve), drawing.marks(curve)].concat();
        groups += &canvas::server_group(&curve.server, &content);
    }
    canvas::picture(title, frame.height(), &groups)
}

/// How to read the marks that are not filled.
fn note(curves: &[Curve], y: &Ruler) -> String {
    let has = |is: &dyn Fn(&Dot) -> bool| curves.iter().flat_map(|curve| &curve.points).any(is);
    let marked = |kind| has(&|dot| dot.value.as_ref().is_some_and(|value| value.kind == kind && y.place(value.y).is_some()));
    let notes = [
        (marked(ValueKind::LimitedElsewhere), "hollow: limited elsewhere"),
        (marked(ValueKind::Unserved), "×: clients unserved"),
        (has(&|dot| dot.value.is_none()), "× on axis: no value"),
    ];
    notes.into_iter().filter(|(is_there, _)| *is_there).map(|(_, note)| note).collect::<Vec<_>>().join(" · ")
}

/// How far apart servers' points at one place are: never nearer to the next place's, nor beyond the ends of the axis.
fn apart(x: &Ruler, frame: &Frame, servers: usize) -> f64 {
    let place = |x: f64| frame.place(x, 0.0).0;
    let places: Vec<f64> = x.ticks.iter().map(|(x, _)| place(*x)).collect();
    let nearest = places.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let to_end = places.iter().map(|x| (x - place(0.0)).min(place(1.0) - x)).fold(f64::INFINITY, f64::min);
    (0.7 * nearest / servers as f64).min((to_end - RADIUS) * 2.0 / servers as f64).min(DODGE)
}

/// Where a server's shapes go.
struct Drawing<'a> {
    frame: &'a Frame,
    x: &'a Ruler,
    y: &'a Ruler,
    /// How far it is moved sideways, so that servers' intervals do not hide each other.
    dodged: f64,
}

impl Drawing<'_> {
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let (x, y) = self.frame.place(self.x.nearest(x), y);
        (x + self.dodged, y)
    }

    /// Where a point's value is; `None` where there is none, or none that the axis has a place for.
    fn place_of(&self, dot: &Dot) -> Option<(f64, f64)> {
        let value = dot.value.as_ref()?;
        Some(self.place(dot.x, self.y.place(value.y)?))
    }

    /// Lines from each point to the next, if both have a value.
    fn lines(&self, curve: &Curve) -> String {
        let is_partial = |dot: &Dot| dot.value.as_ref().is_some_and(|value| value.kind == ValueKind::Unserved);
        let (mut solid, mut dashed): (Vec<Vec<_>>, Vec<Vec<_>>) = Default::default();
        for pair in curve.points.windows(2) {
            let (Some(from), Some(to)) = (self.place_of(&pair[0]), self.place_of(&pair[1])) else { continue };
            let lines = if pair.iter().any(is_partial) { &mut dashed } else { &mut solid };
            match lines.last_mut() {
                Some(line) if line.last() == Some(&from) => line.push(to),
                _ => lines.push(vec![from, to]),
            }
        }
        [draw_lines(solid), canvas::group(DASHED, &draw_lines(dashed))].concat()
    }

    fn marks(&self, curve: &Curve) -> String {
        curve.points.iter().map(|dot| self.mark(&curve.server, dot)).collect()
    }

    fn mark(&self, server: &Server, dot: &Dot) -> String {
        let place = self.place_of(dot);
        let bottom = self.place(dot.x, 0.0);
        let Some(value) = &dot.value else {
            let data = format!("data-x=\"{}\"", dot.x);
            let shapes = canvas::shapes(|sheet| marker::cross(sheet, bottom));
            return canvas::mark(server, "missing", &data, &dot.tooltip, &shapes);
        };
        let data = format!("data-x=\"{}\" data-y=\"{}\"", dot.x, value.y);
        let tooltip = if place.is_some() { dot.tooltip.clone() } else { format!("{} (not on this axis)", dot.tooltip) };
        let shapes = canvas::shapes(|sheet| {
            if let Some(ends) = value.interval.filter(|(low, high)| !low.is_nan() && !high.is_nan()) {
                self.draw_interval(sheet, dot.x, ends);
            }
            match value.kind {
                ValueKind::Measured => marker::draw(sheet, server.look.mark, place.unwrap_or(bottom), Paint::Server),
                ValueKind::LimitedElsewhere => marker::draw(sheet, server.look.mark, place.unwrap_or(bottom), Paint::Paper),
                ValueKind::Unserved => marker::cross(sheet, place.unwrap_or(bottom)),
            }
        });
        let (kind, attributes) = match value.kind {
            ValueKind::Measured => ("full", ""),
            ValueKind::LimitedElsewhere => ("hollow", HOLLOW),
            ValueKind::Unserved => ("unserved", ""),
        };
        canvas::mark(server, kind, &format!("{data} {attributes}"), &tooltip, &shapes)
    }

    fn draw_interval(&self, sheet: &Sheet, x: f64, (low, high): (f64, f64)) {
        let ends = [low, high].map(|end| at(self.place(x, self.y.nearest(end))));
        sheet.draw(&PathElement::new(ends, line(Paint::Server, 1.4))).expect("memory takes all shapes");
    }
}

fn draw_lines(lines: Vec<Vec<(f64, f64)>>) -> String {
    canvas::shapes(|sheet| {
        for points in lines {
            let points: Vec<_> = points.into_iter().map(at).collect();
            sheet.draw(&PathElement::new(points, line(Paint::Server, 1.8))).expect("memory takes all shapes");
        }
    })
}
