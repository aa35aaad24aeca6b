//! Colours by purpose. Their values are in palette.css and, for servers, in their looks.

use plotters::style::RGBColor;

use super::data::Server;

/// Custom properties and rules of all colours but those of servers.
const CSS: &str = include_str!("palette.css");

/// How many colours there are for kinds.
const KINDS: usize = 6;

/// What something is painted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// The colour of the server that its group belongs to.
    Server,
    Paper,
    Ink,
    Muted,
    Grid,
    /// Invisible, but under the pointer.
    Nothing,
    /// One of the kinds that make up a bar.
    Kind(usize),
}

impl Paint {
    /// All that differ.
    pub fn all() -> impl Iterator<Item = Paint> {
        [Paint::Server, Paint::Paper, Paint::Ink, Paint::Muted, Paint::Grid, Paint::Nothing]
            .into_iter()
            .chain((0..KINDS).map(Paint::Kind))
    }

    /// What stands for it while plotters draws, which supports RGB colours only.
    pub fn stand_in(self) -> RGBColor {
        let number = Paint::all().position(|paint| paint == self.reduced()).expect("all are there");
        RGBColor(0, 0, number as u8)
    }

    /// The attributes of a shape that is filled with it.
    pub fn fill(self) -> String {
        if self == Paint::Nothing {
            return "fill=\"none\" pointer-events=\"all\"".into();
        }
        self.class().map_or("fill=\"currentColor\"".into(), |class| format!("class=\"{class}\" fill=\"{}\"", light(&class)))
    }

    /// The attributes of a line of it.
    pub fn stroke(self) -> String {
        let with = |class: String| format!("class=\"{class}-line\" stroke=\"{}\"", light(&class));
        self.class().map_or("stroke=\"currentColor\"".into(), with)
    }

    fn class(self) -> Option<String> {
        match self.reduced() {
            Paint::Server | Paint::Nothing => None,
            Paint::Paper => Some("paper".into()),
            Paint::Ink => Some("ink".into()),
            Paint::Muted => Some("muted".into()),
            Paint::Grid => Some("grid".into()),
            Paint::Kind(kind) => Some(format!("k{kind}")),
        }
    }

    fn reduced(self) -> Paint {
        if let Paint::Kind(kind) = self { Paint::Kind(kind % KINDS) } else { self }
    }
}

/// The style sheet of pictures in which these servers are.
pub fn css(servers: &[Server]) -> String {
    let rules = |colour: fn(&Server) -> &'static str| {
        servers.iter().map(|server| format!("  .{} {{ color: {} }}\n", server.class(), colour(server))).collect::<String>()
    };
    let (light, dark) = (rules(|server| server.look.light), rules(|server| server.look.dark));
    format!("{CSS}\n{light}@media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

/// The light value of a custom property, for viewers that do not support them.
fn light(property: &str) -> &'static str {
    let (_, after) = CSS.split_once(&format!("--{property}: ")).expect("palette.css has all colours");
    after.split_once(';').expect("it ends").0
}

#[cfg(test)]
mod tests {
    use models::{CATALOGUE, Look};

    use super::*;

    const KINDS: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];

    #[test]
    fn marks_and_text_stand_out_in_light_and_dark() {
        let (light, dark) = CSS.split_once("@media").unwrap();
        let looks = || CATALOGUE.iter().map(|model| model.look).chain((0..Look::OTHERS).map(Look::of_other));
        let (lights, darks) =
            (looks().map(|look| look.light).collect::<Vec<_>>(), looks().map(|look| look.dark).collect::<Vec<_>>());
        for (theme, colours) in [(light, lights), (dark, darks)] {
            let value = |property: &str| &theme.split_once(&format!("--{property}: ")).unwrap().1[..7];
            for colour in colours {
                assert_contrast(colour, value("paper"), 3.0);
            }
            for text in ["ink", "muted"] {
                assert_contrast(value(text), value("paper"), 4.5);
            }
            for kind in KINDS {
                assert_contrast(value("ink"), value(kind), 4.5);
            }
        }
    }

    fn assert_contrast(one: &str, other: &str, least: f64) {
        let (lighter, darker) = (luminance(one).max(luminance(other)), luminance(one).min(luminance(other)));
        let contrast = (lighter + 0.05) / (darker + 0.05);
        assert!(contrast >= least, "{one} on {other}: {contrast:.2}");
    }

    /// Relative luminance as WCAG 2 defines it.
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }
}
