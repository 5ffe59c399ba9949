//! An exhaustive model of the protocol by which replicas share the namespaces.
//!
//! `timed` is the protocol without a fence in the API server (T2), `fenced` the one with it (T1). `plan` says which
//! runs there are. docs/model.md explains both models and what they leave out.

mod arguments;
mod clock;
mod control;
mod fenced;
mod plan;
mod reachability;
mod report;
mod run;
mod shard_set;
#[cfg(test)]
mod tests;
mod timed;
mod trace;

use anyhow::{Result, ensure};
use clap::Parser;

use arguments::Arguments;
use plan::Plan;
use run::Run;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    arguments.clock().ensure_usable()?;
    let plan = Plan::from(&arguments);
    println!("{}", report::head());
    let mut runs: Vec<Run> = Vec::new();
    if arguments.control.is_none() {
        runs.extend(plan.checks(arguments.check).inspect(|run| println!("{run}")));
    }
    if !arguments.no_controls && arguments.check.is_none() {
        runs.extend(plan.controls(arguments.control).inspect(|run| println!("{run}")));
    }
    if !arguments.quiet {
        for run in runs.iter().filter(|run| !run.trace.is_empty()) {
            println!("\n{}", report::story(run));
        }
    }
    let bad: Vec<&str> = runs.iter().filter(|run| !run.verdict.is_good()).map(|run| run.name.as_str()).collect();
    ensure!(bad.is_empty(), "not as it should be: {}", bad.join(", "));
    Ok(())
}
