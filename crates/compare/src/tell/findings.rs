//! What a run found, computed once for all outputs: the overview, and each experiment with its ranks, sentences and claims.

use crate::{
    plan::experiment::Experiment,
    run::manifest::Run,
    stats::summary::{Field, Summary},
    tell::{
        claim::{self, ClaimText},
        overview::Overview,
        sentences, tables,
    },
};

/// What a run found.
pub struct Findings<'a> {
    pub run: &'a Run,
    /// How many trials it has.
    pub trials: usize,
    pub overview: Overview<'a>,
    /// The experiments that have trials.
    pub experiments: Vec<ExperimentFindings<'a>>,
}

/// What an experiment found.
pub struct ExperimentFindings<'a> {
    pub experiment: &'static Experiment,
    pub fields: Vec<Field<'a>>,
    /// A sentence per curve.
    pub sentences: Vec<String>,
    pub claims: Vec<ClaimText>,
    /// What 100 % is, where the axis is a share of the capacity.
    pub full_scale: Option<String>,
    /// What its table does not show.
    pub notes: Vec<String>,
}

impl<'a> Findings<'a> {
    pub fn of(run: &'a Run, summary: &'a Summary) -> Findings<'a> {
        let found = |experiment: &'static Experiment| {
            let fields = summary.fields(experiment);
            ExperimentFindings {
                experiment,
                sentences: sentences::sentences(experiment, &fields),
                claims: claim::claims(experiment, &fields),
                full_scale: tables::full_scale(experiment, summary),
                notes: tables::notes(experiment, &fields),
                fields,
            }
        };
        let experiments: Vec<_> = run.plan.experiments().map(found).filter(|found| !found.fields.is_empty()).collect();
        let all: Vec<(&Experiment, &Field)> =
            experiments.iter().flat_map(|found| found.fields.iter().map(|field| (found.experiment, field))).collect();
        Findings { run, trials: summary.trials(), overview: Overview::of(run, summary, &all), experiments }
    }
}
