//! R5: removing a member that is taken for dead. R6, without its balance: who gets what is free.

use super::Timed;
use super::member::{Listing, Seen};
use super::state::{Holder, NOBODY, Placement, State};
use crate::control::Control;

impl Timed {
    /// (a) to (c) of R5; the compare-and-swap is under way from here on, whatever becomes of the observer.
    pub(super) fn confirm_death(&self, state: &mut State, observer: usize, m: usize) -> bool {
        if !state.table || state.kills[m] || !self.watches_lease(state, observer, m) {
            return false;
        }
        let lease = state.members[m].lease;
        let expiry = match self.lacks(Control::WallClock) {
            true => self.clock.wall_clock_expiry(),
            false => self.clock.expiry(),
        };
        let (age, same) = match state.members[observer].seen[m] {
            Seen::Nothing => return false,
            Seen::Lease { age, current } => (age, lease && current),
            Seen::NoLease { age } => (age, !lease),
        };
        let same = same || self.lacks(Control::NoQuorumGet) || self.lacks(Control::MissingLeaseKills) && !lease;
        if age < expiry || !same {
            return false;
        }
        state.kills[m] = true;
        true
    }

    pub(super) fn kill(&self, state: &mut State, m: usize, to: Placement) -> bool {
        if !state.kills[m] {
            return false;
        }
        let freed = state.holdings(m);
        let taken = state.free(self.clock.expiry()).iter().filter(|&shard| to[shard] != NOBODY).collect();
        let other_pod = state.members[m].listing == Listing::OtherPod;
        state.unlist(m);
        state.place(freed, to, self.free_at_once());
        state.place(taken, to, self.free_at_once());
        state.table_changed();
        if other_pod {
            state.members[m].seen[m] = Seen::Nothing;
        }
        true
    }

    pub(super) fn assign_free(&self, state: &mut State, to: Placement) -> bool {
        if !state.table || !state.members.iter().any(|member| member.valid()) {
            return false;
        }
        let shards = state.free(self.clock.expiry());
        state.place(shards, to, self.free_at_once());
        state.table_changed();
        true
    }

    /// Freed by a rule of the protocol: nobody has to wait for a holder that does not know.
    pub(super) fn free_at_once(&self) -> Holder {
        Holder::Free { age: self.clock.expiry() }
    }
}
