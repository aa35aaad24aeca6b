//! Colours by what they are for; what they look like is said in palette.css alone.

use plotters::style::RGBColor;

/// Custom properties and rules of all colours.
pub const CSS: &str = include_str!("palette.css");

/// How many colours and shapes there are for servers.
const SERVER_SLOTS: usize = 8;
/// Those from here on are for servers that were brought along.
const FIRST_FREE_SLOT: usize = 5;
/// How many colours there are for kinds.
const KINDS: usize = 6;

/// What something is painted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// The colour of the server in whose group it is.
    Server,
    Paper,
    Ink,
    Muted,
    Grid,
    /// Not to be seen, but to be pointed at.
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

    /// What stands for it as long as plotters draws, which knows numbers only.
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

/// The colour and shape of a server, from 0: beyond the last one, those of servers brought along come again.
pub fn slot(slot: usize) -> usize {
    if slot < SERVER_SLOTS { slot } else { FIRST_FREE_SLOT + (slot - FIRST_FREE_SLOT) % (SERVER_SLOTS - FIRST_FREE_SLOT) }
}

/// The light value of a custom property, for viewers that know none.
pub fn light(property: &str) -> &'static str {
    let (_, after) = CSS.split_once(&format!("--{property}: ")).expect("palette.css has all colours");
    after.split_once(';').expect("it ends").0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    const KINDS: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];

    #[test]
    fn marks_and_words_stand_out_in_light_and_dark() {
        for theme in themes() {
            for mark in MARKS {
                assert_contrast(theme, mark, "paper", 3.0);
            }
            for words in ["ink", "muted"] {
                assert_contrast(theme, words, "paper", 4.5);
            }
            for kind in KINDS {
                assert_contrast(theme, "ink", kind, 4.5);
            }
        }
    }

    fn assert_contrast(theme: &str, one: &str, other: &str, least: f64) {
        let (one_light, other_light) = (luminance(theme, one), luminance(theme, other));
        let contrast = (one_light.max(other_light) + 0.05) / (one_light.min(other_light) + 0.05);
        assert!(contrast >= least, "{one} on {other}: {contrast:.2}");
    }

    /// Relative luminance as WCAG 2 defines it.
    fn luminance(theme: &str, property: &str) -> f64 {
        let hex = theme.split_once(&format!("--{property}: #")).unwrap().1;
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
    }

    fn themes() -> [&'static str; 2] {
        let (light, dark) = CSS.split_once("@media").unwrap();
        [light, dark]
    }

    #[test]
    fn slots_of_servers_brought_along_come_again() {
        assert_eq!([0, 4, 5, 7, 8, 10, 11].map(slot), [0, 4, 5, 7, 5, 7, 5]);
    }
}
