//! Four real replicas on a real API server, random faults, every revision judged.

use std::path::PathBuf;

use clap::Parser as _;
use loadtest::handover::{Options, Report, run};

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

async fn after(flags: &str) -> Report {
    let mut options = Arguments::parse_from(["handovers"].into_iter().chain(flags.split(' '))).options;
    options.program = Some(PathBuf::from(env!("CARGO_BIN_EXE_loadtest")));
    let report = run(options).await.expect("the run can be carried out");
    println!("{}", serde_json::to_string_pretty(&report).expect("JSON"));
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_random_handovers_leave_no_stale_write_and_write_nothing_for_a_move() {
    after("--handovers 30").await.check().expect("what the run must show");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fence_and_deadline_the_same_judge_finds_stale_writes() {
    let report = after("--handovers 2 --only cut-renewals --unfenced --namespaces 100 --policies 200").await;
    report.check().expect("stale writes");
}
