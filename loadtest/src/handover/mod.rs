//! Several replicas, random faults, and a judge that reads every revision.

pub mod audit;
pub mod bed;
pub mod fault;
pub mod judge;
pub mod report;
mod watch;
pub mod work;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

pub use report::Report;

use bed::Bed;
use fault::Fault;

/// How much there is of everything.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Size {
    /// Replicas of the controller
    #[arg(long, value_name = "N", default_value = "4")]
    pub replicas: usize,
    /// Namespaces
    #[arg(long, value_name = "N", default_value = "1000")]
    pub namespaces: usize,
    /// EgressPolicies, spread over the namespaces
    #[arg(long, value_name = "N", default_value = "2000")]
    pub policies: usize,
}

/// Kill replicas, cut them off, stop them, damage table and Leases, and judge every write that was accepted
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Handovers: faults, one after the other
    #[arg(long, value_name = "N", default_value = "30")]
    pub handovers: usize,
    /// How much there is of everything
    #[command(flatten)]
    pub size: Size,
    /// Lease duration
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    pub lease_duration_seconds: u32,
    /// Seed of the faults
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// Only faults of these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = Fault::KINDS)]
    pub only: Vec<String>,
    /// The control run: no fence in the API server and no deadline in the replicas. It must show stale writes
    #[arg(long)]
    pub unfenced: bool,
    /// The program that is started as a replica; this one by default
    #[arg(long, value_name = "FILE", hide = true)]
    pub program: Option<PathBuf>,
    /// What the replicas work on meanwhile
    #[arg(skip)]
    pub pace: work::Pace,
}

/// Runs the scenario.
///
/// # Errors
/// When it cannot be carried out; what the judge finds is in the report.
pub async fn run(options: Options) -> Result<Report> {
    let mut bed = Bed::start(&options).await?;
    let mut report = Report::new(&options);
    bed.whole(Duration::from_secs(120)).await?;
    report.converged(&mut bed).await?;
    let work = work::Work::start(&bed);
    let faults = Fault::plan(&options);
    for (number, fault) in faults.iter().enumerate() {
        eprintln!("handover {:>4}/{}: {}", number + 1, options.handovers, fault.kind());
        let measured = bed.suffer(fault, number).await?;
        report.suffered(fault, &measured);
    }
    bed.healed().await;
    bed.whole(bed.patience(8)).await?;
    let changed = work.stop().await;
    report.settled(&mut bed, changed).await?;
    Ok(report)
}
