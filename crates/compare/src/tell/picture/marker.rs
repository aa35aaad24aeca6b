//! The shape of each server's marks.

use std::f64::consts::TAU;

use plotters::prelude::{Circle, PathElement, Polygon};

use super::{
    canvas::{self, Sheet, at, filled, length, line},
    palette::{self, Paint},
};

/// How far a mark goes from its middle.
pub const RADIUS: f64 = 4.5;

/// The mark of the server in this slot by itself, in the colour of the words around it.
pub fn glyph(slot: usize) -> String {
    let middle = RADIUS * 1.5;
    let shapes = canvas::shapes(|sheet| draw(sheet, slot, (middle, middle), Paint::Server));
    let size = 20.0 * middle;
    format!("<svg viewBox=\"0 0 {size} {size}\" fill=\"currentColor\" aria-hidden=\"true\">{shapes}</svg>")
}

/// Draws the mark of the server in this slot.
pub fn draw(sheet: &Sheet, slot: usize, middle: (f64, f64), inside: Paint) {
    let drawn = match palette::slot(slot) {
        0 => sheet.draw(&Circle::new(at(middle), length(RADIUS * 0.9), filled(inside))),
        1 => sheet.draw(&polygon(middle, 4, 0.125, [1.15; 2], inside)),
        2 => sheet.draw(&polygon(middle, 3, 0.0, [1.25; 2], inside)),
        3 => sheet.draw(&polygon(middle, 4, 0.0, [1.2; 2], inside)),
        4 => sheet.draw(&polygon(middle, 3, 0.5, [1.25; 2], inside)),
        5 => sheet.draw(&polygon(middle, 5, 0.0, [1.1; 2], inside)),
        6 => sheet.draw(&polygon(middle, 10, 0.0, [1.4, 0.6], inside)),
        _ => sheet.draw(&polygon(middle, 8, 0.0, [1.4, 0.45], inside)),
    };
    drawn.expect("memory takes all shapes");
}

/// Draws what stands for a mark where that would promise too much.
pub fn cross(sheet: &Sheet, (x, y): (f64, f64)) {
    let arm = RADIUS * 0.85;
    for slope in [-1.0, 1.0] {
        let ends = [at((x - arm, y - slope * arm)), at((x + arm, y + slope * arm))];
        sheet.draw(&PathElement::new(ends, line(Paint::Server, 2.0))).expect("memory takes all shapes");
    }
}

/// A regular polygon, the first corner so much of a turn from the top; corners lie by turns so many radii from the middle.
fn polygon((x, y): (f64, f64), corners: usize, turn: f64, radii: [f64; 2], inside: Paint) -> Polygon<(i32, i32)> {
    let corner = |index: usize| {
        let angle = TAU * (index as f64 / corners as f64 + turn);
        let radius = RADIUS * radii[index % 2];
        at((x + radius * angle.sin(), y - radius * angle.cos()))
    };
    Polygon::new((0..corners).map(corner).collect::<Vec<_>>(), filled(inside))
}
