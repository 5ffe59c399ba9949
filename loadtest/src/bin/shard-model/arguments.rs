//! The command line.

use clap::Parser;

use crate::clock::Clock;
use crate::control::Control;
use crate::plan::Check;

/// Explores the protocol of the shards in every order of events, and looks for two writers.
///
/// Without arguments it checks, for 3 members and 2 shards: T2 (no fence in the API server, bounded times), T1 (fence,
/// no times at all), and that every shard finds an owner again after the last fault. Then it takes one rule after the
/// other away and looks whether that is found out. It prints one line for each run, then the shortest way to each
/// violation, one line for each step. docs/model.md says what the model leaves out, and why.
///
/// Examples:
///
///   shard-model                                  everything, 10 to 20 minutes on 2 cores
///   shard-model --control no-lapse               one control and its counter-example
///   shard-model --members 2 --shards 1           a small check, seconds
///   shard-model --check t2 --lease 5 --faults 1  longer leases, fewer faults
///
/// The exit code is 1 when the protocol fails, when a control is not found out, and when --max-states came first.
#[derive(Parser, Clone, Debug)]
#[command(name = "shard-model", verbatim_doc_comment)]
pub struct Arguments {
    /// Members, 1 to 3
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub members: u8,
    /// Shards, 1 or 2
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub shards: u8,
    /// Only this check of the protocol, without the controls
    #[arg(long, conflicts_with = "control")]
    pub check: Option<Check>,
    /// Only this control, without the checks of the protocol itself
    #[arg(long)]
    pub control: Option<Control>,
    /// Only the checks of the protocol itself
    #[arg(long, conflicts_with_all = ["control", "check"])]
    pub no_controls: bool,
    /// Threads of a safety check; a control always has one, so that its counter-example is a shortest one
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// T2: D, the lease duration, in ticks
    #[arg(long, default_value_t = 4)]
    pub lease: u8,
    /// T2: T, from the check that allows a write to its commit
    #[arg(long, default_value_t = 1)]
    pub request: u8,
    /// T2: by how much a clock may be wrong over D, ahead or behind
    #[arg(long, default_value_t = 1)]
    pub drift: u8,
    /// T2: what the margin has beyond T and twice the drift
    #[arg(long, default_value_t = 1)]
    pub slack: u8,
    /// Control wall-clock: by how much wall clocks may differ
    #[arg(long, default_value_t = 3)]
    pub skew: u8,
    /// T2: crashes, deletions and edits by somebody else, in all; owned-again has 1 at most. Pauses are not counted
    #[arg(long, default_value_t = 2)]
    pub faults: u8,
    /// T2: beginnings of a hand-over and terminations, in all
    #[arg(long, default_value_t = 1)]
    pub moves: u8,
    /// T1: changes of the table, in all, up to 9
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub changes: u8,
    /// A run ends unfinished at this number of states, those met again counted
    #[arg(long, default_value_t = 2_000_000_000)]
    pub max_states: usize,
    /// Do not print counter-examples
    #[arg(long)]
    pub quiet: bool,
}

impl Arguments {
    pub fn clock(&self) -> Clock {
        Clock { lease: self.lease, request: self.request, drift: self.drift, slack: self.slack, skew: self.skew }
    }
}
