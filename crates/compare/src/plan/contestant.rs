//! Which servers take part: models of the catalogue, and external servers.

use loadgen::Wire;
use models::{Model, Set};
use serde::{Deserialize, Serialize};
use testbed::ExternalServer;

use crate::plan::experiment::{Experiment, Servers};

/// The words with which `--only` selects several models.
pub const SETS: [&str; 3] = ["core", "more", "all"];

/// A server that takes part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contestant {
    /// Its name in tables and files.
    pub name: String,
    #[serde(flatten)]
    pub program: Program,
}

/// What runs as a contestant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A model's server.
    Model(#[serde(with = "model_name")] &'static Model),
    /// A server given with `--server`.
    #[serde(rename = "own")]
    External(ExternalServer),
}

/// A line for each built-in server: its name and how it waits.
pub fn list() -> String {
    let line = |model: &&Model| format!("  {:<17}{}", model.name, model.about);
    models::CATALOGUE.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Contestant {
    /// A model's server, under a name that may differ from the model's.
    pub fn model(name: impl Into<String>, model: &'static Model) -> Contestant {
        Contestant { name: name.into(), program: Program::Model(model) }
    }

    pub fn external(server: ExternalServer) -> Contestant {
        Contestant { name: server.name.clone(), program: Program::External(server) }
    }

    /// Whether it takes part when `--only` names nothing.
    pub fn is_default(&self) -> bool {
        match &self.program {
            Program::Model(model) => model.set == Set::Core,
            Program::External(_) => true,
        }
    }

    /// Whether it was given with `--server`.
    pub fn is_external(&self) -> bool {
        matches!(self.program, Program::External(_))
    }

    /// Whether `--only` with this word selects it: by its name, or as a model of the set `core`, `more` or `all`.
    pub fn is_selected_by(&self, word: &str) -> bool {
        let is_in_set = |model: &Model| match word {
            "core" => model.set == Set::Core,
            "more" => model.set == Set::More,
            _ => word == "all",
        };
        self.name == word || matches!(self.program, Program::Model(model) if is_in_set(model))
    }

    /// Whether an experiment compares it, of a run in which `all` these take part.
    pub fn takes_part_in(&self, experiment: &Experiment, all: &[Contestant]) -> bool {
        match (experiment.servers, &self.program) {
            (Servers::All, _) => true,
            (Servers::WithLoops, Program::External(_)) => false,
            (Servers::WithLoops, Program::Model(model)) => {
                let is_single_loop_of =
                    |other: &Contestant| matches!(other.program, Program::Model(other) if model.is_single_loop_of(other));
                model.runs_loops() || all.iter().any(is_single_loop_of)
            }
        }
    }

    /// How messages are cut on the wire.
    pub fn wire(&self) -> Wire {
        match &self.program {
            Program::Model(_) => Wire::Frames,
            Program::External(server) => server.wire,
        }
    }

    /// Whether the cost of serving a request can be set.
    pub fn does_work(&self) -> bool {
        match &self.program {
            Program::Model(_) => true,
            Program::External(server) => server.does_work(),
        }
    }

    /// Whether it is known to use all its time, whatever the load.
    pub fn busy_polls(&self) -> bool {
        matches!(self.program, Program::Model(model) if model.busy_polls())
    }

    /// Whether it is known to need a thread or a process for each connection.
    pub fn needs_tasks(&self) -> bool {
        matches!(self.program, Program::Model(model) if model.runs_one_per_connection())
    }

    /// Whether it writes counters when it stops.
    pub fn has_counters(&self) -> bool {
        matches!(self.program, Program::Model(_))
    }
}

/// A model in JSON: its name, which must be in the catalogue.
mod model_name {
    use models::Model;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(model: &Model, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(model.name)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static Model, D::Error> {
        let name = String::deserialize(from)?;
        models::by_name(&name).ok_or_else(|| D::Error::custom(format!("there is no model '{name}'")))
    }
}
