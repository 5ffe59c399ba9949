//! Demo and load scenarios on a local control plane.

mod cluster;
mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::load::{self, run::run, scenario};

/// As in the controller's own program: a replica of a scenario is measured with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Demo and load scenarios for egress-controller on a local control plane.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cluster(cluster::Arguments),
    Demo(demo::Arguments),
    /// What the API server takes from a minimal client that sends what the controller would send
    Ceiling(load::options::Options),
    /// Policies exist, the controller starts: how long until every NetworkPolicy is right
    Converge(load::options::Options),
    /// Nothing changes: what it costs to look
    Steady(load::options::Options),
    /// Answers change all the time: how late the NetworkPolicies are
    Churn(load::options::Options),
    /// The same start with 100, 300, 1,000, … policies up to --policies
    Growth(load::options::Options),
    /// The controller is killed and comes back
    Restart(load::options::Options),
    /// The same start with 1, 2, … replicas
    ScaleOut(load::options::Options),
    /// A third of the names are dead, slow or huge
    Hostile(load::options::Options),
    /// DNS fails at the start and later, and the controller is killed meanwhile
    Outage(load::options::Options),
    /// One host that every policy names changes
    Fanout(load::options::Options),
    /// Hosts that answer a few addresses of a pool at random
    Rotation(load::options::Options),
    /// Everything at once, for as long as --window-seconds says
    Soak(load::options::Options),
    Handover(loadtest::handover::Options),
    Share(loadtest::share::Options),
    /// The controller itself, for scenarios that start it as a process
    #[command(hide = true)]
    Replica {
        /// Its command line
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let command = match Arguments::parse().command {
        Command::Replica { arguments } => {
            loadtest::replica::end_with_parent();
            let program = std::iter::once("egress-controller".to_owned());
            let cli = egress_controller::cli::Cli::parse_from(program.chain(arguments));
            return Ok(egress_controller::cli::execute(cli)?.into());
        }
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let held = runtime.block_on(async {
        match command {
            Command::Cluster(arguments) => cluster::run(arguments).await.map(|()| true),
            Command::Demo(arguments) => demo::run(arguments).await.map(|()| true),
            Command::Handover(options) => handover(options).await.map(|()| true),
            Command::Share(options) => {
                let report = loadtest::share::run(options).await?;
                println!("{}", serde_json::to_string_pretty(&report)?);
                report.check().map(|()| true)
            }
            Command::Ceiling(options) => run("ceiling", options, scenario::ceiling::run).await,
            Command::Converge(options) => run("converge", options, scenario::converge::run).await,
            Command::Steady(options) => run("steady", options, scenario::steady::run).await,
            Command::Churn(options) => run("churn", options, scenario::churn::run).await,
            Command::Growth(options) => run("growth", options, scenario::growth::run).await,
            Command::Restart(options) => run("restart", options, scenario::restart::run).await,
            Command::ScaleOut(options) => run("scale-out", options, scenario::scale_out::run).await,
            Command::Hostile(options) => run("hostile", options, scenario::hostile::run).await,
            Command::Outage(options) => run("outage", options, scenario::outage::run).await,
            Command::Fanout(options) => run("fanout", options, scenario::fanout::run).await,
            Command::Rotation(options) => run("rotation", options, scenario::rotation::run).await,
            Command::Soak(options) => run("soak", options, scenario::soak::run).await,
            Command::Replica { .. } => Ok(true),
        }
    })?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the report as JSON; fails when it does not show what it must.
async fn handover(options: loadtest::handover::Options) -> anyhow::Result<()> {
    let report = loadtest::handover::run(options).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    report.check()
}
