//! The figures of an experiment: which pictures are drawn, and on which scales.

use hdrhistogram::Histogram;
use statistics::Estimate;

use crate::{
    plan::{
        experiment::Experiment,
        metric::{self, Metric},
        number::grouped,
    },
    run::bottleneck::Bottleneck,
    stats::summary::{Cell, Field},
    tell::{
        legend::Legend,
        picture::{self, Axis, Bar, Curve, Distribution, Dot, Scale, Server, Value, ValueKind},
        tables,
    },
};

/// From this ratio of the greatest to the least value on, a log axis shows more.
const WIDE: f64 = 30.0;

/// From this ratio of the last to the first place on an experiment's axis on, the places would crowd at its left end.
const SPREAD: f64 = 10.0;

/// Under this ratio, a log axis has hardly a tick.
const NARROW: f64 = 3.0;

/// Metrics in the order in which they are drawn, of those that an experiment shows beside its main value.
const DRAWN_FIRST: [&Metric; 13] = [
    &metric::P99,
    &metric::P99_9,
    &metric::GOODPUT,
    &metric::CPU_US,
    &metric::BALANCE,
    &metric::CPU_SHARE,
    &metric::JAIN,
    &metric::GREEDY_THROUGHPUT,
    &metric::PEAK_RSS,
    &metric::THREADS,
    &metric::CALLS,
    &metric::THROUGHPUT,
    &metric::P50,
];

/// How many of them are drawn.
const OTHERS: usize = 3;

/// A picture with what belongs to it.
pub struct Figure {
    /// A name that no other has.
    pub id: String,
    pub title: String,
    /// What it shows: a metric's name, or a kind of picture.
    pub metric: &'static str,
    pub variant: &'static str,
    /// Where on the axis, of a picture of one point.
    pub point: Option<u32>,
    /// The CSS class of its server, of a picture of one server.
    pub server: Option<String>,
    /// One or two; the first is shown until another is chosen.
    pub views: Vec<View>,
    pub caption: String,
}

/// The same picture on another scale.
pub struct View {
    pub scale: &'static str,
    pub svg: String,
}

/// The metric that servers are ranked by over the axis, a figure per variant.
pub fn main(experiment: &Experiment, fields: &[Field], legend: &Legend) -> Vec<Figure> {
    over_axis(experiment, &[experiment.ranked_by], fields, legend)
}

/// Other metrics over the axis.
pub fn others(experiment: &Experiment, fields: &[Field], legend: &Legend) -> Vec<Figure> {
    let shown = |metric: &&&Metric| experiment.shows.iter().any(|other| other.name == metric.name);
    let metrics: Vec<&Metric> = DRAWN_FIRST.iter().filter(shown).take(OTHERS).copied().collect();
    over_axis(experiment, &metrics, fields, legend)
}

/// Variant by variant, a figure per metric.
fn over_axis(experiment: &Experiment, metrics: &[&'static Metric], fields: &[Field], legend: &Legend) -> Vec<Figure> {
    let of_variant = |fields: &[Field]| {
        let figures = metrics.iter().filter_map(|metric| curves(experiment, metric, fields, legend));
        figures.collect::<Vec<_>>()
    };
    fields.chunk_by(|one, next| one.point.place.variant == next.point.place.variant).flat_map(of_variant).collect()
}

/// `None` where no trial has such a value, and none failed.
fn curves(experiment: &Experiment, metric: &'static Metric, fields: &[Field], legend: &Legend) -> Option<Figure> {
    let variant = &*fields.first()?.point.place.variant;
    let cells = || fields.iter().flat_map(|field| &field.cells);
    if !cells().any(|cell| dot(cell, metric).is_some()) {
        return None;
    }
    let title = match variant {
        "" => format!("{} by {}", metric.title(), experiment.axis),
        _ => format!("{} by {}, {variant}", metric.title(), experiment.axis),
    };
    let xs: Vec<f64> = fields.iter().map(|field| f64::from(field.point.place.x)).filter(|&x| x > 0.0).collect();
    let x = Axis { title: experiment.axis, scale: if ratio(&xs) >= SPREAD { Scale::Log } else { Scale::Linear } };
    // A server that served no client has 0 replies, for which a log axis has no place.
    let ys = cells()
        .filter_map(|cell| cell.estimate(metric))
        .map(|estimate| estimate.median)
        .filter(|&y| y > 0.0)
        .collect::<Vec<_>>();
    let draw = |scale| {
        let points = |name: &str| cells().filter(|cell| cell.server == name).filter_map(|cell| dot(cell, metric)).collect();
        // Not all servers take part in every experiment.
        let servers = legend.servers().iter().filter(|server| cells().any(|cell| cell.server == server.name));
        let curves: Vec<Curve> = servers.map(|&server| Curve { points: points(server.name), server }).collect();
        picture::curves(&title, &x, &Axis { title: &metric.title(), scale }, &curves)
    };
    let mut scales = scales(&ys);
    if metric.unit.is_empty() {
        // Shares are read from 0 to 1.
        scales.sort_by_key(|&scale| scale == Scale::Log);
    }
    let views = scales.into_iter().map(|scale| View::new(scale, draw(scale))).collect();
    Some(Figure {
        id: id(&[experiment.name, metric.name, variant]),
        title,
        metric: metric.name,
        variant,
        point: None,
        server: None,
        views,
        caption: String::new(),
    })
}

/// `None` where a server has no value at a point and did not fail either.
fn dot(cell: &Cell, metric: &Metric) -> Option<Dot> {
    let x = f64::from(cell.point.place.x);
    let place = format!("{} at {}", cell.server, grouped(x, 0));
    let Some(estimate) = cell.estimate(metric) else {
        let failure = cell.failures().first().copied()?;
        return Some(Dot { x, value: None, tooltip: format!("{place}: {} failed: {failure}", tables::rounds_failed(cell)) });
    };
    let text = cell.at_least_mark(metric).to_owned() + &with_interval(metric, estimate);
    let tooltip = format!("{place}: {}", [text].into_iter().chain(remarks(cell)).collect::<Vec<_>>().join("; "));
    Some(Dot { x, value: Some(Value { y: estimate.median, interval: estimate.interval, kind: kind(cell) }), tooltip })
}

/// `137,480 replies/s (99,940 .. 150,987)`, `p99 118.2 µs (101.5 .. 130.0)`.
fn with_interval(metric: &Metric, estimate: Estimate) -> String {
    let interval = estimate.interval.map(|(low, high)| format!(" ({} .. {})", metric.number(low), metric.number(high)));
    metric.labelled(estimate.median) + &interval.unwrap_or_default()
}

fn kind(cell: &Cell) -> ValueKind {
    if !cell.serves_all() {
        ValueKind::Unserved
    } else if is_generator_bound(cell) || tables::is_saturated(cell) {
        ValueKind::LimitedElsewhere
    } else {
        ValueKind::Measured
    }
}

fn is_generator_bound(cell: &Cell) -> bool {
    cell.bottleneck() == Some(Bottleneck::Generator)
}

/// The reasons for the kind of its value.
fn remarks(cell: &Cell) -> Vec<String> {
    let service = if !cell.serves_all() {
        Some(tables::clients(cell))
    } else {
        tables::is_saturated(cell).then(|| "did not keep up with the rate requested".into())
    };
    let generator = is_generator_bound(cell).then(|| "limited by the load generator".into());
    service.into_iter().chain(generator).collect()
}

/// A closer look at one point: latencies, processor time, system calls and context switches.
pub fn closer(experiment: &Experiment, field: &Field, legend: &Legend) -> Vec<Figure> {
    let at = AtPoint { experiment, field, legend };
    let percentiles = at.percentiles(&[Scale::Log, Scale::Linear]);
    let split = at.bars("cpu_split", "CPU time, user and kernel", "share of one processor", &CPU_SPLIT);
    let split = split.map(|figure| Figure { caption: softirqs(field).unwrap_or_default(), ..figure });
    // Idle connections have no requests.
    let per_request = percentiles.is_some().then(|| {
        let calls = at.bars("calls_by_kind", "System calls per request", "calls/request", &CALLS_BY_KIND);
        [calls, at.bars("switches", "Context switches per request", "switches/request", &SWITCHES)]
    });
    let costs = [split].into_iter().chain(per_request.into_iter().flatten()).flatten();
    percentiles.into_iter().chain(costs).chain(at.heat()).collect()
}

/// Latencies at a point, and round by round.
pub fn latencies(experiment: &Experiment, field: &Field, legend: &Legend) -> Vec<Figure> {
    let at = AtPoint { experiment, field, legend };
    at.percentiles(&[Scale::Log]).into_iter().chain(at.heat()).collect()
}

/// A part of a bar: its name and its length.
type Part = (&'static str, fn(&Cell) -> Option<f64>);

const CPU_SPLIT: [Part; 2] =
    [("user", |cell| median(cell, &metric::USER_CPU_SHARE)), ("kernel", |cell| median(cell, &metric::SYSTEM_CPU_SHARE))];

/// What softirqs took, which no server is free of; `None` where that is unknown.
fn softirqs(field: &Field) -> Option<String> {
    let shares: Vec<f64> = field.cells.iter().filter_map(|cell| median(cell, &metric::SOFTIRQ_CPU_SHARE)).collect();
    let least = shares.iter().copied().min_by(f64::total_cmp)?;
    let greatest = shares.into_iter().max_by(f64::total_cmp)?;
    let [least, greatest] = [least, greatest].map(|share| format!("{share:.2}"));
    let range = if least == greatest { least } else { format!("{least} to {greatest}") };
    Some(format!(
        "Softirqs took {range} of a processor. They deliver packets, on loopback also those to the \
         load generator. Most kernels count them as kernel time of the server."
    ))
}

const CALLS_BY_KIND: [Part; 4] = [
    ("waits", |cell| median(cell, &metric::WAITS)),
    ("reads", |cell| median(cell, &metric::READS)),
    ("writes", |cell| median(cell, &metric::WRITES)),
    ("other", other_calls),
];

const SWITCHES: [Part; 1] = [("switches", |cell| median(cell, &metric::SWITCHES))];

fn median(cell: &Cell, metric: &Metric) -> Option<f64> {
    cell.estimate(metric).map(|estimate| estimate.median)
}

/// Accepts and changes of interest. The medians of parts need not add up to the median of the whole.
fn other_calls(cell: &Cell) -> Option<f64> {
    let kinds = [&metric::WAITS, &metric::READS, &metric::WRITES];
    let known: f64 = kinds.into_iter().map(|kind| median(cell, kind)).sum::<Option<f64>>()?;
    Some((median(cell, &metric::CALLS)? - known).max(0.0))
}

/// One point of an experiment.
struct AtPoint<'a> {
    experiment: &'a Experiment,
    field: &'a Field<'a>,
    legend: &'a Legend<'a>,
}

impl<'a> AtPoint<'a> {
    /// Of all servers, or of one.
    fn figure(&self, metric: &'static str, what: &str, of: Option<&Server>, draw: impl FnOnce(&str) -> Vec<View>) -> Figure {
        let place = &self.field.point.place;
        let title = format!("{what}, at {place}");
        let name = of.map_or("", |server| server.name);
        Figure {
            id: id(&[self.experiment.name, metric, &place.slug(), name]),
            views: draw(&title),
            title,
            metric,
            variant: &place.variant,
            point: Some(place.x),
            server: of.map(Server::class),
            caption: String::new(),
        }
    }

    fn server(&self, cell: &'a Cell) -> Server<'a> {
        self.legend.server(&cell.server)
    }

    /// `None` where there are no latencies: with idle connections only, and where all failed.
    fn percentiles(&self, scales: &[Scale]) -> Option<Figure> {
        let latencies: Vec<(&Cell, Histogram<u64>)> = self.field.cells.iter().map(|cell| (*cell, cell.latency())).collect();
        let recorded = latencies.iter().filter(|(_, latency)| !latency.is_empty());
        let distributions: Vec<Distribution> =
            recorded.map(|(cell, latency_ns)| Distribution { server: self.server(cell), latency_ns }).collect();
        if distributions.is_empty() {
            return None;
        }
        let draw = |title: &str| {
            let view = |&scale: &Scale| View::new(scale, picture::percentiles(title, scale, &distributions));
            scales.iter().map(view).collect()
        };
        let caption = "Each step to the right is ten times rarer.".into();
        Some(Figure { caption, ..self.figure("latency_percentiles", "Latency percentiles", None, draw) })
    }

    /// Latencies over the rounds, a picture per server, all with the same range.
    fn heat(&self) -> Vec<Figure> {
        let columns = |cell: &&'a Cell| (*cell, cell.latency_of_rounds().collect::<Vec<_>>());
        let all: Vec<(&Cell, Vec<Histogram<u64>>)> = self.field.cells.iter().map(columns).collect();
        let filled = || all.iter().flat_map(|(_, columns)| columns).filter(|column| !column.is_empty());
        let Some(least) = filled().map(Histogram::min).min() else { return Vec::new() };
        let range_ns = (least.max(1), filled().map(Histogram::max).max().unwrap_or(least));
        let figure = |(cell, columns): &(&'a Cell, Vec<Histogram<u64>>)| {
            let server = self.server(cell);
            let draw = |title: &str| vec![View::new(Scale::Log, picture::heat(title, &server, columns, range_ns))];
            self.figure("latency_heat", "Latency round by round", Some(&server), draw)
        };
        let is_recorded = |(_, columns): &&(&Cell, Vec<Histogram<u64>>)| columns.iter().any(|column| !column.is_empty());
        all.iter().filter(is_recorded).map(figure).collect()
    }

    /// `None` where no server has all the parts.
    fn bars(&self, metric: &'static str, what: &str, unit: &str, parts: &[Part]) -> Option<Figure> {
        let bar = |cell: &&'a Cell| {
            let lengths: Vec<f64> = parts.iter().map(|(_, length)| length(cell)).collect::<Option<_>>()?;
            let each = parts.iter().zip(&lengths).map(|((kind, _), length)| format!("{kind} {length:.2}"));
            let tooltip = format!("{}: {}", cell.server, each.collect::<Vec<_>>().join(", "));
            Some(Bar { server: self.server(cell), parts: lengths, tooltip })
        };
        let bars: Vec<Bar> = self.field.cells.iter().filter_map(bar).collect();
        if bars.is_empty() {
            return None;
        }
        let kinds: Vec<&str> = parts.iter().map(|(kind, _)| *kind).collect();
        let draw = |title: &str| vec![View::new(Scale::Linear, picture::bars(title, unit, &kinds, &bars))];
        Some(self.figure(metric, what, None, draw))
    }
}

impl View {
    fn new(scale: Scale, svg: String) -> View {
        let scale = match scale {
            Scale::Linear => "linear",
            Scale::Log => "log",
        };
        View { scale, svg }
    }
}

/// The greatest divided by the least; not a number without values, and where one is not above 0.
fn ratio(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if least > 0.0 && greatest.is_finite() { greatest / least } else { f64::NAN }
}

/// The useful scales for these values; the best first.
fn scales(values: &[f64]) -> Vec<Scale> {
    match ratio(values) {
        wide if wide >= WIDE => vec![Scale::Log, Scale::Linear],
        some if some >= NARROW => vec![Scale::Linear, Scale::Log],
        _ => vec![Scale::Linear],
    }
}

fn id(parts: &[&str]) -> String {
    let parts: Vec<String> = parts.iter().filter(|part| !part.is_empty()).map(|part| part.replace(' ', "-")).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_decides_the_scale() {
        let first = |values: &[f64]| scales(values).iter().map(|scale| *scale == Scale::Log).collect::<Vec<_>>();
        assert_eq!(first(&[10.0, 300.0]), [true, false]);
        assert_eq!(first(&[10.0, 299.0]), [false, true]);
        for narrow in [&[10.0, 29.0][..], &[0.0, 1e6], &[-1.0, 1e6], &[5.0], &[]] {
            assert_eq!(first(narrow), [false], "{narrow:?}");
        }
    }
}
