//! run.json: the plan, the machine and the time of a run.

use std::{fs, path::Path, time::SystemTime};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    plan::{processors::Processors, schedule::Plan, settings::Settings},
    run::machine::Machine,
};

/// The layout of run.json, trials.jsonl and summary.csv. It changes when a reader of the previous one would be misled.
pub const SCHEMA: &str = "io-models.run/2";

/// The content of run.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub schema: String,
    pub started: String,
    pub finished: Option<String>,
    /// Whether every trial of the plan was run.
    pub complete: bool,
    pub machine: Machine,
    pub processors: Processors,
    pub plan: Settings,
    /// How many trials the plan has.
    pub trials: usize,
    /// The experiments with their questions: a run can be understood without this program.
    pub experiments: Vec<Value>,
}

impl Run {
    /// A run that starts now.
    pub fn new(machine: Machine, processors: Processors, plan: &Plan, experiments: Vec<Value>) -> Run {
        Run {
            schema: SCHEMA.into(),
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            finished: None,
            complete: false,
            machine,
            processors,
            plan: plan.settings.clone(),
            trials: plan.trials.len(),
            experiments,
        }
    }

    /// Reads run.json in this folder.
    pub fn read(folder: &Path) -> Result<Run> {
        let path = folder.join("run.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} is not the folder of a run: cannot read run.json", folder.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let schema = value["schema"].as_str().unwrap_or("none");
        ensure!(schema == SCHEMA, "{} has schema {schema}, and this version of compare reads {SCHEMA}", path.display());
        let run: Run = serde_json::from_value(value).with_context(|| format!("{} is damaged", path.display()))?;
        run.plan.check().with_context(|| format!("{} is damaged", path.display()))?;
        Ok(run)
    }
}
