//! `simulate`: as many scenarios as wanted, until a rule is broken.

use splitreel_testkit::simulation::{Outcome, Reference, Scenario, SimulationError, run};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: simulate [--seeds N] [--from S] [--seed S] [--trace]";

struct Options {
    from: u64,
    seeds: u64,
    trace: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { from: 0, seeds: 1000, trace: false };
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok());
        match arg.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--seed" => (options.from, options.seeds) = (number()?, 1),
            "--trace" => options.trace = true,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match simulate(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False when a rule was broken.
fn simulate(options: &Options) -> Result<bool, SimulationError> {
    let (reference, started) = (Reference::new(), Instant::now());
    let mut sum = Sum::default();
    for seed in options.from..options.from.saturating_add(options.seeds) {
        let outcome = run(Scenario { seed, bug: None }, &reference)?;
        sum.add(&outcome);
        if options.trace || outcome.violation.is_some() {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        if let Some(violation) = &outcome.violation {
            println!("seed {seed}: VIOLATION: {violation}");
            return Ok(false);
        }
    }
    println!(
        "{} seeds held: {} jobs published, {} ended otherwise; {} effects, {} faults, {} crashes, {} second attempts, {} planned again; {} virtual hours in {:.1} s",
        sum.seeds,
        sum.published,
        sum.unpublished,
        sum.effects,
        sum.faults,
        sum.crashes,
        sum.second_attempts,
        sum.replanned,
        sum.virtual_ms / 3_600_000,
        started.elapsed().as_secs_f64()
    );
    Ok(true)
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    published: u64,
    unpublished: u64,
    effects: u64,
    faults: u64,
    crashes: u64,
    second_attempts: u64,
    replanned: u64,
    virtual_ms: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.published += outcome.num_published;
        self.unpublished += outcome.num_unpublished;
        self.effects += outcome.num_effects;
        self.faults += outcome.num_faults;
        self.crashes += outcome.num_crashes;
        self.second_attempts += outcome.num_second_attempts;
        self.replanned += outcome.num_replanned;
        self.virtual_ms += outcome.virtual_ms;
    }
}
