//! No rule tells one member or shard from another, so states that differ by names only are explored once.

use super::member::{Fence, Listing, MEMBERS, Member, Request, SHARDS};
use super::state::{Holder, State};
use crate::shard_set::ShardSet;

/// New names for members and shards: the one called `i` was called `members[i]`.
#[derive(Clone, Copy, Debug)]
struct Renaming {
    members: [usize; MEMBERS],
    shards: [usize; SHARDS],
}

/// All renamings of one size.
#[derive(Clone, Debug)]
pub struct Symmetry {
    members: usize,
    renamings: Vec<Renaming>,
}

impl Symmetry {
    pub fn of(members: usize, shards: usize) -> Self {
        let mut renamings = Vec::new();
        for m in permutations::<MEMBERS>(members) {
            for s in permutations::<SHARDS>(shards) {
                renamings.push(Renaming { members: m, shards: s });
            }
        }
        Self { members, renamings }
    }

    /// Of all states that are `state` under other names and have their members in the order of `rank`, the least.
    pub fn representative(&self, state: &State) -> State {
        let ranks = state.members.each_ref().map(rank);
        let in_order = |renaming: &&Renaming| renaming.members[..self.members].is_sorted_by_key(|&old| ranks[old]);
        let renamed = self.renamings.iter().filter(in_order).map(|renaming| renaming.apply(state));
        renamed.min().unwrap_or(*state)
    }
}

/// What a member is like, whatever anybody is called. It saves most of the renamings.
fn rank(member: &Member) -> (bool, Listing, Fence, bool, u8, bool) {
    let (reading, age) = match member.request {
        Request::None => (false, 0),
        Request::Renewing { age } | Request::Joining { age } => (false, age + 1),
        Request::Read { age, .. } => (true, age),
    };
    (member.running, member.listing, member.fence, reading, age, member.mine.is_empty())
}

/// All orders of the first `size` numbers; the rest stay where they are.
fn permutations<const N: usize>(size: usize) -> Vec<[usize; N]> {
    let mut all = vec![std::array::from_fn(|i| i)];
    for first in 0..size {
        all = all
            .iter()
            .flat_map(|before: &[usize; N]| {
                (first..size).map(move |other| {
                    let mut order = *before;
                    order.swap(first, other);
                    order
                })
            })
            .collect();
    }
    all
}

impl Renaming {
    fn apply(&self, state: &State) -> State {
        let mut new_name = [0; MEMBERS];
        for (new, &old) in self.members.iter().enumerate() {
            new_name[old] = new as u8;
        }
        State {
            members: self.members.map(|old| self.member(&state.members[old])),
            holders: self.shards.map(|old| match state.holders[old] {
                Holder::Member(m) => Holder::Member(new_name[m as usize]),
                free => free,
            }),
            kills: self.members.map(|old| state.kills[old]),
            ..*state
        }
    }

    fn member(&self, member: &Member) -> Member {
        Member {
            request: match member.request {
                Request::Read { age, mine } => Request::Read { age, mine: self.set(mine) },
                request => request,
            },
            mine: self.set(member.mine),
            draining: self.set(member.draining),
            handing: self.set(member.handing),
            flights: self.shards.map(|old| member.flights[old]),
            orphans: self.shards.map(|old| member.orphans[old]),
            seen: self.members.map(|old| member.seen[old]),
            ..*member
        }
    }

    fn set(&self, shards: ShardSet) -> ShardSet {
        (0..SHARDS).filter(|&new| shards.contains(self.shards[new])).collect()
    }
}
