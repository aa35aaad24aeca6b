//! What surrounds the plot: title, legend, axes, and a note on how to read the marks.

use plotters::{
    prelude::{ChartBuilder, LabelAreaPosition},
    style::{TRANSPARENT, text_anchor::HPos},
};

use super::{
    axis::Ruler,
    canvas::{self, BOLDNESS, FONT, HEIGHT, SMALL, Sheet, WIDTH, bold, cut, length, line, regular, width_of, write},
    data::Server,
    marker,
    palette::Paint,
};

/// The margin at the sides.
pub const MARGIN: f64 = 8.0;
/// Where the drawing begins and ends: left of it are the labels of its values.
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - MARGIN;

const TITLE_SIZE: f64 = 14.5;
const LEAST_TITLE_SIZE: f64 = 12.0;
const TITLE_LINE: f64 = 13.0;
pub const LEGEND_LINE: f64 = 34.0;
/// From the middle of a line of text to that of the next.
pub const LINE: f64 = 17.0;
/// A legend of more lines makes a picture higher.
const LINES_OF_LEGEND: usize = 2;
/// How much of a server's name is shown.
const NAME_WIDTH: f64 = 130.0;
/// How long ticks are; labels are twice as far away, so that marks on the axis do not touch them.
const TICK: f64 = 4.0;

/// The layout of a picture.
#[derive(Debug)]
pub struct Frame {
    height: f64,
    legend: Vec<(f64, f64)>,
    /// Edges of the plot area.
    top: f64,
    bottom: f64,
}

impl Frame {
    /// With a legend of entries so wide, and with or without a line of notes.
    pub fn new(legend: impl Iterator<Item = f64>, note: bool) -> Frame {
        let (legend, lines) = laid_out(legend);
        let height = HEIGHT + LINE * lines.saturating_sub(LINES_OF_LEGEND) as f64;
        let top = LEGEND_LINE + LINE * (lines as f64 + 1.0) - 4.0;
        Frame { height, legend, top, bottom: height - if note { 54.0 } else { 38.0 } }
    }

    /// Where an entry of the legend begins.
    pub fn legend(&self, index: usize) -> (f64, f64) {
        self.legend[index]
    }

    /// Where the line of notes begins.
    pub fn note(&self) -> (f64, f64) {
        (MARGIN, self.height - 9.0)
    }

    /// How high the picture is.
    pub fn height(&self) -> f64 {
        self.height
    }

    /// The place so far along the axes, both from 0 to 1.
    pub fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (LEFT + x * (RIGHT - LEFT), self.bottom - y * (self.bottom - self.top))
    }

    /// Title, axes and note.
    pub fn drawn(&self, title: &str, (x_title, x): (&str, &Ruler), (y_title, y): (&str, &Ruler), note: &str) -> String {
        canvas::group(
            "class=\"frame\"",
            &canvas::shapes(|sheet| {
                write_title(sheet, title);
                let muted = |from| regular(FONT, Paint::Muted, from);
                let y_title = cut(y_title, FONT, WIDTH - 2.0 * MARGIN);
                write(sheet, &y_title, &muted(HPos::Left), (MARGIN, self.top - 12.0));
                self.draw_axes(sheet, x, y);
                let x_title = cut(x_title, FONT, RIGHT - LEFT);
                write(sheet, &x_title, &muted(HPos::Center), ((LEFT + RIGHT) / 2.0, self.bottom + 30.5));
                let note_style = regular(SMALL, Paint::Muted, HPos::Left);
                if !note.is_empty() {
                    write(sheet, note, &note_style, self.note());
                }
            }),
        )
    }

    fn draw_axes(&self, sheet: &Sheet, x: &Ruler, y: &Ruler) {
        let drawing = sheet.clone().shrink((0, 0), (length(RIGHT), length(self.bottom + LINE)));
        let mut chart = ChartBuilder::on(&drawing)
            .margin_top(length(self.top))
            .set_label_area_size(LabelAreaPosition::Left, length(LEFT))
            .set_label_area_size(LabelAreaPosition::Bottom, length(LINE))
            .build_cartesian_2d(x.clone(), y.clone())
            .expect("memory takes all shapes");
        let style = regular(FONT, Paint::Muted, HPos::Left);
        let mut values = chart.configure_mesh();
        values.disable_x_mesh().disable_x_axis().bold_line_style(line(Paint::Grid, 1.0)).axis_style(TRANSPARENT);
        values.label_style(style.clone()).set_all_tick_mark_size(length(TICK)).draw().expect("memory takes all shapes");
        let mut points = chart.configure_mesh();
        points.disable_mesh().disable_y_axis().axis_style(line(Paint::Muted, 1.0));
        points.label_style(style).set_all_tick_mark_size(length(TICK)).draw().expect("memory takes all shapes");
    }
}

/// Writes it as large as fits.
pub fn write_title(sheet: &Sheet, title: &str) {
    let room = (WIDTH - 2.0 * MARGIN) / BOLDNESS;
    let size = (TITLE_SIZE * room / width_of(title, TITLE_SIZE).max(1.0)).clamp(LEAST_TITLE_SIZE, TITLE_SIZE);
    write(sheet, &cut(title, size, room), &bold(size, Paint::Ink, HPos::Left), (MARGIN, TITLE_LINE));
}

/// Where entries so wide begin, in lines from the left, and how many lines that takes.
pub fn laid_out(widths: impl Iterator<Item = f64>) -> (Vec<(f64, f64)>, usize) {
    let (mut places, mut x, mut lines) = (Vec::new(), MARGIN, 1);
    for width in widths {
        if x > MARGIN && x + width > WIDTH - MARGIN {
            (x, lines) = (MARGIN, lines + 1);
        }
        places.push((x, LEGEND_LINE + LINE * (lines - 1) as f64));
        x += width;
    }
    (places, lines)
}

/// How wide a server's entry is.
pub fn entry_width(server: &Server) -> f64 {
    2.0 * marker::RADIUS + 14.0 + width_of(&shown_name(server), FONT)
}

/// A server's entry in a legend.
pub fn entry(server: &Server, place: (f64, f64)) -> String {
    canvas::shapes(|sheet| marker::name_tag(sheet, server, &shown_name(server), place))
}

/// Width of a label, as a share of its axis.
pub fn label_width(label: &str) -> f64 {
    (width_of(label, FONT) + 6.0) / (RIGHT - LEFT)
}

fn shown_name(server: &Server) -> String {
    cut(server.name, FONT, NAME_WIDTH)
}
