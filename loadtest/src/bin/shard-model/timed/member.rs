//! One member: its process, what the table and the Lease say of it, and what it has seen of the others.

use crate::shard_set::ShardSet;

/// Members that a state has room for.
pub const MEMBERS: usize = 3;
/// Shards that a state has room for.
pub const SHARDS: usize = 2;

/// Which incarnation the table names for this member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Listing {
    None,
    /// That of the present process, or of the last one while none runs.
    Present,
    /// That of a process before the present one, in the same pod: R4 replaces it at once.
    SamePod,
    /// That of a process before the present one, of the same name in another pod: only R5 removes it.
    OtherPod,
}

/// Until when the process may write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Fence {
    /// Started and not yet a member; watches already.
    NotJoined,
    /// Joined, with no deadline before the first renewal. Only a control leads here.
    Missing,
    /// The age of the request that the fence is counted from. Beyond `Clock::fence` the member has lapsed.
    Since(u8),
    Lapsed,
}

/// The one request that a process has in flight besides its writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Request {
    None,
    /// The Lease is renewed, and the table will be read; the age of the first.
    Renewing {
        age: u8,
    },
    /// The table was read while it gave `mine` to this member; the answer is under way.
    Read {
        age: u8,
        mine: ShardSet,
    },
    /// The Lease of a new incarnation is written, and the compare-and-swap that lists it will be sent.
    Joining {
        age: u8,
    },
}

/// What a process last saw of another member's Lease, and for how long it has not seen it change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Seen {
    Nothing,
    /// `current`: a read would show the same.
    Lease {
        age: u8,
        current: bool,
    },
    NoLease {
        age: u8,
    },
}

/// The age of the youngest write that may still commit.
pub type Flight = Option<u8>;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Member {
    pub running: bool,
    pub listing: Listing,
    pub fence: Fence,
    pub request: Request,
    /// What the last confirmed table gave to it.
    pub mine: ShardSet,
    /// What it no longer writes, to hand it over.
    pub draining: ShardSet,
    /// What a compare-and-swap under way hands over, if the table does not change before.
    pub handing: ShardSet,
    /// Writes of the present process.
    pub flights: [Flight; SHARDS],
    /// Writes of processes before it.
    pub orphans: [Flight; SHARDS],
    /// Is there the Lease of the incarnation that the table names?
    pub lease: bool,
    pub seen: [Seen; MEMBERS],
}

impl Member {
    /// A member that has just renewed.
    pub fn joined() -> Self {
        Self { listing: Listing::Present, fence: Fence::Since(0), lease: true, ..Self::started() }
    }

    /// A process that has just started.
    pub fn started() -> Self {
        Self { running: true, ..Self::absent() }
    }

    /// No process, and nothing left of one.
    pub fn absent() -> Self {
        Self {
            running: false,
            listing: Listing::None,
            fence: Fence::NotJoined,
            request: Request::None,
            mine: ShardSet::EMPTY,
            draining: ShardSet::EMPTY,
            handing: ShardSet::EMPTY,
            flights: [None; SHARDS],
            orphans: [None; SHARDS],
            lease: false,
            seen: [Seen::Nothing; MEMBERS],
        }
    }

    pub fn listed(&self) -> bool {
        self.listing != Listing::None
    }

    /// Before its fence.
    pub fn valid(&self) -> bool {
        self.running && matches!(self.fence, Fence::Since(_))
    }

    /// Are its observations of others in force?
    pub fn observing(&self) -> bool {
        self.running && self.fence != Fence::Lapsed
    }

    /// R1, but for the decision when to write: the model writes whenever it may.
    pub fn writes(&self, shard: usize) -> bool {
        self.valid() && self.mine.contains(shard) && !self.draining.contains(shard)
    }

    /// The process ends; its requests go on.
    pub fn stop(&mut self) {
        for shard in 0..SHARDS {
            self.orphans[shard] = match (self.flights[shard], self.orphans[shard]) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        *self = Self {
            listing: self.listing,
            handing: self.handing,
            orphans: self.orphans,
            lease: self.lease,
            ..Self::absent()
        };
    }
}
