//! How pictures show a server: a colour and a mark that are its own.

/// How pictures show a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its colour on a light background, as `#rrggbb`.
    pub light: &'static str,
    /// Its colour on a dark background, as `#rrggbb`.
    pub dark: &'static str,
    /// The shape of its points in a chart.
    pub mark: Mark,
}

/// The shape of a point in a chart. None is a cross, which stands for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Mark {
    // For models.
    Circle,
    Square,
    Triangle,
    Diamond,
    TriangleDown,
    Pentagon,
    Hexagon,
    FivePointStar,
    FourPointStar,
    // For servers without an entry in the catalogue.
    TriangleRight,
    TriangleLeft,
    Hourglass,
    BowTie,
    ThreePointStar,
    HalfDisc,
}

const MARKS_OF_OTHERS: [Mark; 6] =
    [Mark::TriangleRight, Mark::TriangleLeft, Mark::Hourglass, Mark::BowTie, Mark::ThreePointStar, Mark::HalfDisc];

/// Light and dark.
const COLOURS_OF_OTHERS: [(&str, &str); 7] = [
    ("#9c8a00", "#eabd40"),
    ("#d3265b", "#ff6b8b"),
    ("#2590e0", "#2fd5ff"),
    ("#7d4a2e", "#b98a63"),
    ("#4d8a00", "#9ddb4a"),
    ("#8368b5", "#7f61c6"),
    ("#6f7884", "#9aa6b5"),
];

impl Look {
    /// How many looks [`Look::of_other`] has: the numbers of marks and of colours have no common factor.
    pub const OTHERS: usize = MARKS_OF_OTHERS.len() * COLOURS_OF_OTHERS.len();

    /// The look of a server without an entry in the catalogue, counted from 0. From [`Look::OTHERS`] on, looks repeat.
    pub const fn of_other(index: usize) -> Look {
        let (light, dark) = COLOURS_OF_OTHERS[index % COLOURS_OF_OTHERS.len()];
        Look { light, dark, mark: MARKS_OF_OTHERS[index % MARKS_OF_OTHERS.len()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CATALOGUE;

    /// Two colours this far apart in OKLab are easily distinguished.
    const DISTINCT: f64 = 0.1;

    #[test]
    fn looks_differ_by_mark_or_clearly_by_colour() {
        let others = (0..Look::OTHERS).map(Look::of_other);
        let looks: Vec<Look> = CATALOGUE.iter().map(|model| model.look).chain(others).collect();
        for (index, one) in looks.iter().enumerate() {
            for other in looks[index + 1..].iter().filter(|other| other.mark == one.mark) {
                assert!(distance(one.light, other.light) >= DISTINCT, "{one:?} {other:?}");
                assert!(distance(one.dark, other.dark) >= DISTINCT, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn models_and_other_servers_share_no_mark() {
        assert!(CATALOGUE.iter().all(|model| !MARKS_OF_OTHERS.contains(&model.look.mark)));
    }

    /// Euclidean distance in OKLab (B. Ottosson, A perceptual color space for image processing, 2020).
    fn distance(one: &str, other: &str) -> f64 {
        let (one, other) = (oklab(one), oklab(other));
        one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    fn oklab(hex: &str) -> [f64; 3] {
        let [r, g, b] = [1, 3, 5].map(|at| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
        let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
        let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
        [
            0.210_454_255_3 * l + 0.793_617_785 * m - 0.004_072_046_8 * s,
            1.977_998_495_1 * l - 2.428_592_205 * m + 0.450_593_709_9 * s,
            0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766 * s,
        ]
    }
}
