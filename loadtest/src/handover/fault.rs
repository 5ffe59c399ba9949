//! What happens to a replica, to the table, to the Leases, to the API server.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Options;

/// One fault. Those that meet a replica meet the one with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; another pod takes its place later.
    Kill(usize),
    /// kill -9; the container starts again in the same pod, at once.
    Restart(usize),
    /// SIGTERM; another pod takes its place.
    Terminate(usize),
    /// SIGSTOP for two leases, then SIGCONT.
    Pause(usize),
    /// Its Leases and tables cannot be reached for two leases; everything else can.
    CutRenewals(usize),
    /// Its Lease is deleted.
    DeleteLease(usize),
    /// Its Lease is renewed for a year by somebody.
    ForgeLease(usize),
    /// Somebody gives half of its shards to the next replica.
    EditTable(usize),
    /// The table is deleted.
    DeleteTable,
    /// The API server is away for half a lease.
    OutageHalf,
    /// The API server is away for two leases.
    OutageTwo,
}

impl Fault {
    /// Names of all kinds.
    pub const KINDS: [&str; 11] = [
        "kill",
        "restart",
        "terminate",
        "pause",
        "cut-renewals",
        "delete-lease",
        "forge-lease",
        "edit-table",
        "delete-table",
        "outage-half",
        "outage-two",
    ];

    /// The name for `--only` and the report.
    pub fn kind(self) -> &'static str {
        let number = match self {
            Self::Kill(_) => 0,
            Self::Restart(_) => 1,
            Self::Terminate(_) => 2,
            Self::Pause(_) => 3,
            Self::CutRenewals(_) => 4,
            Self::DeleteLease(_) => 5,
            Self::ForgeLease(_) => 6,
            Self::EditTable(_) => 7,
            Self::DeleteTable => 8,
            Self::OutageHalf => 9,
            Self::OutageTwo => 10,
        };
        Self::KINDS[number]
    }

    /// The same fault of another replica, where that is one of a replica.
    pub fn meets(self, mut replica: impl FnMut(usize) -> usize) -> Self {
        match self {
            Self::Kill(victim) => Self::Kill(replica(victim)),
            Self::Restart(victim) => Self::Restart(replica(victim)),
            Self::Terminate(victim) => Self::Terminate(replica(victim)),
            Self::Pause(victim) => Self::Pause(replica(victim)),
            Self::CutRenewals(victim) => Self::CutRenewals(replica(victim)),
            Self::DeleteLease(victim) => Self::DeleteLease(replica(victim)),
            Self::ForgeLease(victim) => Self::ForgeLease(replica(victim)),
            Self::EditTable(victim) => Self::EditTable(replica(victim)),
            Self::DeleteTable | Self::OutageHalf | Self::OutageTwo => self,
        }
    }

    /// The faults of a run: every kind once, then at random.
    pub fn plan(options: &Options) -> Vec<Self> {
        let mut random = StdRng::seed_from_u64(options.seed);
        let mut draw = |kind: usize| {
            let replica = random.random_range(0..options.size.replicas);
            match kind {
                0 => Self::Kill(replica),
                1 => Self::Restart(replica),
                2 => Self::Terminate(replica),
                3 => Self::Pause(replica),
                4 => Self::CutRenewals(replica),
                5 => Self::DeleteLease(replica),
                6 => Self::ForgeLease(replica),
                7 => Self::EditTable(replica),
                8 => Self::DeleteTable,
                9 => Self::OutageHalf,
                _ => Self::OutageTwo,
            }
        };
        let mut kinds = StdRng::seed_from_u64(options.seed.wrapping_add(1));
        // Kills and ends of pods are what happens every day: they are drawn more often than the rest.
        const WEIGHTED: [usize; 16] = [0, 0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10];
        let all = (0..=10).chain(std::iter::from_fn(|| Some(WEIGHTED[kinds.random_range(0..WEIGHTED.len())])));
        let wanted = |fault: &Self| options.only.is_empty() || options.only.iter().any(|kind| kind == fault.kind());
        all.map(&mut draw).filter(wanted).take(options.handovers).collect()
    }
}
