//! Properties of every picture, whatever is in it.

use hdrhistogram::Histogram;
use models::Look;
use proptest::{collection::vec, option, prelude::*};
use roxmltree::{Document, Node};

use super::*;

const EPOLL: Server = server(4, "epoll");
const ODD: Server = server(9, "<&\">\u{1}\n'");

const fn server(index: usize, name: &str) -> Server<'_> {
    Server { index, name, look: Look::of_other(index) }
}

const LINEAR: Axis = Axis { title: "connections", scale: Scale::Linear };
const LOG: Axis = Axis { title: "µs", scale: Scale::Log };

fn dot(x: f64, y: f64, kind: ValueKind) -> Dot {
    Dot { x, value: Some(Value { y, interval: Some((y * 0.9, y * 1.1)), kind }), tooltip: format!("{y} at {x}") }
}

fn failed(x: f64) -> Dot {
    Dot { x, value: None, tooltip: format!("failed at {x}") }
}

fn of_class<'a>(picture: &'a Document, class: &str) -> Vec<Node<'a, 'a>> {
    let has = |node: &Node| node.attribute("class").is_some_and(|classes| classes.split(' ').any(|one| one == class));
    picture.descendants().filter(has).collect()
}

fn titles(picture: &Document) -> Vec<String> {
    let title = |mark: Node| mark.first_element_child().unwrap().text().unwrap().to_string();
    of_class(picture, "mark").into_iter().map(title).collect()
}

fn shapes<'a>(mark: &Node<'a, 'a>, tag: &str) -> Vec<Node<'a, 'a>> {
    mark.children().filter(|node| node.has_tag_name(tag)).collect()
}

/// The coordinates of a shape's points, in tenths of a unit.
fn points(shape: Node) -> Vec<(f64, f64)> {
    let point = |point: &str| point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
    shape.attribute("points").unwrap().split(' ').map(point).collect()
}

fn middle(shape: Node) -> (f64, f64) {
    let points = points(shape);
    let mean = |all: Vec<f64>| all.iter().sum::<f64>() / all.len() as f64;
    (mean(points.iter().map(|point| point.0).collect()), mean(points.iter().map(|point| point.1).collect()))
}

#[test]
fn each_server_has_its_group_with_a_mark_and_tooltip_per_point() {
    let points = |y: f64| vec![dot(1.0, y, ValueKind::Measured), dot(2.0, 2.0 * y, ValueKind::Measured)];
    let drawn = [Curve { server: EPOLL, points: points(5.0) }, Curve { server: ODD, points: points(7.0) }];
    let svg = curves("a & b", &LINEAR, &LOG, &drawn);
    let picture = Document::parse(&svg).unwrap();
    assert_eq!(picture.root_element().attribute("aria-label"), Some("a & b"));
    assert_eq!(picture.root_element().first_element_child().unwrap().text(), Some("a & b"));
    let servers = of_class(&picture, "server");
    let names: Vec<_> = servers.iter().map(|group| (group.attribute("class"), group.attribute("data-server"))).collect();
    assert_eq!(names, [(Some("server s4"), Some("epoll")), (Some("server s9"), Some("<&\">  '"))]);
    assert_eq!(titles(&picture), ["5 at 1", "10 at 2", "7 at 1", "14 at 2"]);
    let data = |mark: &Node| ["data-server", "data-x", "data-y"].map(|name| mark.attribute(name).unwrap().to_string());
    assert_eq!(data(&of_class(&picture, "mark")[1]), ["epoll", "2", "10"]);
    assert!(of_class(&picture, "mark").iter().all(|mark| mark.ancestors().any(|group| servers.contains(&group))));
}

#[test]
fn marks_show_what_limits_a_value() {
    let drawn = vec![
        dot(1.0, 5.0, ValueKind::Measured),
        dot(2.0, 5.0, ValueKind::LimitedElsewhere),
        dot(3.0, 5.0, ValueKind::Unserved),
        failed(4.0),
    ];
    let svg = curves("marks", &LINEAR, &LINEAR, &[Curve { server: EPOLL, points: drawn }]);
    let picture = Document::parse(&svg).unwrap();
    let [full, hollow, unserved, missing] = of_class(&picture, "mark")[..] else { panic!("{svg}") };
    assert_eq!(shapes(&full, "polygon")[0].attribute("class"), None);
    assert_eq!(shapes(&hollow, "polygon")[0].attribute("class"), Some("paper"));
    assert_eq!(hollow.attribute("stroke"), Some("currentColor"));
    assert_eq!((shapes(&unserved, "polygon").len(), shapes(&unserved, "polyline").len()), (0, 3), "an interval and a cross");
    let dashed = of_class(&picture, "dashed")[0];
    assert_eq!(points(dashed.first_element_child().unwrap())[1].0, middle(shapes(&unserved, "polyline")[1]).0);
    // On the axis, which is where marks of 0 would be.
    let [one, other] = shapes(&missing, "polyline")[..] else { panic!("{svg}") };
    assert_eq!(middle(one), middle(other));
    let axis = of_class(&picture, "muted-line").into_iter().find(|line| points(*line)[0].0 < points(*line)[1].0).unwrap();
    assert_eq!(middle(one).1, points(axis)[0].1);
    assert_eq!(missing.attribute("data-y"), None);
    for note in ["hollow: ", "×: ", "× on axis: "] {
        assert!(svg.contains(note), "{note}");
    }
}

#[test]
fn values_are_where_their_axis_says() {
    let heights = |axis: &Axis, values: [f64; 3]| {
        let drawn = values.map(|y| dot(1.0, y, ValueKind::Measured)).to_vec();
        let svg = curves("", &LINEAR, axis, &[Curve { server: EPOLL, points: drawn }]);
        let picture = Document::parse(&svg).unwrap();
        of_class(&picture, "mark").iter().map(|mark| middle(shapes(mark, "polygon")[0]).1).collect::<Vec<f64>>()
    };
    for same_steps in [heights(&LINEAR, [10.0, 20.0, 30.0]), heights(&LOG, [10.0, 100.0, 1000.0])] {
        let steps = [same_steps[0] - same_steps[1], same_steps[1] - same_steps[2]];
        assert!(steps[0] > 200.0 && (steps[0] - steps[1]).abs() <= 2.0, "{same_steps:?}");
    }
}

#[test]
fn a_value_without_a_place_on_a_log_axis_is_on_the_edge_and_marked() {
    let drawn = vec![dot(0.0, 5.0, ValueKind::Measured), dot(10.0, 0.0, ValueKind::Measured)];
    let x = Axis { title: "idle", scale: Scale::Log };
    let svg = curves("", &x, &LOG, &[Curve { server: EPOLL, points: drawn }]);
    assert_eq!(titles(&Document::parse(&svg).unwrap()), ["5 at 0", "0 at 10 (not on this axis)"]);
}

fn histogram(latencies_ns: impl Iterator<Item = u64>) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    latencies_ns.for_each(|ns| histogram.record(ns).unwrap());
    histogram
}

#[test]
fn percentiles_are_marked_where_ten_requests_lie_beyond() {
    let latencies = histogram((1..=100).map(|index| index * 1000));
    let svg = percentiles("", Scale::Log, &[Distribution { server: EPOLL, latency_ns: &latencies }]);
    let picture = Document::parse(&svg).unwrap();
    let expected = ["epoll: 50 % of 100 requests within 50.0 µs", "epoll: 90 % of 100 requests within 90.0 µs"];
    assert_eq!(titles(&picture), expected);
    // The faint part goes on where the other ends: at 90 %.
    let faint = of_class(&picture, "faint")[0];
    let solid = faint.prev_sibling_element().unwrap();
    let (end, begin) = (*points(solid).last().unwrap(), points(faint.first_element_child().unwrap())[0]);
    assert_eq!(end, begin);
    let ninety = of_class(&picture, "mark")[1];
    assert!((middle(shapes(&ninety, "polygon")[0]).0 - end.0).abs() <= 1.0);
}

#[test]
fn a_picture_of_percentiles_is_small() {
    let latencies: Vec<_> =
        (1..=5).map(|by| histogram((0..50_000).map(|index: u64| by * (10_000 + index * index % 99_991)))).collect();
    let distribution = |(index, latency_ns)| Distribution { server: server(index, "thread-per-conn"), latency_ns };
    let all: Vec<_> = latencies.iter().enumerate().map(distribution).collect();
    let bytes = percentiles("title", Scale::Log, &all).len();
    assert!(bytes <= 12_288, "{bytes}");
}

#[test]
fn a_single_slow_request_shows_in_a_heat_map() {
    let mut latencies = histogram(std::iter::once(1_000_000));
    latencies.record_n(1000, 1_000_000).unwrap();
    let svg = heat("", &EPOLL, &[latencies.clone(), latencies], (1000, 1_000_000));
    let picture = Document::parse(&svg).unwrap();
    let tooltip = |round| format!("epoll, round {round}: 50 % within 1.0 µs, 99 % within 1.0 µs, slowest 1,000 µs");
    assert_eq!(titles(&picture), [tooltip(1), tooltip(2)]);
    let cells = picture.descendants().find(|node| node.attribute("shape-rendering").is_some()).unwrap();
    let opacities: Vec<_> = cells.children().map(|cell| cell.attribute("opacity")).collect();
    assert_eq!(opacities, [None, Some("0.15"), None, Some("0.15")]);
}

#[test]
fn lengths_of_bars_are_proportional() {
    let bar = |server, parts: &[f64]| Bar { server, parts: parts.to_vec(), tooltip: "all".into() };
    let svg = bars("", "µs", &["user", "system"], &[bar(EPOLL, &[10.0, 20.0]), bar(ODD, &[5.0, 0.0])]);
    let picture = Document::parse(&svg).unwrap();
    let parts: Vec<_> = of_class(&picture, "mark")
        .into_iter()
        .flat_map(|mark| mark.descendants())
        .filter(|node| node.has_tag_name("rect"))
        .collect();
    let widths: Vec<f64> = parts.iter().map(|part| part.attribute("width").unwrap().parse().unwrap()).collect();
    let classes: Vec<_> = parts.iter().map(|part| part.attribute("class").unwrap()).collect();
    assert_eq!(classes, ["k0", "k1", "k0"]);
    assert!((widths[1] - 2.0 * widths[0]).abs() <= 2.0 && (widths[0] - 2.0 * widths[2]).abs() <= 2.0, "{widths:?}");
    let words: Vec<_> = picture.descendants().filter(|node| node.has_tag_name("text")).filter_map(|node| node.text()).collect();
    assert_eq!(words[3..7], ["epoll", "10.0", "20.0", "30.0"]);
}

#[test]
fn a_picture_grows_with_what_is_in_it() {
    let bar = |index| Bar { server: server(index, "a-server-with-a-long-name"), parts: vec![1.0], tooltip: String::new() };
    let rows: Vec<Bar> = (0..20).map(bar).collect();
    let svg = bars("", "", &["all"], &rows);
    let picture = Document::parse(&svg).unwrap();
    let number = |node: &Node, name| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let parts: Vec<_> = of_class(&picture, "k0").into_iter().skip(1).collect();
    assert!(parts.iter().all(|part| number(part, "height") == number(&parts[0], "height")), "none is cut off");
    let height: f64 = picture.root_element().attribute("viewBox").unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let last = parts.last().unwrap();
    assert!(number(last, "y") + number(last, "height") < 10.0 * height);
}

#[test]
fn a_standalone_picture_contains_its_colours() {
    let svg = curves("", &LINEAR, &LOG, &[]);
    let file = standalone(&svg, &css(&[EPOLL]));
    let picture = Document::parse(&file).unwrap();
    let style = picture.root_element().first_element_child().unwrap();
    assert!(style.has_tag_name("style") && style.text().unwrap().contains(".s4 { color: #"));
    assert_eq!(style.next_sibling_element().unwrap().attribute("class"), Some("paper"));
}

/// Any text, with characters that XML does not allow.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..20).prop_map(|characters| characters.into_iter().collect())
}

fn scale() -> impl Strategy<Value = Scale> {
    prop_oneof![Just(Scale::Linear), Just(Scale::Log)]
}

/// Any number, but mostly those that a run has.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..1e6, 1 => Just(0.0), 1 => proptest::num::f64::ANY]
}

fn any_dot() -> impl Strategy<Value = Dot> {
    let kind = prop_oneof![Just(ValueKind::Measured), Just(ValueKind::LimitedElsewhere), Just(ValueKind::Unserved)];
    let value = (number(), option::of((number(), number())), kind).prop_map(|(y, interval, kind)| Value { y, interval, kind });
    (number(), option::of(value), text()).prop_map(|(x, value, tooltip)| Dot { x, value, tooltip })
}

fn latencies() -> impl Strategy<Value = Histogram<u64>> {
    let latency = prop_oneof![Just(0), 1..10_000_000_000_u64, Just(1 << 40)];
    vec((latency, 1..100_000_u64), 0..20).prop_map(|recorded| {
        let mut histogram = histogram(std::iter::empty());
        recorded.into_iter().for_each(|(ns, times)| histogram.record_n(ns, times).unwrap());
        histogram
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_curves_are_well_formed(
        all in vec((any::<usize>(), text(), vec(any_dot(), 0..6)), 0..10), title in text(), scales in (scale(), scale()),
    ) {
        let drawn: Vec<Curve> =
            all.iter().map(|(index, name, points)| Curve { server: server(*index, name), points: points.clone() }).collect();
        let axes = [scales.0, scales.1].map(|scale| Axis { title: &title, scale });
        let svg = standalone(&curves(&title, &axes[0], &axes[1], &drawn), "");
        let picture = Document::parse(&svg).unwrap();
        let dots: usize = drawn.iter().map(|curve| curve.points.len()).sum();
        prop_assert_eq!(of_class(&picture, "mark").len(), dots);
        prop_assert!(!svg.contains("NaN,") && !svg.contains(",NaN"));
    }

    #[test]
    fn any_distributions_and_heat_maps_are_well_formed(
        all in vec(latencies(), 0..4), name in text(), scale in scale(), range in any::<(u64, u64)>(),
    ) {
        let server = server(2, &name);
        let drawn: Vec<_> = all.iter().map(|latency_ns| Distribution { server, latency_ns }).collect();
        Document::parse(&standalone(&percentiles(&name, scale, &drawn), "")).unwrap();
        let svg = heat(&name, &server, &all, range);
        prop_assert_eq!(of_class(&Document::parse(&svg).unwrap(), "mark").len(), all.len());
    }

    #[test]
    fn any_bars_are_well_formed(all in vec((text(), vec(number(), 0..8)), 0..10), kinds in vec(text(), 0..8)) {
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let servers = all.iter().enumerate().map(|(index, (name, _))| server(index, name));
        let parts = all.iter().map(|(_, parts)| parts.clone());
        let drawn: Vec<Bar> = servers.zip(parts).map(|(server, parts)| Bar { server, parts, tooltip: "x".into() }).collect();
        let svg = bars("parts", "µs", &kinds, &drawn);
        prop_assert_eq!(of_class(&Document::parse(&svg).unwrap(), "mark").len(), all.len());
    }
}
