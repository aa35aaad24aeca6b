//! Synthetic runs for tests.

use clap::Parser;
use host::Cpus;
use loadgen::{EncodedHistogram, Report, Times};

use crate::{
    options::Options,
    plan::{
        processors::{Halves, Processors, Sharing},
        schedule::{Plan, Step},
        settings::Settings,
    },
    run::{
        bottleneck::Bottleneck,
        machine::Machine,
        manifest::Run,
        record::{Cost, Measured, Trial},
    },
    stats::summary::Summary,
};

pub struct SyntheticRun {
    pub run: Run,
    pub trials: Vec<Trial>,
}

impl SyntheticRun {
    /// The run of this command line, in which all servers are the same but for noise, and serve all clients.
    pub fn of(args: &[&str]) -> SyntheticRun {
        let options = Options::parse_from(["compare", "--seed", "1"].iter().chain(args));
        let cpu = |cpu| Cpus::new([cpu]).unwrap();
        let processors = Processors { server: cpu(0), generator: cpu(1), sharing: Sharing::Apart, halves: None };
        SyntheticRun::on(processors, &options)
    }

    /// The same on a machine with so many processors for each side.
    pub fn on_halves_of(cpus: usize, args: &[&str]) -> SyntheticRun {
        let options = Options::parse_from(["compare", "--seed", "1"].iter().chain(args));
        let [server, generator] = [0..cpus, cpus..2 * cpus].map(|cpus| Cpus::new(cpus).unwrap());
        let halves = Some(Halves { server: server.clone(), generator: generator.clone() });
        SyntheticRun::on(Processors { server, generator, sharing: Sharing::Apart, halves }, &options)
    }

    fn on(processors: Processors, options: &Options) -> SyntheticRun {
        let machine = Machine { commit: Some("abc".into()), ..Machine::look() };
        let plan = Plan::new(Settings::new(&options.what).unwrap(), &processors).unwrap();
        let cpus = |step: &Step| processors.at(step.point).server.as_slice().len() as u64;
        let trials = plan.trials.iter().map(|step| trial(step, &plan.settings.servers[step.server].name, cpus(step))).collect();
        SyntheticRun { run: Run::new(machine, processors, &plan, Vec::new()), trials }
    }

    pub fn trials_of(&mut self, server: &str) -> impl Iterator<Item = &mut Trial> {
        self.trials.iter_mut().filter(move |trial| trial.server == server)
    }

    /// Every trial's throughput times what this makes of it.
    pub fn scaled(mut self, factor: impl Fn(&Trial) -> f64) -> SyntheticRun {
        self.trials.iter_mut().for_each(|trial| {
            let factor = factor(trial);
            scale_throughput(trial, factor);
        });
        self
    }

    pub fn summary(&self) -> Summary {
        let plan = Plan::new(self.run.plan.clone(), &self.run.processors).unwrap();
        let mut summary = Summary::new(&plan);
        for trial in &self.trials {
            let trial = serde_json::from_value(serde_json::to_value(trial).unwrap()).unwrap();
            summary.add(trial).unwrap();
        }
        summary
    }
}

/// With a noise of about 1 %, by server, point and round.
fn trial(step: &Step, server: &str, server_processors: u64) -> Trial {
    let noise = 1.0 + f64::from((step.round + step.point.place.x + server.len() as u32) % 5) / 200.0;
    Trial {
        experiment: step.experiment.name.into(),
        place: step.point.place.clone(),
        server: server.into(),
        round: step.round,
        failure: None,
        disturbance: None,
        void: None,
        measured: Some(Measured {
            connections_asked: u64::from(step.point.load.active),
            connections_unserved: 0,
            server_processors,
            bottleneck: Bottleneck::Server,
            capacity_derived_per_s: None,
            warm_up: None,
            slices: None,
            cost: Cost {
                cpu_us_per_request: Some(10.0 / noise),
                user_cpu_s: 0.1,
                system_cpu_s: 0.2,
                cpu_share: 1.0,
                softirq_cpu_s: Some(0.05),
                voluntary_switches_per_request: None,
                involuntary_switches_per_request: None,
                bytes_per_connection: None,
                peak_rss_bytes: 1 << 20,
                threads: 1,
                counters: None,
            },
            load: Report {
                throughput_per_s: 100_000.0 * noise,
                latency_ns: Some(loadgen::Summary { p99: Some((50_000.0 / noise) as u64), ..loadgen::Summary::default() }),
                ..Report::default()
            },
            greedy: None,
            latency_hdr: EncodedHistogram::new(&Times::default().all),
            service_hdr: None,
        }),
    }
}

pub fn measured(trial: &mut Trial) -> &mut Measured {
    trial.measured.as_mut().unwrap()
}

pub fn scale_throughput(trial: &mut Trial, factor: f64) {
    measured(trial).load.throughput_per_s *= factor;
}

pub fn fail(trial: &mut Trial, reason: &str) {
    trial.failure = Some(reason.into());
    trial.measured = None;
}
