//! Heat maps: how latencies change from round to round. A column per round; the darker a cell, the more requests took that long.

use hdrhistogram::Histogram;
use plotters::{
    prelude::{PathElement, Rectangle},
    style::{Color, text_anchor::HPos},
};

use super::{
    axis::Ruler,
    canvas::{self, SMALL, Sheet, at, line, regular, width_of, write},
    data::{BEYOND, NS_PER_US, Scale, Server},
    frame::{self, Frame},
    label::micros,
    palette::Paint,
};

/// How many cells a column has.
const CELLS: usize = 24;
/// The opacity of a cell is linear in the logarithm of its share of the round's requests, so that rare slow ones are visible: from
/// this for one in a million, or fewer, to 1 for all of them, in steps that the eye distinguishes.
const LEAST_OPACITY: f64 = 0.15;
const SHADES: f64 = 18.0;
const LEAST_SHARE: f64 = 1e-6;
/// Shares in the legend of shades.
const EXPLAINED: [(f64, &str); 4] = [(1e-6, "0.0001 %"), (1e-4, "0.01 %"), (1e-2, "1 %"), (1.0, "100 %")];
/// No seams between cells.
const CELLS_ALIGNED: &str = "shape-rendering=\"crispEdges\"";
/// How wide the lines at 50 % and at 99 % are.
const THICK: f64 = 2.4;
const THIN: f64 = 1.0;

/// A picture of a server's rounds, with latencies in this range (others are at the edge).
pub fn heat(title: &str, server: &Server, columns: &[Histogram<u64>], range_ns: (u64, u64)) -> String {
    let least = range_ns.0.max(1);
    let greatest = range_ns.1.max(least.saturating_mul(2));
    let y = Ruler::of_values(Scale::Log, [least, greatest].into_iter().map(|ns| ns as f64 / NS_PER_US));
    let ends = (0.5, columns.len().max(1) as f64 + 0.5);
    let ticks = (1..=columns.len()).map(|round| (round as f64, round.to_string()));
    let x = Ruler::of_ticks(ends, ticks, frame::label_width);
    let name_width = frame::entry_width(server);
    let frame = Frame::new([name_width].into_iter(), true);
    let (name_x, name_y) = frame.legend(0);
    let drawing = Drawing { frame: &frame, x: &x, y: &y, range_ns: (least, greatest), server };
    let content = [
        frame::entry(server, (name_x, name_y)),
        scale_bar(frame.note()),
        canvas::group(CELLS_ALIGNED, &each(columns, |index, column| drawing.cells(index, column))),
        each(columns, |index, column| drawing.mark(index, column)),
    ];
    let groups = [
        frame.drawn(title, ("round", &x), ("latency, µs", &y), ""),
        canvas::server_group(server, &content.concat()),
        canvas::shapes(|sheet| explain_lines(sheet, (name_x + name_width + 8.0, name_y))),
    ];
    canvas::picture(title, frame.height(), &groups.concat())
}

fn each(columns: &[Histogram<u64>], draw: impl Fn(usize, &Histogram<u64>) -> String) -> String {
    columns.iter().enumerate().map(|(index, column)| draw(index, column)).collect()
}

fn opacity(share: f64) -> f64 {
    let darkness = 1.0 - share.max(LEAST_SHARE).log10() / LEAST_SHARE.log10();
    let shade = (darkness * SHADES).round() / SHADES;
    ((LEAST_OPACITY + (1.0 - LEAST_OPACITY) * shade) * 100.0).round() / 100.0
}

/// Which shade stands for how many requests.
fn scale_bar((left, y): (f64, f64)) -> String {
    canvas::shapes(|sheet| {
        let mut x = left;
        let caption = "of a round's requests:";
        write(sheet, caption, &regular(SMALL, Paint::Muted, HPos::Left), (x, y));
        x += width_of(caption, SMALL) + 4.0;
        for (share, label) in EXPLAINED {
            shade(sheet, (x, y - 5.5), (x + 16.0, y + 5.5), opacity(share));
            write(sheet, label, &regular(SMALL, Paint::Muted, HPos::Left), (x + 19.0, y));
            x += 29.0 + width_of(label, SMALL);
        }
    })
}

fn shade(sheet: &Sheet, from: (f64, f64), to: (f64, f64), opacity: f64) {
    let style = Paint::Server.stand_in().mix(opacity).filled();
    sheet.draw(&Rectangle::new([at(from), at(to)], style)).expect("memory takes all shapes");
}

/// What the lines across the columns are.
fn explain_lines(sheet: &Sheet, (left, y): (f64, f64)) {
    let mut x = left;
    for (width, label) in [(THICK, "50 %"), (THIN, "99 % answered within")] {
        draw_line(sheet, (x, x + 14.0), y, width);
        write(sheet, label, &regular(SMALL, Paint::Muted, HPos::Left), (x + 18.0, y));
        x += 30.0 + width_of(label, SMALL);
    }
}

/// With a rim, as cells may be as dark as ink.
fn draw_line(sheet: &Sheet, (from, to): (f64, f64), y: f64, width: f64) {
    for (paint, width) in [(Paint::Paper, width + 1.6), (Paint::Ink, width)] {
        let style = line(paint, width);
        sheet.draw(&PathElement::new([at((from, y)), at((to, y))], style)).expect("memory takes all shapes");
    }
}

/// The columns' places.
struct Drawing<'a> {
    frame: &'a Frame,
    x: &'a Ruler,
    y: &'a Ruler,
    range_ns: (u64, u64),
    server: &'a Server<'a>,
}

impl Drawing<'_> {
    /// The left and the right edge of a column.
    fn sides(&self, index: usize) -> (f64, f64) {
        let side = |at: f64| self.frame.place(self.x.nearest(at), 0.0).0;
        let (left, right) = (side(index as f64 + 0.5), side(index as f64 + 1.5));
        let gap = ((right - left) * 0.06).min(2.0);
        (left + gap / 2.0, right - gap / 2.0)
    }

    fn height_of(&self, ns: f64) -> f64 {
        self.frame.place(0.0, self.y.nearest(ns / NS_PER_US)).1
    }

    fn cells(&self, index: usize, column: &Histogram<u64>) -> String {
        let (low, high) = (self.range_ns.0 as f64, self.range_ns.1 as f64);
        let cell_of = |ns: f64| ((ns / low).ln() / (high / low).ln() * CELLS as f64).clamp(0.0, CELLS as f64 - 1.0) as usize;
        let mut counts = [0; CELLS];
        for value in column.iter_recorded() {
            counts[cell_of(value.value_iterated_to() as f64)] += value.count_at_value();
        }
        let (left, right) = self.sides(index);
        let edge = |cell: usize| self.height_of(low * (high / low).powf(cell as f64 / CELLS as f64));
        let shade_of = |cell: usize| (counts[cell] > 0).then(|| opacity(counts[cell] as f64 / column.len() as f64));
        let shades: Vec<Option<f64>> = (0..CELLS).map(shade_of).collect();
        canvas::shapes(|sheet| {
            let mut cell = 0;
            for alike in shades.chunk_by(|one, next| one == next) {
                if let Some(opacity) = alike[0] {
                    shade(sheet, (left, edge(cell + alike.len())), (right, edge(cell)), opacity);
                }
                cell += alike.len();
            }
        })
    }

    /// The column's percentiles, with a tooltip over its whole height.
    fn mark(&self, index: usize, column: &Histogram<u64>) -> String {
        let (left, right) = self.sides(index);
        let (top, bottom) = (self.frame.place(0.0, 1.0).1, self.frame.place(0.0, 0.0).1);
        let within = |quantile: f64| column.value_at_quantile(quantile).min(column.max());
        let is_sure = column.len() / 100 >= BEYOND;
        let shapes = canvas::shapes(|sheet| {
            let everywhere = canvas::filled(Paint::Nothing);
            sheet.draw(&Rectangle::new([at((left, top)), at((right, bottom))], everywhere)).expect("memory takes all shapes");
            if !column.is_empty() {
                draw_line(sheet, (left, right), self.height_of(within(0.5) as f64), THICK);
            }
            if is_sure {
                draw_line(sheet, (left, right), self.height_of(within(0.99) as f64), THIN);
            }
        });
        let mut tooltip = format!("{}, round {}: ", self.server.name, index + 1);
        tooltip += &match (column.is_empty(), is_sure) {
            (true, _) => "no requests".into(),
            (_, false) => format!("50 % within {}, slowest {}", micros(within(0.5)), micros(column.max())),
            _ => format!(
                "50 % within {}, 99 % within {}, slowest {}",
                micros(within(0.5)),
                micros(within(0.99)),
                micros(column.max())
            ),
        };
        let value = if column.is_empty() { String::new() } else { format!(" data-y=\"{}\"", within(0.5) as f64 / NS_PER_US) };
        canvas::mark(self.server, "column", &format!("data-x=\"{}\"{value}", index + 1), &tooltip, &shapes)
    }
}
