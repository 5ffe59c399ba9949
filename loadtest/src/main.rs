//! Demo and load scenarios on a local control plane.

mod cluster;
mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
            let program = std::iter::once("egress-controller".to_owned());
            let cli = egress_controller::cli::Cli::parse_from(program.chain(arguments));
            return Ok(egress_controller::cli::execute(cli)?.into());
        }
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Cluster(arguments) => cluster::run(arguments).await,
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Handover(options) => handover(options).await,
            Command::Share(options) => {
                println!("{}", serde_json::to_string_pretty(&loadtest::share::run(options).await?)?);
                Ok(())
            }
            Command::Replica { .. } => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the report as JSON; fails when it does not show what it must.
async fn handover(options: loadtest::handover::Options) -> anyhow::Result<()> {
    let report = loadtest::handover::run(options).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    report.check()
}
