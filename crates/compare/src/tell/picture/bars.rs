//! Stacked bars: one per server, with a part per kind.

use plotters::{prelude::Rectangle, style::text_anchor::HPos};

use super::{
    canvas::{self, BOLDNESS, FONT, HEIGHT, SMALL, Sheet, WIDTH, at, bold, cut, filled, regular, width_of, write},
    data::Bar,
    frame::{self, LEGEND_LINE, LINE, MARGIN},
    label::rounded,
    marker::{self, name_tag},
    palette::Paint,
};

/// Between a bar and its total.
const GAP: f64 = 5.0;
const MOST_NAME_WIDTH: f64 = 130.0;
/// From the middle of a row to that of the next.
const MOST_PITCH: f64 = 44.0;
const LEAST_PITCH: f64 = 26.0;
/// The share of it that a bar takes.
const THICKNESS: f64 = 0.62;
const SWATCH: f64 = 11.0;
const OUTLINE: &str = "stroke-width=\"7\"";

/// A picture of these bars, in the order given, with the parts in the order of the kinds.
pub fn bars(title: &str, unit: &str, kinds: &[&str], bars: &[Bar]) -> String {
    let (places, lines) = frame::laid_out(kinds.iter().map(|kind| SWATCH + 18.0 + width_of(kind, FONT)));
    let top = LEGEND_LINE + LINE * lines as f64 + LINE / 2.0;
    let pitch = ((HEIGHT - MARGIN - top) / bars.len().max(1) as f64).clamp(LEAST_PITCH, MOST_PITCH);
    let height = (top + pitch * bars.len() as f64 + MARGIN).max(HEIGHT);
    let heading = canvas::shapes(|sheet| {
        frame::write_title(sheet, title);
        let unit = cut(unit, FONT, WIDTH - 2.0 * MARGIN);
        write(sheet, &unit, &regular(FONT, Paint::Muted, HPos::Left), (MARGIN, top - LINE / 2.0));
    });
    let legend = kinds.iter().zip(&places).enumerate().map(|(kind, (name, place))| legend_entry(kind, name, *place));
    let names = bars.iter().map(|bar| width_of(&shown_name(bar), FONT)).fold(0.0, f64::max);
    let left = MARGIN + 2.0 * marker::RADIUS + 10.0 + names;
    let greatest = bars.iter().map(total).fold(0.0, f64::max);
    let totals = bars.iter().map(|bar| width_of(&rounded(total(bar)), FONT) * BOLDNESS).fold(0.0, f64::max);
    let room = WIDTH - MARGIN - totals - GAP - left;
    let rows = Rows { left, top, pitch, per_unit: if greatest > 0.0 { room.max(0.0) / greatest } else { 0.0 } };
    let frame = canvas::group("class=\"frame\"", &[heading, legend.collect()].concat());
    let rows = bars.iter().enumerate().map(|(row, bar)| canvas::server_group(&bar.server, &rows.row(row, bar)));
    canvas::picture(title, height, &[frame, rows.collect()].concat())
}

/// A part as it can be drawn: 0 if it is not a number, or negative.
fn drawable(part: f64) -> f64 {
    if part.is_finite() { part.clamp(0.0, 1e200) } else { 0.0 }
}

fn total(bar: &Bar) -> f64 {
    bar.parts.iter().copied().map(drawable).sum()
}

fn shown_name(bar: &Bar) -> String {
    cut(bar.server.name, FONT, MOST_NAME_WIDTH)
}

fn legend_entry(kind: usize, name: &str, (x, y): (f64, f64)) -> String {
    let swatch = canvas::shapes(|sheet| rectangle(sheet, (x, y - SWATCH / 2.0), (x + SWATCH, y + SWATCH / 2.0), kind));
    let name = canvas::shapes(|sheet| {
        write(sheet, name, &regular(FONT, Paint::Ink, HPos::Left), (x + SWATCH + 4.0, y));
    });
    [outlined(&swatch), name].concat()
}

fn rectangle(sheet: &Sheet, from: (f64, f64), to: (f64, f64), kind: usize) {
    sheet.draw(&Rectangle::new([at(from), at(to)], filled(Paint::Kind(kind)))).expect("memory takes all shapes");
}

fn outlined(shapes: &str) -> String {
    canvas::group(&format!("{} {OUTLINE}", Paint::Muted.stroke()), shapes)
}

/// Where the rows go.
struct Rows {
    /// Where bars begin.
    left: f64,
    /// Where the first row begins.
    top: f64,
    pitch: f64,
    /// The width of 1.
    per_unit: f64,
}

impl Rows {
    fn row(&self, row: usize, bar: &Bar) -> String {
        let middle = self.top + self.pitch * (row as f64 + 0.5);
        let (upper, lower) = (middle - self.pitch * THICKNESS / 2.0, middle + self.pitch * THICKNESS / 2.0);
        let mut sides = Vec::new();
        let mut x = self.left;
        for (kind, part) in bar.parts.iter().copied().map(drawable).enumerate() {
            sides.push((kind, part, x, x + part * self.per_unit));
            x += part * self.per_unit;
        }
        let parts = canvas::shapes(|sheet| {
            for &(kind, _, from, to) in sides.iter().filter(|(_, part, ..)| *part > 0.0) {
                rectangle(sheet, (from, upper), (to, lower), kind);
            }
        });
        let numbers = canvas::shapes(|sheet| {
            for &(_, part, from, to) in &sides {
                let number = rounded(part);
                if part > 0.0 && width_of(&number, SMALL) + 4.0 <= to - from {
                    write(sheet, &number, &regular(SMALL, Paint::Ink, HPos::Center), ((from + to) / 2.0, middle));
                }
            }
            let total = rounded(total(bar));
            write(sheet, &total, &bold(FONT, Paint::Ink, HPos::Left), (x + GAP, middle));
        });
        let name = canvas::shapes(|sheet| name_tag(sheet, &bar.server, &shown_name(bar), (MARGIN, middle)));
        let data = format!("data-y=\"{}\"", total(bar));
        [name, canvas::mark(&bar.server, "bar", &data, &bar.tooltip, &[outlined(&parts), numbers].concat())].concat()
    }
}
