//! What to compare and how thoroughly: the command line's options, resolved and kept in run.json.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use models::CATALOGUE;
use serde::{Deserialize, Serialize};
use testbed::ExternalServer;

use crate::plan::{
    contestant::{Contestant, Program, SETS},
    experiment::{EXPERIMENTS, Experiment, Load, Profile},
    options::What,
};

/// The longest window of a trial, in seconds.
const LONGEST_S: f64 = 3600.0;
/// A plan holds a step for each round of each server at each point.
const MOST_ROUNDS: u32 = 1000;
const MOST_SERVERS: usize = 100;

/// What to compare, and how thoroughly: all that a plan is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub profile: Profile,
    /// Names of experiments, in the order of the results.
    pub experiments: Vec<String>,
    pub servers: Vec<Contestant>,
    pub rounds: u32,
    /// Rounds beyond these, which it took to tell smaller differences.
    #[serde(default)]
    pub further_rounds: u32,
    /// The ratio that is to be told, such as 1.02, with further rounds if it takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<f64>,
    pub seed: u64,
    pub warmup_s: f64,
    pub window_s: f64,
    pub trace: bool,
    /// Whether trials that the machine spoiled count.
    #[serde(default)]
    pub count_spoiled: bool,
}

impl Settings {
    /// Resolves the options of the command line.
    pub fn new(what: &What) -> Result<Settings> {
        let (rounds, warmup_ms, window_ms) = match what.profile {
            // Many short rounds rather than few long ones: disturbances come in bursts, which do not move a median.
            Profile::Quick => (1, 100, 200),
            Profile::Standard => (9, 30, 150),
            Profile::Full => (15, 300, 1000),
        };
        let seconds = |given: Option<Duration>, ms| given.unwrap_or(Duration::from_millis(ms)).as_secs_f64();
        let servers = contestants(what)?;
        let settings = Settings {
            profile: what.profile,
            experiments: experiments(&what.experiment, &servers)?,
            servers,
            rounds: what.rounds.unwrap_or(rounds),
            further_rounds: 0,
            resolve: what.resolve,
            seed: what.seed.unwrap_or_else(|| rand::random::<u64>() >> 11),
            warmup_s: seconds(what.warmup, warmup_ms),
            window_s: seconds(what.window, window_ms),
            trace: what.trace,
            count_spoiled: what.count_spoiled,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Checks that they can be those of a run: also those of a file from elsewhere.
    pub fn check(&self) -> Result<()> {
        let is_time = |seconds: f64| (0.0..=LONGEST_S).contains(&seconds);
        ensure!(self.window_s > 0.0 && is_time(self.window_s), "the window must be longer than 0 and at most an hour");
        ensure!(is_time(self.warmup_s), "the warm-up must be at most an hour");
        let is_possible = self.rounds >= 1 && self.all_rounds() <= MOST_ROUNDS;
        ensure!(is_possible, "there must be 1 to {MOST_ROUNDS} rounds");
        ensure!(self.servers.len() <= MOST_SERVERS, "there may be at most {MOST_SERVERS} servers");
        match self.servers.iter().find(|server| !can_be_in_a_file_name(&server.name)) {
            Some(server) => bail!("'{}' cannot be the name of a server", server.name.escape_debug()),
            None => Ok(()),
        }
    }

    /// The experiments of these names, without those that this version does not have.
    pub fn experiments(&self) -> impl Iterator<Item = &'static Experiment> {
        self.experiments.iter().filter_map(|name| Experiment::named(name))
    }

    /// Rounds, times and seed, as text.
    pub fn described(&self) -> String {
        let time = |seconds| humantime::format_duration(Duration::from_secs_f64(seconds));
        let rounds = if self.all_rounds() == 1 { "1 round".into() } else { format!("{} rounds", self.all_rounds()) };
        let (warmup, window) = (time(self.warmup_s), time(self.window_s));
        format!("{rounds} of {window} after {warmup} of warm-up, order shuffled by seed {}", self.seed)
    }

    /// All rounds.
    pub fn all_rounds(&self) -> u32 {
        self.rounds.saturating_add(self.further_rounds)
    }

    /// How long this load's requests flow before they are measured.
    pub fn warmup(&self, load: &Load) -> Duration {
        Duration::from_secs_f64(self.warmup_s * load.stretch())
    }

    /// How long this load is measured.
    pub fn window(&self, load: &Load) -> Duration {
        Duration::from_secs_f64(self.window_s * load.stretch())
    }
}

/// Whether a server's name can be a part of a file's, and of a line on a terminal.
fn can_be_in_a_file_name(name: &str) -> bool {
    const LONGEST_BYTES: usize = 100;
    (1..=LONGEST_BYTES).contains(&name.len()) && !name.chars().any(|c| c == '/' || c.is_control())
}

/// The names of the experiments asked for, by default of all that compare any of these servers.
fn experiments(asked: &[String], servers: &[Contestant]) -> Result<Vec<String>> {
    let is_about = |experiment: &Experiment| servers.iter().any(|server| server.takes_part_in(experiment, servers));
    for name in asked {
        if !EXPERIMENTS.iter().any(|experiment| experiment.name == name) {
            let names: Vec<_> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
            bail!("there is no experiment '{name}', only {}", names.join(", "));
        }
    }
    let asked_for = EXPERIMENTS.iter().filter(|experiment| asked.iter().any(|name| *name == experiment.name));
    for experiment in asked_for {
        let name = experiment.name;
        ensure!(is_about(experiment), "experiment '{name}' compares servers that take --loops: choose one with --only");
    }
    let is_asked_for = |name: &str| asked.is_empty() || asked.iter().any(|one| one == name);
    let experiments = EXPERIMENTS.iter().filter(|experiment| is_asked_for(experiment.name) && is_about(experiment));
    Ok(experiments.map(|experiment| experiment.name.to_owned()).collect())
}

/// The servers asked for, by default the models of the set `core` and those given with `--server`.
fn contestants(what: &What) -> Result<Vec<Contestant>> {
    let mut all: Vec<_> = CATALOGUE.iter().map(|model| Contestant::model(model.name, model)).collect();
    if let Some(name) = &what.aa {
        let Some(model) = models::by_name(name) else { bail!("there is no model '{name}', only {}", names(&all)) };
        return Ok(["a", "b"].map(|copy| Contestant::model(format!("{name}-{copy}"), model)).into());
    }
    for given in &what.server {
        let server = ExternalServer { wire: what.server_wire, cwd: what.server_cwd.clone(), ..given.clone() };
        ensure!(all.iter().all(|other| other.name != server.name), "there are two servers called '{}'", server.name);
        all.push(Contestant::external(server));
    }
    if what.only.is_empty() {
        all.retain(Contestant::is_default);
        return Ok(all);
    }
    for word in what.only.iter().filter(|word| !SETS.contains(&word.as_str())) {
        let is_known = all.iter().any(|contestant| contestant.name == *word);
        ensure!(is_known, "there is no server '{word}', only {}", names(&all));
    }
    // Of the built-in ones: who gives a server wants it compared.
    all.retain(|contestant| contestant.is_external() || what.only.iter().any(|word| contestant.is_selected_by(word)));
    ensure!(!all.is_empty(), "there is no server in the set {}", what.only.join(", "));
    all.retain(can_run);
    ensure!(!all.is_empty(), "no server of those asked for can run here");
    Ok(all)
}

/// Whether its mechanism exists here; if not, a line on standard error says why it takes no part.
fn can_run(contestant: &Contestant) -> bool {
    let Program::Model(model) = &contestant.program else { return true };
    let available = testbed::check_available(model);
    if let Err(reason) = &available {
        let _ = writeln!(io::stderr(), "compare: {} takes no part: {reason}", contestant.name);
    }
    available.is_ok()
}

fn names(contestants: &[Contestant]) -> String {
    contestants.iter().map(|contestant| contestant.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use models::Set;

    use super::*;
    use crate::options::Options;

    fn settings(args: &[&str]) -> Result<Settings> {
        Settings::new(&Options::try_parse_from([&["compare"], args].concat())?.what)
    }

    fn servers(args: &[&str]) -> Vec<String> {
        settings(args).unwrap().servers.into_iter().map(|server| server.name).collect()
    }

    #[test]
    fn an_unknown_name_is_reported_with_the_known_ones() {
        for (args, expected) in [
            (["--experiment", "scale"], "there is no experiment 'scale', only scaling, "),
            (["--only", "pigeon"], "there is no server 'pigeon', only blocking, "),
            (["--aa", "pigeon"], "there is no model 'pigeon', only blocking, "),
            (["--server", "epoll=x {port}"], "there are two servers called 'epoll'"),
        ] {
            let error = format!("{:#}", settings(&args).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn one_server_can_be_compared_with_itself() {
        assert_eq!(servers(&["--aa", "epoll"]), ["epoll-a", "epoll-b"]);
    }

    #[test]
    fn core_models_and_external_servers_are_the_default_and_sets_can_be_selected() {
        let of_set = |in_set: fn(&Set) -> bool| {
            let models = CATALOGUE.iter().filter(|model| in_set(&model.set) && testbed::check_available(model).is_ok());
            models.map(|model| model.name).collect::<Vec<_>>()
        };
        let mine = ["--server", "mine=./mine {port}"];
        assert_eq!(servers(&mine), [of_set(|set| *set == Set::Core), vec!["mine"]].concat());
        assert_eq!(servers(&["--only", "core"]), of_set(|set| *set == Set::Core));
        assert_eq!(servers(&["--only", "all"]), of_set(|_| true));
        assert_eq!(servers(&[&mine[..], &["--only", "epoll"]].concat()), ["epoll", "mine"]);
        assert_eq!(
            servers(&[&mine[..], &["--only", "mine,more"]].concat()),
            [of_set(|set| *set == Set::More), vec!["mine"]].concat()
        );
    }

    #[test]
    fn a_model_that_is_not_in_the_catalogue_is_refused() {
        let error = serde_json::from_str::<Contestant>(r#"{"name": "mine", "model": "carrier-pigeon"}"#).unwrap_err();
        assert!(error.to_string().contains("there is no model 'carrier-pigeon'"), "{error}");
    }
}
