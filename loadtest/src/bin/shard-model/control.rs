//! Protocols with one rule taken away. The model must find each of them out.

use clap::ValueEnum;

/// Each lacks one rule; `--control` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Control {
    /// R2: a late answer extends the fence
    NoLapse,
    /// R5: kill without the quorum GET of the Lease
    NoQuorumGet,
    /// R5: expiry is renewTime + duration against the observer's wall clock
    WallClock,
    /// R7: the CAS goes out before the writes in flight have ended
    ReleaseBeforeDrain,
    /// R2: the margin is T and twice the drift, without any slack
    ShortMargin,
    /// A member that has just joined has no fence before its first renewal
    NoFirstFence,
    /// R5: "or none" as an answer of the GET counts at once, whatever was watched
    MissingLeaseKills,
    /// A member creates its Lease again when somebody has deleted it
    LeaseCreatedAgain,
    /// R5: that an incarnation had no Lease counts against the next one of the same process
    NoneOutlivesIncarnation,
    /// R5: the renewTime is compared, not the resourceVersion
    RenewTimeCompared,
    /// R3: an entry that became unreadable is free at once
    UnreadableIsFree,
    /// R4: a process takes over from the one before it in its pod without waiting T
    SamePodAtOnce,
    /// An answer with a table older than the member's own CAS counts
    OlderTableCounts,
    /// R7: a hand-over is given up while its CAS may still be in flight
    ResumeEarly,
    /// R3: the epoch is the old one + 1, without the resourceVersion
    EpochFromOne,
    /// R3: a new incarnation keeps the epochs of its predecessor in the same pod
    EpochKept,
    /// Two API servers: the re-stamp is not tied to the resourceVersion that was read
    RestampUnconditional,
    /// Two API servers: an object deleted by the newer holder is created again by the older one
    CreateAfterDelete,
}

/// In which model a control is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Theorem {
    /// Timed, watches deliver at once.
    T2,
    /// The same, with planned moves.
    T2Moves,
    /// Timed, watches deliver late.
    T2LateWatches,
    /// Fence on, one API server.
    T1,
    /// Fence on, a second API server that lags.
    T1TwoServers,
}

impl Control {
    pub fn theorem(self) -> Theorem {
        match self {
            Self::NoQuorumGet
            | Self::MissingLeaseKills
            | Self::LeaseCreatedAgain
            | Self::NoneOutlivesIncarnation
            | Self::RenewTimeCompared => Theorem::T2LateWatches,
            Self::ReleaseBeforeDrain | Self::OlderTableCounts | Self::ResumeEarly => Theorem::T2Moves,
            Self::EpochFromOne | Self::EpochKept => Theorem::T1,
            Self::RestampUnconditional | Self::CreateAfterDelete => Theorem::T1TwoServers,
            _ => Theorem::T2,
        }
    }

    /// Faults and moves that it takes to find this one out with late watches.
    pub fn budget(self) -> (u8, u8) {
        match self {
            Self::NoQuorumGet => (1, 0),
            Self::LeaseCreatedAgain | Self::NoneOutlivesIncarnation => (2, 1),
            _ => (2, 0),
        }
    }

    /// How it is called on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(|| format!("{self:?}"), |value| value.get_name().to_owned())
    }
}
