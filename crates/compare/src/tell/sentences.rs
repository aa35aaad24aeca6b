//! What an experiment shows, in sentences made from its data alone.

use crate::{
    plan::experiment::{Experiment, Point, Servers},
    stats::summary::{Cell, Field, had_several_processors, servers_of},
    tell::{
        text::{capitalized, clause, listed, numbers, places},
        tie::noise_of_tie,
    },
};

/// What the data show at a point.
#[derive(Debug, PartialEq)]
enum Outcome<'a> {
    /// The servers of the first rank, while others have a later one.
    Lead(Vec<&'a str>),
    /// All that have a rank share the first.
    Tie(Vec<&'a str>),
    /// Only one served all clients.
    Alone(&'a str),
    /// Only one has a value to rank by in every round.
    OneRanked(&'a str),
    /// There are too few rounds to rank; the one with the best median.
    Unranked(&'a str),
    NoneServedAll,
    AllFailed,
}

/// What the experiment shows, a sentence per curve, and what it does not show.
pub fn sentences(experiment: &Experiment, fields: &[Field]) -> Vec<String> {
    let curves = fields.chunk_by(|one, other| one.point.place.variant == other.point.place.variant);
    let clauses = curves.map(|curve| of_curve(experiment, curve)).filter(|clauses| !clauses.is_empty());
    let scaling = (experiment.servers == Servers::WithLoops && !had_several_processors(fields)).then(|| NOT_SCALED.to_owned());
    clauses.map(|clauses| capitalized(&clauses) + ".").chain(scaling).collect()
}

/// Of loops that share a processor.
const NOT_SCALED: &str = "Scaling over processors was not measured: that takes two or more cores each for server and generator, and here \
    all loops ran on one processor. What several loops cost there is the CPU per request; how evenly connections are spread over them \
    is the balance.";

fn of_curve(experiment: &Experiment, fields: &[Field]) -> String {
    let outcomes: Vec<(&Field, Outcome)> = fields.iter().filter_map(|field| Some((field, outcome(field)?))).collect();
    let segments = outcomes.chunk_by(|one, other| one.1 == other.1).enumerate().map(|(index, alike)| {
        let points: Vec<&Point> = alike.iter().map(|(field, _)| field.point).collect();
        let places = if index == 0 { places(experiment, &points) } else { numbers(experiment, &points) };
        segment(experiment, alike, &places)
    });
    segments.chain(stragglers(experiment, fields)).collect::<Vec<_>>().join("; ")
}

/// `None` where those that serve all clients have no value to rank by.
fn outcome<'a>(field: &Field<'a>) -> Option<Outcome<'a>> {
    let server = |(cell, _): &(&'a Cell, Option<usize>)| &*cell.server;
    let all: Vec<_> = field.cells.iter().copied().zip(field.ranks.iter().copied()).collect();
    let served: Vec<_> =
        all.iter().filter(|(cell, _)| cell.serves_all() && cell.estimate(field.metric).is_some()).copied().collect();
    let first: Vec<_> = served.iter().filter(|(_, rank)| *rank == Some(1)).map(server).collect();
    Some(match &served[..] {
        [] if all.iter().all(|(cell, _)| cell.failed()) => Outcome::AllFailed,
        [] if all.iter().any(|(cell, _)| cell.serves_all()) => return None,
        [] => Outcome::NoneServedAll,
        [alone] => Outcome::Alone(server(alone)),
        _ if first.is_empty() => Outcome::Unranked(&field.standing()[0].0.server),
        _ if served.iter().any(|(_, rank)| rank.is_some_and(|rank| rank > 1)) => Outcome::Lead(first),
        _ => match first[..] {
            [server] => Outcome::OneRanked(server),
            _ => Outcome::Tie(first),
        },
    })
}

/// Points of one outcome, with the values of the last of them.
fn segment(experiment: &Experiment, alike: &[(&Field, Outcome)], places: &str) -> String {
    let (last, outcome) = &alike[alike.len() - 1];
    let values = best_and_worst(experiment, last, alike.len() > 1);
    let clause = match outcome {
        Outcome::Lead(leaders) => match &leaders[..] {
            [leader] => format!("{leader} leads ({values})"),
            _ => format!("{} are tied for first ({values})", listed(leaders)),
        },
        Outcome::Tie(servers) => match noise_of_tie(last) {
            Some(noise) => format!("{} are tied within the noise ({noise}; {values})", listed(servers)),
            None => format!("{} are tied ({values}; the rounds vary too much)", listed(servers)),
        },
        Outcome::Alone(server) if last.cells.len() == 1 => format!("{server} serves all clients ({values})"),
        Outcome::Alone(server) => format!("only {server} serves all clients ({values})"),
        Outcome::OneRanked(server) => {
            format!("of those that serve all clients, only {server} has a value in every round ({values})")
        }
        Outcome::Unranked(best) => format!("{best} has the best median, with too few rounds to rank ({values})"),
        Outcome::NoneServedAll => "no server serves all clients".into(),
        Outcome::AllFailed => {
            let reason = last.cells.iter().find_map(|cell| cell.failures().first().copied()).unwrap_or("unknown");
            format!("every server failed (first reason: {})", clause(reason))
        }
    };
    format!("at {places}, {clause}")
}

/// Of those that serve all clients: `replies/s at 1,000: epoll 155,533, poll 1,733`.
fn best_and_worst(experiment: &Experiment, field: &Field, name_point: bool) -> String {
    let value = |cell: &Cell| Some(format!("{} {}", cell.server, cell.number(field.metric)?));
    let served = field.standing().into_iter().map(|(cell, _)| cell).filter(|cell| cell.serves_all());
    let values = match &served.filter_map(value).collect::<Vec<_>>()[..] {
        [best, .., worst] => format!("{best}, {worst}"),
        few => few.concat(),
    };
    let at = if name_point { format!(" at {}", numbers(experiment, &[field.point])) } else { String::new() };
    format!("{}{at}: {values}", field.metric.title())
}

/// Which servers did not serve all clients, and where.
fn stragglers(experiment: &Experiment, fields: &[Field]) -> Vec<String> {
    let at = |server: &str, is: fn(&Cell) -> bool| {
        let points: Vec<&Point> =
            fields.iter().filter(|field| field.cell(server).is_some_and(is)).map(|field| field.point).collect();
        match (points.len(), fields.len()) {
            (0, _) => None,
            (1, 1) => Some(String::new()),
            (some, all) if some == all => Some(" at every point".into()),
            _ => Some(format!(" at {}", numbers(experiment, &points))),
        }
    };
    let clauses = |server: &str| {
        let unserved = at(server, |cell| cell.failures().is_empty() && !cell.serves_all());
        let failed = at(server, |cell| !cell.failures().is_empty());
        let unserved = unserved.map(|places| format!("{server} leaves clients unserved{places}"));
        [unserved, failed.map(|places| format!("{server} fails{places}"))]
    };
    if fields.iter().all(|field| outcome(field) == Some(Outcome::AllFailed)) {
        Vec::new()
    } else {
        servers_of(&fields.iter().collect::<Vec<_>>()).into_iter().flat_map(clauses).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec,
        prelude::*,
        sample::{self, Index},
    };

    use super::*;
    use crate::{
        run::record::Trial,
        synthetic::{SyntheticRun, fail, measured},
        tell::overview::Overview,
    };

    fn made_up(args: &[&str]) -> SyntheticRun {
        SyntheticRun::of(&[&["--experiment", "scaling"], args].concat())
    }

    fn text_of(made_up: &SyntheticRun) -> String {
        let scaling = Experiment::named("scaling").unwrap();
        sentences(scaling, &made_up.summary().fields(scaling)).concat()
    }

    #[test]
    fn a_clear_winner() {
        let run = made_up(&["--rounds", "5"]).scaled(|trial| if trial.server == "epoll" { 1.5 } else { 1.0 });
        assert_eq!(
            text_of(&run),
            "At 1, 10, 100, 1,000 and 10,000 active connections, epoll leads (replies/s at 10,000: epoll 151,500, poll 101,000)."
        );
    }

    #[test]
    fn a_tie() {
        assert_eq!(
            text_of(&made_up(&["--rounds", "5", "--only", "poll,epoll"])),
            "At 1, 10, 100, 1,000 and 10,000 active connections, poll and epoll are tied within the noise (±2 %; replies/s at \
             10,000: poll 101,000, epoll 101,000)."
        );
    }

    #[test]
    fn everything_failed() {
        let mut run = made_up(&["--rounds", "5"]);
        run.trials.iter_mut().for_each(|trial| fail(trial, "cannot connect"));
        assert_eq!(
            text_of(&run),
            "At 1, 10, 100, 1,000 and 10,000 active connections, every server failed (first reason: cannot connect)."
        );
    }

    #[test]
    fn leaders_that_share_the_first_rank_and_servers_without_a_rank() {
        let mut run = made_up(&["--rounds", "5"]).scaled(|trial| match (&*trial.server, trial.place.x) {
            ("nonblocking", 1) => 2.0,
            ("thread-per-conn", 10..) => 0.5,
            _ => 1.0,
        });
        run.trials_of("blocking").filter(|trial| trial.place.x > 1).for_each(|trial| {
            measured(trial).connections_unserved = u64::from(trial.place.x) - 1;
        });
        run.trials_of("poll").filter(|trial| trial.place.x == 10_000 && trial.round == 3).for_each(|trial| fail(trial, "gone"));
        assert_eq!(
            text_of(&run),
            "At 1 active connection, nonblocking leads (replies/s: nonblocking 202,000, epoll 101,000); at 10, 100 and 1,000, \
             nonblocking, poll and epoll are tied for first (replies/s at 1,000: nonblocking 101,000, thread-per-conn 50,500); at \
             10,000, nonblocking and epoll are tied for first (replies/s: nonblocking 101,000, thread-per-conn 50,500); blocking \
             leaves clients unserved at 10, 100, 1,000 and 10,000; poll fails at 10,000."
        );
    }

    #[test]
    fn one_round_is_too_few_to_rank() {
        assert_eq!(
            text_of(&made_up(&["--rounds", "1", "--only", "poll,epoll"])),
            "At 1, 10, 100, 1,000 and 10,000 active connections, epoll has the best median, with too few rounds to rank \
             (replies/s at 10,000: epoll 100,500, poll 100,000)."
        );
    }

    #[test]
    fn without_values_to_rank_by_there_is_no_sentence() {
        let run = SyntheticRun::of(&["--experiment", "footprint", "--rounds", "5"]);
        let footprint = Experiment::named("footprint").unwrap();
        assert!(sentences(footprint, &run.summary().fields(footprint)).is_empty());
    }

    proptest! {
        /// Whatever happened in a run, the sentences contradict neither one another nor the trials.
        #[test]
        fn any_run_is_told_without_contradiction(
            servers in sample::subsequence(&["blocking", "poll", "epoll"][..], 1..=3),
            rounds in 1..7_u32,
            faults in vec(any::<(Index, Fault)>(), 0..12),
        ) {
            let mut run = made_up(&["--only", &servers.join(","), "--rounds", &rounds.to_string()]);
            for (place, fault) in faults {
                fault.strike(place.get_mut(&mut run.trials));
            }
            let summary = run.summary();
            let scaling = Experiment::named("scaling").unwrap();
            let fields = summary.fields(scaling);
            let all: Vec<_> = fields.iter().map(|field| (scaling, field)).collect();
            let overview = Overview::of(&run.run, &summary, &all);
            let remarks = overview.standings.iter().flat_map(|standing| &standing.rows).filter_map(|row| row.remark.clone());
            for text in sentences(scaling, &fields).into_iter().chain(overview.answer).chain(remarks) {
                prop_assert!(!text.contains(" 0 points") && !text.contains("()"), "{text}");
                for clause in text.split(['.', ';', ',']) {
                    let is_of_several = [" are tied", " fail or leave"].iter().any(|words| clause.contains(words));
                    prop_assert!(!is_of_several || clause.contains(" and ") || clause.contains("ll ranked servers"), "{text}");
                }
                if let Some((_, served)) = text.split_once("serves ") && let Some((some, of)) = served.split_once(" of ") {
                    prop_assert!(!of.starts_with(&format!("{some} ")), "{text}");
                }
                if let Some((_, alone)) = text.split_once("only ") && alone.contains(" serves all clients") {
                    prop_assert!(servers.len() > 1, "{text}");
                }
            }
        }
    }

    /// What may happen to a trial.
    #[derive(Clone, Copy, Debug)]
    enum Fault {
        Fails,
        LeavesClientsUnserved,
        IsSlow,
    }

    impl Fault {
        fn strike(self, trial: &mut Trial) {
            match (self, &mut trial.measured) {
                (Fault::Fails, _) => fail(trial, "gone"),
                (Fault::LeavesClientsUnserved, Some(measured)) => measured.connections_unserved = 1,
                (Fault::IsSlow, Some(measured)) => measured.load.throughput_per_s /= 10.0,
                _ => {}
            }
        }
    }

    impl Arbitrary for Fault {
        type Parameters = ();
        type Strategy = sample::Select<Fault>;

        fn arbitrary_with((): ()) -> sample::Select<Fault> {
            sample::select(vec![Fault::Fails, Fault::LeavesClientsUnserved, Fault::IsSlow])
        }
    }

    #[test]
    fn one_server_alone() {
        let mut run = made_up(&["--rounds", "5", "--only", "epoll"]);
        run.trials
            .iter_mut()
            .filter(|trial| trial.place.x == 10_000)
            .for_each(|trial| measured(trial).connections_unserved = 7);
        assert_eq!(
            text_of(&run),
            "At 1, 10, 100 and 1,000 active connections, epoll serves all clients (replies/s at 1,000: epoll 101,000); at 10,000, \
             no server serves all clients; epoll leaves clients unserved at 10,000."
        );
    }
}
