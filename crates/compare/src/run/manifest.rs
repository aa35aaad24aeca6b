//! run.json: the plan, the machine and the time of a run.

use std::{path::Path, time::SystemTime};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    plan::{processors::Processors, schedule::Plan, settings::Settings},
    run::{condition::Condition, machine::Machine, stored},
};

/// The layout of run.json, trials.jsonl and summary.csv. It changes when a reader of the previous one would be misled.
pub const SCHEMA: &str = "io-models.run/3";

/// The layouts that this version reads: the one before had no void trials, and no slices.
const READABLE: [&str; 2] = ["io-models.run/2", SCHEMA];

/// The content of run.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub schema: String,
    pub started: String,
    pub finished: Option<String>,
    /// Whether every trial of the plan was run.
    pub complete: bool,
    pub machine: Machine,
    /// Right before the first trial; `None` in runs that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
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
            condition: None,
            processors,
            plan: plan.settings.clone(),
            trials: plan.trials.len(),
            experiments,
        }
    }

    /// Reads run.json in this folder.
    pub fn read(folder: &Path) -> Result<Run> {
        let path = folder.join("run.json");
        let text = stored::read(&path)
            .with_context(|| format!("{} is not the folder of a run: cannot read run.json", folder.display()))?;
        let damaged = || format!("{} is damaged", path.display());
        let mut value: Value = serde_json::from_slice(&text).with_context(damaged)?;
        let schema = value["schema"].as_str().unwrap_or("none").escape_debug();
        ensure!(
            READABLE.iter().any(|readable| value["schema"] == **readable),
            "{} has schema {schema}, and this version of compare reads {}",
            path.display(),
            READABLE.join(" and ")
        );
        let plan = Settings::deserialize(&value["plan"]).with_context(damaged)?;
        plan.check().with_context(damaged)?;
        stored::check_numbers(&value["condition"]).with_context(damaged)?;
        stored::make_printable(&mut value);
        serde_json::from_value(value).with_context(damaged)
    }
}
