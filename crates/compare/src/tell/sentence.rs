//! What an experiment shows, in sentences made from its data alone.

use crate::{
    plan::experiment::{Experiment, Point},
    stats::summary::{Cell, Field, servers_of},
    tell::{
        english::{capitalized, clause, listed, numbers, places},
        tie::why_tied,
    },
};

/// What the data at a point say of its servers.
#[derive(Debug, PartialEq)]
enum Outcome<'a> {
    /// The servers of the first rank, while others have a later one.
    Lead(Vec<&'a str>),
    /// All that have a rank share the first.
    Tie(Vec<&'a str>),
    /// Only one served all clients.
    Alone(&'a str),
    /// There are too few rounds to rank; the one with the best median.
    Unranked(&'a str),
    /// Those that serve all have no such number here.
    NothingToRank,
    NobodyServedAll,
    AllFailed,
}

/// What the experiment shows, a sentence for each of its curves.
pub fn shows(experiment: &Experiment, fields: &[Field]) -> Vec<String> {
    let curves = fields.chunk_by(|one, other| one.point.place.variant == other.point.place.variant);
    let told = curves.map(|curve| of_curve(experiment, curve)).filter(|told| !told.is_empty());
    told.map(|told| capitalized(&told) + ".").collect()
}

fn of_curve(experiment: &Experiment, fields: &[Field]) -> String {
    let told: Vec<&Field> = fields.iter().filter(|field| outcome(field) != Outcome::NothingToRank).collect();
    let alike = told.chunk_by(|one, other| outcome(one) == outcome(other)).enumerate();
    let segments = alike.map(|(index, fields)| match index {
        0 => segment(fields, &places(experiment, &points(fields))),
        _ => segment(fields, &numbers(&points(fields))),
    });
    segments.chain(stragglers(fields)).collect::<Vec<_>>().join("; ")
}

fn points<'a>(fields: &[&'a Field]) -> Vec<&'a Point> {
    fields.iter().map(|field| field.point).collect()
}

fn outcome<'a>(field: &Field<'a>) -> Outcome<'a> {
    let server = |(cell, _): &(&'a Cell, Option<usize>)| &*cell.server;
    let of: Vec<_> = field.cells.iter().copied().zip(field.ranks.iter().copied()).collect();
    let served: Vec<_> =
        of.iter().filter(|(cell, _)| cell.serves_all() && cell.estimate(field.metric).is_some()).copied().collect();
    let first: Vec<_> = served.iter().filter(|(_, rank)| *rank == Some(1)).map(server).collect();
    match &served[..] {
        [] if of.iter().all(|(cell, _)| cell.failures().len() == cell.rounds()) => Outcome::AllFailed,
        [] if of.iter().any(|(cell, _)| cell.serves_all()) => Outcome::NothingToRank,
        [] => Outcome::NobodyServedAll,
        [alone] => Outcome::Alone(server(alone)),
        _ if first.is_empty() => Outcome::Unranked(&field.standing()[0].0.server),
        _ if served.iter().any(|(_, rank)| rank.is_some_and(|rank| rank > 1)) => Outcome::Lead(first),
        _ => Outcome::Tie(first),
    }
}

/// Points of one outcome, with the numbers of the last of them.
fn segment(fields: &[&Field], places: &str) -> String {
    let last = fields[fields.len() - 1];
    let at_last = if fields.len() > 1 { "at the last " } else { "" };
    let ends = format!("{at_last}{}", ends(last));
    match outcome(last) {
        Outcome::Lead(leaders) => match &leaders[..] {
            [leader] => format!("at {places} {leader} leads ({ends})"),
            _ => format!("at {places} {} lead and cannot be told apart ({ends})", listed(&leaders)),
        },
        Outcome::Tie(servers) => {
            let why = why_tied(last).map(|why| format!("; {why}")).unwrap_or_default();
            format!("at {places} {} cannot be told apart ({ends}{why})", listed(&servers))
        }
        Outcome::Alone(server) => format!("at {places} only {server} serves all clients ({ends})"),
        Outcome::Unranked(best) => format!("at {places} {best} has the best median, how surely cannot be told ({ends})"),
        Outcome::NothingToRank => format!("at {places} there is nothing to rank"),
        Outcome::NobodyServedAll => format!("at {places} no server serves all clients"),
        Outcome::AllFailed => {
            let reason = last.cells.iter().find_map(|cell| cell.failures().first().copied()).unwrap_or("for no reason given");
            format!("at {places} every server failed: {}", clause(reason))
        }
    }
}

/// The best and the worst of those that serve all clients: `replies/s: epoll 155,533, poll 1,733`.
fn ends(field: &Field) -> String {
    let number = |cell: &Cell| Some(format!("{} {}", cell.server, cell.number(field.metric)?));
    let served = field.standing().into_iter().map(|(cell, _)| cell).filter(|cell| cell.serves_all());
    match &served.filter_map(number).collect::<Vec<_>>()[..] {
        [] => String::new(),
        [alone] => format!("{}: {alone}", field.metric.title()),
        [best, .., worst] => format!("{}: {best}, {worst}", field.metric.title()),
    }
}

/// Who did not serve all clients, and where.
fn stragglers(fields: &[Field]) -> Vec<String> {
    let at = |server: &str, is: fn(&Cell) -> bool| {
        let points: Vec<&Point> =
            fields.iter().filter(|field| field.cell(server).is_some_and(is)).map(|field| field.point).collect();
        let everywhere = points.len() == fields.len();
        (!points.is_empty()).then(|| if everywhere { String::new() } else { format!(" at {}", numbers(&points)) })
    };
    let told = |server: &str| {
        let unserved = at(server, |cell| cell.failures().is_empty() && !cell.serves_all());
        let failed = at(server, |cell| !cell.failures().is_empty());
        let unserved = unserved.map(|places| format!("{server} leaves clients unserved{places}"));
        [unserved, failed.map(|places| format!("{server} fails{places}"))]
    };
    let everybody_failed = fields.iter().all(|field| outcome(field) == Outcome::AllFailed);
    if everybody_failed {
        Vec::new()
    } else {
        servers_of(&fields.iter().collect::<Vec<_>>()).into_iter().flat_map(told).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticRun, fail, measured};

    fn made_up(args: &[&str]) -> SyntheticRun {
        SyntheticRun::of(&[&["--experiment", "scaling"], args].concat())
    }

    fn said(made_up: &SyntheticRun) -> String {
        let scaling = Experiment::named("scaling").unwrap();
        shows(scaling, &made_up.summary().fields(scaling)).concat()
    }

    #[test]
    fn a_clear_winner() {
        let run = made_up(&["--rounds", "5"]).scaled(|trial| if trial.server == "epoll" { 1.5 } else { 1.0 });
        assert_eq!(
            said(&run),
            "At 1, 10, 100, 1,000 and 10,000 active connections epoll leads (at the last replies/s: epoll 151,500, poll 101,000)."
        );
    }

    #[test]
    fn a_tie() {
        assert_eq!(
            said(&made_up(&["--rounds", "5", "--only", "poll,epoll"])),
            "At 1, 10, 100, 1,000 and 10,000 active connections poll and epoll cannot be told apart (at the last replies/s: poll \
             101,000, epoll 101,000; 1.00 times in the median round, and less than 1.02 times cannot be told)."
        );
    }

    #[test]
    fn everything_failed() {
        let mut run = made_up(&["--rounds", "5"]);
        run.trials.iter_mut().for_each(|trial| fail(trial, "cannot connect"));
        assert_eq!(said(&run), "At 1, 10, 100, 1,000 and 10,000 active connections every server failed: cannot connect.");
    }

    #[test]
    fn leaders_who_share_the_first_rank_and_who_is_out_of_it() {
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
            said(&run),
            "At 1 active connection nonblocking leads (replies/s: nonblocking 202,000, epoll 101,000); at 10, 100 and 1,000 \
             nonblocking, poll and epoll lead and cannot be told apart (at the last replies/s: nonblocking 101,000, \
             thread-per-conn 50,500); at 10,000 nonblocking and epoll lead and cannot be told apart (replies/s: nonblocking \
             101,000, thread-per-conn 50,500); blocking leaves clients unserved at 10, 100, 1,000 and 10,000; poll fails at \
             10,000."
        );
    }

    #[test]
    fn one_round_says_who_was_ahead_and_not_how_surely() {
        assert_eq!(
            said(&made_up(&["--rounds", "1", "--only", "poll,epoll"])),
            "At 1, 10, 100, 1,000 and 10,000 active connections epoll has the best median, how surely cannot be told (at the last \
             replies/s: epoll 100,500, poll 100,000)."
        );
    }

    #[test]
    fn where_there_is_nothing_to_rank_nothing_is_said() {
        let run = SyntheticRun::of(&["--experiment", "footprint", "--rounds", "5"]);
        let footprint = Experiment::named("footprint").unwrap();
        assert!(shows(footprint, &run.summary().fields(footprint)).is_empty());
    }

    #[test]
    fn one_server_alone_and_nobody() {
        let mut run = made_up(&["--rounds", "5", "--only", "epoll"]);
        run.trials
            .iter_mut()
            .filter(|trial| trial.place.x == 10_000)
            .for_each(|trial| measured(trial).connections_unserved = 7);
        assert_eq!(
            said(&run),
            "At 1, 10, 100 and 1,000 active connections only epoll serves all clients (at the last replies/s: epoll 101,000); at \
             10,000 no server serves all clients; epoll leaves clients unserved at 10,000."
        );
    }
}
