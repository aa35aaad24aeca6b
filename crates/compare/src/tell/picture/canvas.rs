//! What pictures consist of: shapes drawn by plotters, in groups that CSS can address.

use plotters::{
    coord::Shift,
    prelude::{DrawingArea, IntoDrawingArea, SVGBackend},
    style::{
        Color, FontDesc, FontFamily, FontStyle, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{data::Server, palette::Paint};

/// Width of every picture, in units. All other lengths are in units, too.
pub const WIDTH: f64 = 440.0;
/// Height of a picture that needs no more.
pub const HEIGHT: f64 = 300.0;
/// Size of text.
pub const FONT: f64 = 13.0;
/// Size of notes.
pub const SMALL: f64 = 11.5;
/// plotters cuts off what is beyond its sheet: this is higher than any picture.
const SHEET_HEIGHT: u32 = 10_000_000;
/// plotters draws in whole numbers: these are tenths.
const FINENESS: f64 = 10.0;
/// How much wider bold text is.
pub const BOLDNESS: f64 = 1.12;
/// What plotters enlarges the fonts of SVG by.
const FONT_FACTOR: f64 = 1.24;

/// What shapes are drawn on.
pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A whole picture of these groups.
pub fn picture(title: &str, height: f64, groups: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"picture\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"system-ui, sans-serif\"><title>{title}</title>\
         <g transform=\"scale({})\">{groups}</g></svg>",
        1.0 / FINENESS
    )
}

/// The same picture as a file of its own, with its style sheet and its paper.
pub fn standalone(svg: &str, css: &str) -> String {
    let (root, content) = svg.split_once('>').expect("a picture begins with its root");
    let paper = format!("<rect width=\"100%\" height=\"100%\" {}/>", Paint::Paper.fill());
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{root}><style>{css}</style>{paper}{content}")
}

/// Everything that belongs to a server.
pub fn server_group(server: &Server, content: &str) -> String {
    let (class, name, color) = (server.class(), escaped(server.name), server.look.light);
    format!("<g class=\"server {class}\" data-server=\"{name}\" color=\"{color}\" fill=\"currentColor\">{content}</g>")
}

/// A group with these attributes.
pub fn group(attributes: &str, content: &str) -> String {
    format!("<g {attributes}>{content}</g>")
}

/// What was measured at one place: its shapes and their tooltip.
pub fn mark(server: &Server, kind: &str, data: &str, tooltip: &str, shapes: &str) -> String {
    let (name, tooltip) = (escaped(server.name), escaped(tooltip));
    format!("<g class=\"mark {kind}\" data-server=\"{name}\" {data}><title>{tooltip}</title>{shapes}</g>")
}

/// Shapes as SVG, in the colours of the page.
pub fn shapes(draw: impl FnOnce(&Sheet)) -> String {
    let mut svg = String::new();
    let size = (length(WIDTH), SHEET_HEIGHT);
    draw(&SVGBackend::with_string(&mut svg, size).into_drawing_area());
    let (_, body) = svg.split_once('\n').expect("the first line is the opening tag");
    let mut body = body.strip_suffix("</svg>\n").unwrap_or(body).replace('\n', "");
    for paint in Paint::all() {
        let stand_in = paint.stand_in();
        let hex = format!("#{:02X}{:02X}{:02X}", stand_in.0, stand_in.1, stand_in.2);
        body = body.replace(&format!("stroke=\"{hex}\""), &paint.stroke());
        // What is in a server's group has its fill.
        let fill = if paint == Paint::Server { String::new() } else { paint.fill() };
        body = body.replace(&format!("fill=\"{hex}\""), &fill);
    }
    for default in
        [" opacity=\"1\"", " stroke=\"none\"", " stroke-width=\"1\"", " text-anchor=\"start\"", " font-family=\"sans-serif\""]
    {
        body = body.replace(default, "");
    }
    body.replace(" \"/>", "\"/>").replace("  ", " ").replace(" />", "/>")
}

/// A place on a sheet.
pub fn at((x, y): (f64, f64)) -> (i32, i32) {
    ((x * FINENESS).round() as i32, (y * FINENESS).round() as i32)
}

/// A length on a sheet.
pub fn length(units: f64) -> u32 {
    (units * FINENESS).round() as u32
}

/// The inside of a shape.
pub fn filled(paint: Paint) -> ShapeStyle {
    paint.stand_in().filled()
}

/// A line so wide.
pub fn line(paint: Paint, width: f64) -> ShapeStyle {
    paint.stand_in().stroke_width(length(width))
}

/// Text of this size.
pub fn regular(size: f64, paint: Paint, from: HPos) -> TextStyle<'static> {
    styled(size, paint, from, FontStyle::Normal)
}

/// Bold text of this size.
pub fn bold(size: f64, paint: Paint, from: HPos) -> TextStyle<'static> {
    styled(size, paint, from, FontStyle::Bold)
}

fn styled(size: f64, paint: Paint, from: HPos, style: FontStyle) -> TextStyle<'static> {
    let font = FontDesc::new(FontFamily::SansSerif, f64::from(length(size)) * FONT_FACTOR, style);
    TextStyle { font, color: paint.stand_in().to_backend_color(), pos: Pos::new(from, VPos::Center) }
}

/// Writes a line of text with its middle at this height.
pub fn write(sheet: &Sheet, text: &str, style: &TextStyle, place: (f64, f64)) {
    sheet.draw_text(&clean(text), style, at(place)).expect("memory takes all shapes");
}

/// About how wide text is at most: fonts differ.
pub fn width_of(text: &str, size: f64) -> f64 {
    text.chars().map(|character| width_of_character(character) * size).sum()
}

/// In sizes of the font.
fn width_of_character(character: char) -> f64 {
    match character {
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | ' ' | '.' | ',' | ':' | '-' | '\'' | '(' | ')' | '|' | '/' => 0.38,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        'a'..='z' | '0'..='9' | '_' => 0.62,
        'A'..='Z' => 0.7,
        _ => 1.0,
    }
}

/// As much of it as is not wider.
pub fn cut(text: &str, size: f64, width: f64) -> String {
    if width_of(text, size) <= width {
        return text.into();
    }
    let mut left = width - width_of("…", size);
    let fits = |character: &char| {
        left -= width_of_character(*character) * size;
        left >= 0.0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Escaped for XML, between tags and in quotes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Without what XML does not allow, and line ends.
fn clean(text: &str) -> String {
    let allowed = |character: char| !character.is_control() && !matches!(character, '\u{fffe}' | '\u{ffff}');
    text.chars().map(|character| if allowed(character) { character } else { ' ' }).collect()
}
