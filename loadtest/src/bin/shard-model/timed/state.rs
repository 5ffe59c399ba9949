//! One state of the timed model: the members, the table, and what may still go wrong.

use super::member::{Flight, Listing, MEMBERS, Member, Request, SHARDS, Seen};
use crate::shard_set::ShardSet;

/// To whom the table gives a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Holder {
    /// Nobody, and for how long that could have been seen.
    Free {
        age: u8,
    },
    Member(u8),
}

/// Where each shard of a compare-and-swap goes; `NOBODY` where it does not move or nobody is there to take it.
pub type Placement = [u8; SHARDS];
pub const NOBODY: u8 = u8::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct State {
    pub members: [Member; MEMBERS],
    pub holders: [Holder; SHARDS],
    /// Is there a table?
    pub table: bool,
    /// Whose removal is under way as a compare-and-swap at the present version of the table.
    pub kills: [bool; MEMBERS],
    /// How many faults may still happen.
    pub faults: u8,
    /// How many planned moves may still begin.
    pub moves: u8,
}

/// A write that can still commit though the table names somebody else.
pub struct Overlap {
    pub shard: usize,
    pub writer: usize,
    pub holder: usize,
}

impl State {
    pub fn holdings(&self, member: usize) -> ShardSet {
        (0..SHARDS).filter(|&shard| self.holders[shard] == Holder::Member(member as u8)).collect()
    }

    /// Shards that have been free for at least `age`.
    pub fn free(&self, age: u8) -> ShardSet {
        (0..SHARDS).filter(|&shard| matches!(self.holders[shard], Holder::Free { age: a } if a >= age)).collect()
    }

    pub fn listed(&self) -> impl Iterator<Item = usize> {
        (0..MEMBERS).filter(|&member| self.members[member].listed())
    }

    /// Every compare-and-swap under way at the version before this one will be refused.
    pub fn table_changed(&mut self) {
        self.kills = [false; MEMBERS];
        for member in &mut self.members {
            member.handing = ShardSet::EMPTY;
        }
    }

    /// The table no longer names this member.
    pub fn unlist(&mut self, member: usize) {
        self.members[member].listing = Listing::None;
        self.members[member].lease = false;
        for observer in &mut self.members {
            observer.seen[member] = Seen::Nothing;
        }
    }

    pub fn place(&mut self, shards: ShardSet, to: Placement, free: Holder) {
        for shard in shards.iter() {
            self.holders[shard] = if to[shard] == NOBODY { free } else { Holder::Member(to[shard]) };
        }
    }

    /// All ways to give `shards` to `targets`. With no target there is one way: nobody gets them.
    pub fn placements(shards: ShardSet, targets: &[usize]) -> Vec<Placement> {
        let mut all = vec![[NOBODY; SHARDS]];
        if targets.is_empty() {
            return all;
        }
        for shard in shards.iter() {
            all = all
                .iter()
                .flat_map(|before| {
                    targets.iter().map(move |&target| {
                        let mut placement = *before;
                        placement[shard] = target as u8;
                        placement
                    })
                })
                .collect();
        }
        all
    }

    /// T2: a write in flight may commit now, so it must be one of the process that the table names.
    pub fn overlap(&self) -> Option<Overlap> {
        for (shard, holder) in self.holders.iter().enumerate() {
            let Holder::Member(holder) = *holder else { continue };
            let holder = holder as usize;
            for (writer, member) in self.members.iter().enumerate() {
                let replaced = member.running && member.listing == Listing::Present;
                let foreign = member.flights[shard].is_some() && holder != writer
                    || member.orphans[shard].is_some() && (holder != writer || replaced);
                if foreign {
                    return Some(Overlap { shard, writer, holder });
                }
            }
        }
        None
    }

    /// Every shard has an owner that may write it.
    pub fn all_owned(&self, shards: usize) -> bool {
        (0..shards).all(|shard| match self.holders[shard] {
            Holder::Free { .. } => false,
            Holder::Member(m) => {
                let member = &self.members[m as usize];
                member.listing == Listing::Present && member.writes(shard)
            }
        })
    }

    pub fn some_process_runs(&self) -> bool {
        self.members.iter().any(|member| member.running)
    }
}

/// One tick older, and forgotten beyond `limit`.
pub fn older(flight: Flight, limit: u8) -> Flight {
    flight.map(|age| age + 1).filter(|&age| age <= limit)
}

impl Request {
    /// One tick older. Beyond the fence its answer is of no use to anybody.
    pub fn older(self, limit: u8) -> Self {
        match self {
            Self::Renewing { age } if age < limit => Self::Renewing { age: age + 1 },
            Self::Read { age, mine } if age < limit => Self::Read { age: age + 1, mine },
            Self::Joining { age } if age < limit => Self::Joining { age: age + 1 },
            _ => Self::None,
        }
    }
}

impl Seen {
    pub fn older(self, limit: u8) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Lease { age, current } => Self::Lease { age: limit.min(age + 1), current },
            Self::NoLease { age } => Self::NoLease { age: limit.min(age + 1) },
        }
    }
}
