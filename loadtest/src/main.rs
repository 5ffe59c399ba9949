//! Demo and load scenarios on a local control plane.

mod cluster;
mod demo;

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Cluster(arguments) => cluster::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
    }
}
