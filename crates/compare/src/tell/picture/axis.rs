//! An axis: where values lie along it, and which of them are labelled.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::{data::Scale, label::human};

/// Values beyond these are drawn at the edge.
const LEAST: f64 = 1e-200;
const GREATEST: f64 = 1e200;

/// How much of an axis of measured points stays free at each end.
const FREE: f64 = 0.05;
/// How much room a scale of values has above its greatest value, and on a log scale below its least.
const ROOM: f64 = 0.05;
/// A log scale of values spans at least this: a factor of 2.
const LEAST_SPAN: f64 = std::f64::consts::LOG10_2;
/// How far a label may reach beyond the end of its axis, as a share of it: there is a margin.
const OVERHANG: f64 = 0.02;
/// More labels are hard to read.
const MOST_LABELS: usize = 7;

/// An axis with labels. Places on it go from 0 to 1.
#[derive(Clone, Debug)]
pub struct Ruler {
    scale: Scale,
    /// What is at 0 and at 1: values, or on a log scale their logarithms to base 10.
    ends: (f64, f64),
    /// Where values that a log scale has no place for are; `None` where that is nowhere.
    zero: Option<f64>,
    /// Places and labels.
    pub ticks: Vec<(f64, String)>,
}

impl Ruler {
    /// For these values, whatever they are: from 0 on when linear, around them when not. Without any, there are no labels.
    pub fn of_values(scale: Scale, values: impl Iterator<Item = f64>) -> Ruler {
        let (least, greatest) = bounds(values.filter(|&value| is_drawable(scale, value)));
        match scale {
            _ if least > greatest => Ruler { scale, ends: (0.0, 1.0), zero: None, ticks: Vec::new() },
            Scale::Linear => Ruler::from_zero(if greatest >= LEAST { greatest } else { 1.0 }),
            Scale::Log => Ruler::around(least.log10(), greatest.log10()),
        }
    }

    fn from_zero(greatest: f64) -> Ruler {
        let end = greatest * (1.0 + ROOM);
        Ruler::labelled(Scale::Linear, (0.0, end), multiples(nice(end / 5.0), 0.0, end))
    }

    fn around(least: f64, greatest: f64) -> Ruler {
        let span = (greatest - least).max(LEAST_SPAN);
        let free = (span - (greatest - least)) / 2.0 + ROOM * span;
        let ends = (least - free, greatest + free);
        Ruler::labelled(Scale::Log, ends, round_values(ends))
    }

    fn labelled(scale: Scale, ends: (f64, f64), labelled: Vec<f64>) -> Ruler {
        let mut ruler = Ruler { scale, ends, zero: None, ticks: Vec::new() };
        ruler.ticks = labelled.into_iter().filter_map(|value| Some((ruler.place(value)?, human(value)))).collect();
        ruler
    }

    /// For measured points, each with a label where there is room for it: its width is a share of
    /// the axis. Values that a log scale has no place for are one step left of its least value.
    pub fn of_points(scale: Scale, points: impl Iterator<Item = f64>, width: impl Fn(&str) -> f64) -> Ruler {
        let mut points: Vec<f64> = points.filter(|point| point.abs() <= GREATEST).collect();
        points.sort_by(f64::total_cmp);
        points.dedup();
        let along: Vec<f64> =
            points.iter().filter(|&&point| is_drawable(scale, point)).map(|&point| along(scale, point)).collect();
        let left_over = along.len() < points.len();
        let (mut first, mut last) = bounds(along.iter().copied());
        if first > last {
            (first, last) = (0.0, 0.0);
        }
        let step = along.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(1.0).min(1.0);
        let zero = (scale == Scale::Log && left_over).then_some(first - step);
        first = zero.unwrap_or(first);
        let free = if last > first { (last - first) * FREE / (1.0 - 2.0 * FREE) } else { 0.5 };
        let ends = (first - free, last + free);
        let mut ruler = Ruler { scale, ends, zero, ticks: Vec::new() };
        let labels = points.into_iter().filter_map(|point| Some((ruler.place(point)?, human(point)))).collect();
        ruler.ticks = thinned_out(labels, width);
        ruler
    }

    /// From one value to another, linear, with these labels where there is room for them: `width` is a share of the axis.
    pub fn of_ticks(ends: (f64, f64), ticks: impl Iterator<Item = (f64, String)>, width: impl Fn(&str) -> f64) -> Ruler {
        let mut ruler = Ruler { scale: Scale::Linear, ends, zero: None, ticks: Vec::new() };
        let labels = ticks.map(|(value, label)| (ruler.nearest(value), label));
        let within = labels.filter(|(place, label)| place + width(label) / 2.0 <= 1.0 + OVERHANG);
        ruler.ticks = thinned_out(within.collect(), width);
        ruler
    }

    /// Where a value is; `None` if nowhere.
    pub fn place(&self, value: f64) -> Option<f64> {
        let (start, end) = self.ends;
        let along =
            if is_drawable(self.scale, value) { along(self.scale, value) } else { self.zero.filter(|_| value <= 0.0)? };
        Some(((along - start) / (end - start)).clamp(0.0, 1.0))
    }

    /// Where a value is, or the end that it lies beyond.
    pub fn nearest(&self, value: f64) -> f64 {
        self.place(value).unwrap_or(if value > GREATEST { 1.0 } else { 0.0 })
    }
}

/// As plotters has an axis: of places.
impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        from + (place * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|(place, _)| *place).collect() }
    }

    fn range(&self) -> Range<f64> {
        0.0..1.0
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, place: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == place).map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// Of labels, in order, those that do not touch the one before.
fn thinned_out(labels: Vec<(f64, String)>, width: impl Fn(&str) -> f64) -> Vec<(f64, String)> {
    let mut kept: Vec<(f64, String)> = Vec::new();
    for (place, label) in labels {
        let free_from = kept.last().map_or(f64::NEG_INFINITY, |(place, label)| place + width(label) / 2.0);
        if place - width(&label) / 2.0 >= free_from {
            kept.push((place, label));
        }
    }
    kept
}

fn is_drawable(scale: Scale, value: f64) -> bool {
    match scale {
        Scale::Linear => (0.0..=GREATEST).contains(&value),
        Scale::Log => (LEAST..=GREATEST).contains(&value),
    }
}

fn along(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log => value.log10(),
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(value), greatest.max(value)))
}

/// Values to label between two logarithms: 1, 2 and 5 of each decade, fewer where these are many, multiples of one where they
/// are few.
fn round_values((start, end): (f64, f64)) -> Vec<f64> {
    let decades: Vec<i32> = (start.floor() as i32..=end.ceil() as i32).collect();
    let within = |factors: &[f64]| -> Vec<f64> {
        let values = decades.iter().flat_map(|&decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)));
        values.filter(|value| (start..=end).contains(&value.log10())).collect()
    };
    let (least, greatest) = (10_f64.powf(start), 10_f64.powf(end));
    match (within(&[1.0, 2.0, 5.0]), within(&[1.0])) {
        (few, _) if few.len() < 3 => multiples(nice((greatest - least) / 4.0), least, greatest),
        (some, _) if some.len() <= MOST_LABELS => some,
        (_, tens) => tens.iter().copied().step_by(tens.len().div_ceil(MOST_LABELS)).collect(),
    }
}

/// The multiples of a step from one value to another.
fn multiples(step: f64, from: f64, to: f64) -> Vec<f64> {
    let first = (from / step).ceil();
    (0..).map(|index| (first + f64::from(index)) * step).take_while(|&value| value <= to).collect()
}

/// The next greater of 1, 2 and 5 times a power of ten.
fn nice(least: f64) -> f64 {
    let ten = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|factor| factor * ten).into_iter().find(|&step| step >= least).unwrap_or(10.0 * ten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_begins_at_0_and_a_log_axis_has_labels_however_narrow() {
        assert_eq!(labels(Scale::Linear, &[118_000.0, 30_000.0]), ["0", "50k", "100k"]);
        assert_eq!(labels(Scale::Log, &[3.0, 9e5]), ["10", "100", "1k", "10k", "100k", "1M"]);
        assert_eq!(labels(Scale::Log, &[14.0, 110.0]), ["20", "50", "100"]);
        assert_eq!(labels(Scale::Log, &[60.0, 62.0]), ["60", "80"]);
    }

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        Ruler::of_values(scale, values.iter().copied()).ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn zero_is_one_step_left_of_the_least_point_of_a_log_axis() {
        let ruler = Ruler::of_points(Scale::Log, [0.0, 10.0, 100.0, 1000.0].into_iter(), |_| 0.1);
        let places: Vec<f64> = ruler.ticks.iter().map(|(place, _)| *place).collect();
        for (place, expected) in places.iter().zip([0.05, 0.35, 0.65, 0.95]) {
            assert!((place - expected).abs() < 1e-9, "{places:?}");
        }
        assert_eq!(ruler.ticks[0].1, "0");
    }

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let ruler = Ruler::of_points(Scale::Linear, (0..=20).map(f64::from), |_| 0.2);
        assert!(ruler.ticks.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 0.2), "{:?}", ruler.ticks);
        assert!(ruler.ticks.len() >= 4, "{:?}", ruler.ticks);
    }
}
