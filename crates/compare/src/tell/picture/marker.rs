//! The marks of servers: by themselves, in a picture, and before a name.

use std::f64::consts::{PI, TAU};

use models::Mark;
use plotters::{
    prelude::{Circle, PathElement, Polygon},
    style::text_anchor::HPos,
};

use super::{
    canvas::{self, FONT, Sheet, at, filled, length, line, regular, write},
    data::Server,
    palette::Paint,
};

/// How far a mark goes from its middle.
pub const RADIUS: f64 = 4.5;

/// A server's mark by itself, in the colour of the text around it.
pub fn glyph(server: &Server) -> String {
    let middle = RADIUS * 1.5;
    let shapes = canvas::shapes(|sheet| draw(sheet, server.look.mark, (middle, middle), Paint::Server));
    let size = 20.0 * middle;
    format!("<svg viewBox=\"0 0 {size} {size}\" fill=\"currentColor\" aria-hidden=\"true\">{shapes}</svg>")
}

/// Draws a mark.
pub fn draw(sheet: &Sheet, mark: Mark, (x, y): (f64, f64), inside: Paint) {
    let corners = match mark {
        Mark::Circle => {
            sheet.draw(&Circle::new(at((x, y)), length(RADIUS * 0.9), filled(inside))).expect("memory takes all shapes");
            return;
        }
        Mark::Square => star(4, 0.125, [1.15; 2]),
        Mark::Triangle => star(3, 0.0, [1.25; 2]),
        Mark::Diamond => star(4, 0.0, [1.2; 2]),
        Mark::TriangleDown => star(3, 0.5, [1.25; 2]),
        Mark::Pentagon => star(5, 0.0, [1.1; 2]),
        Mark::Hexagon => star(6, 0.0, [1.1; 2]),
        Mark::FivePointStar => star(10, 0.0, [1.4, 0.6]),
        Mark::FourPointStar => star(8, 0.0, [1.4, 0.45]),
        Mark::TriangleRight => vec![(-1.0, -1.15), (1.0, 0.0), (-1.0, 1.15)],
        Mark::TriangleLeft => vec![(1.0, -1.15), (-1.0, 0.0), (1.0, 1.15)],
        Mark::Hourglass => vec![(-1.1, -1.1), (1.1, -1.1), (-1.1, 1.1), (1.1, 1.1)],
        Mark::BowTie => vec![(-1.1, -1.1), (-1.1, 1.1), (1.1, -1.1), (1.1, 1.1)],
        Mark::ThreePointStar => star(6, 0.0, [1.5, 0.4]),
        Mark::HalfDisc => {
            (0..=10).map(|step| PI * f64::from(step) / 10.0).map(|a| (-1.2 * a.cos(), 0.6 - 1.2 * a.sin())).collect()
        }
    };
    let corners: Vec<_> = corners.into_iter().map(|(right, down)| at((x + RADIUS * right, y + RADIUS * down))).collect();
    sheet.draw(&Polygon::new(corners, filled(inside))).expect("memory takes all shapes");
}

/// Corners evenly around the middle, the first so much of a turn from the top; they lie by turns so many radii from the middle.
fn star(corners: usize, turn: f64, radii: [f64; 2]) -> Vec<(f64, f64)> {
    let corner = |index: usize| {
        let angle = TAU * (index as f64 / corners as f64 + turn);
        (radii[index % 2] * angle.sin(), -radii[index % 2] * angle.cos())
    };
    (0..corners).map(corner).collect()
}

/// Draws the cross of a value that does not cover all clients, or is missing.
pub fn cross(sheet: &Sheet, (x, y): (f64, f64)) {
    let arm = RADIUS * 0.85;
    for slope in [-1.0, 1.0] {
        let ends = [at((x - arm, y - slope * arm)), at((x + arm, y + slope * arm))];
        sheet.draw(&PathElement::new(ends, line(Paint::Server, 2.0))).expect("memory takes all shapes");
    }
}

/// The mark and the name of a server, from this place on.
pub fn name_tag(sheet: &Sheet, server: &Server, name: &str, (x, y): (f64, f64)) {
    draw(sheet, server.look.mark, (x + RADIUS, y), Paint::Server);
    write(sheet, name, &regular(FONT, Paint::Ink, HPos::Left), (x + 2.0 * RADIUS + 4.0, y));
}
