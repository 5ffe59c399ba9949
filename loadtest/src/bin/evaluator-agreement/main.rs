//! Does the evaluator of this repository agree with one that others wrote?
//!
//! Random policies and connections, from a seed, are judged by `egress_domain::evaluate` and by cyclonus. Every
//! difference must follow from one of the readings in `reading.rs`, which docs/evaluator.md explains; any other ends
//! the program with an error.

mod case;
mod compile;
mod cyclonus;
mod generate;
mod reading;
mod summary;

use anyhow::{Result, ensure};
use clap::Parser;

use cyclonus::Cyclonus;
use generate::Generator;
use summary::Summary;

/// Connections per set of policies; each set is one run of cyclonus.
const CASES_PER_SET: usize = 20;

/// Compares the evaluator with cyclonus on random cases.
#[derive(Parser)]
struct Arguments {
    /// How many connections to judge
    #[arg(long, default_value_t = 2_000)]
    cases: usize,
    /// Seed of the random cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print every difference, explained ones too
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cyclonus = Cyclonus::new(compile::cached_or_built()?)?;
    let mut generator = Generator::new(arguments.seed);
    let mut summary = Summary::default();
    while summary.cases() < arguments.cases {
        let set = generator.policy_set(CASES_PER_SET.min(arguments.cases - summary.cases()));
        let verdicts = cyclonus.judge(&set)?;
        for (case, theirs) in set.cases.iter().zip(verdicts) {
            let ours = case.outcome(&set.policies);
            let explanation = reading::explain(&set.policies, case, theirs);
            summary.add(case, ours, explanation.as_deref());
            let unexplained = explanation.is_none();
            if unexplained || (arguments.list && ours != theirs) {
                let why = explanation.as_deref().map_or("UNEXPLAINED".to_owned(), reading::names);
                println!("{why}: here {ours:?}, cyclonus {theirs:?}: {case}\n  under {}", set.policies_as_json()?);
            }
        }
    }
    println!("seed {}, {CASES_PER_SET} connections per set of policies\n{summary}", arguments.seed);
    ensure!(summary.unexplained() == 0, "{} cases differ without an explanation", summary.unexplained());
    summary.ensure_varied()
}
