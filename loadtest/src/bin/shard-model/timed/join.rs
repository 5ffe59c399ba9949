//! R4: joining, and joining again after a lapse or a restart. R3: a table that is made anew.

use super::member::{Fence, Listing, Request, Seen};
use super::state::State;
use super::{Timed, Watches};
use crate::control::Control;

impl Timed {
    /// The Lease comes before the compare-and-swap, so a listed incarnation without one has lost it.
    pub(super) fn write_own_lease(&self, state: &mut State, m: usize) -> bool {
        let member = &mut state.members[m];
        let outside = matches!(member.fence, Fence::NotJoined | Fence::Lapsed);
        if !member.running || !outside || !state.table || member.listing == Listing::OtherPod {
            return false;
        }
        member.request = Request::Joining { age: 0 };
        if member.listing == Listing::Present {
            // A process has one Lease for all its incarnations.
            member.lease = true;
            self.lease_changed(state, m);
        }
        true
    }

    pub(super) fn join(&self, state: &mut State, m: usize) -> bool {
        let mine = state.holdings(m);
        let member = &mut state.members[m];
        let Request::Joining { age } = member.request else { return false };
        let orphans = member.orphans.iter().any(Option::is_some);
        let early = member.listing == Listing::SamePod && orphans && !self.lacks(Control::SamePodAtOnce);
        if !state.table || member.listing == Listing::OtherPod || early {
            return false;
        }
        let lapsed = member.fence == Fence::Lapsed;
        let other_lease = member.listing != Listing::Present;
        member.listing = Listing::Present;
        member.lease |= other_lease;
        member.fence = if self.lacks(Control::NoFirstFence) { Fence::Missing } else { Fence::Since(age) };
        member.request = Request::None;
        member.mine = mine;
        member.draining = Default::default();
        state.table_changed();
        if other_lease {
            for observer in (0..self.members).filter(|&observer| observer != m) {
                if state.members[observer].observing() {
                    state.members[observer].seen[m] = Seen::Lease { age, current: true };
                }
            }
            state.members[m].seen[m] = Seen::Nothing;
        }
        self.forget_earlier_incarnation(state, m);
        if lapsed {
            self.begin_watching(state, m);
        }
        true
    }

    /// What was seen of an earlier incarnation says nothing of this one. Who has seen the Lease that this one wrote
    /// before it was listed has seen this one.
    fn forget_earlier_incarnation(&self, state: &mut State, m: usize) {
        let prompt = self.watches == Watches::Prompt;
        for observer in &mut state.members {
            let seen = &mut observer.seen[m];
            *seen = match *seen {
                Seen::NoLease { .. } if self.lacks(Control::NoneOutlivesIncarnation) => continue,
                Seen::NoLease { .. } if prompt => Seen::NoLease { age: 0 },
                Seen::Lease { age, current: true } => Seen::Lease { age, current: true },
                _ => Seen::Nothing,
            };
        }
    }

    pub(super) fn create_table(&self, state: &mut State, m: usize) -> bool {
        if state.table || !state.members[m].running {
            return false;
        }
        state.table = true;
        true
    }

    /// The process that runs as `m` is another one from now on.
    pub(super) fn start(&self, state: &mut State, m: usize, same_pod: bool) -> bool {
        let member = &mut state.members[m];
        // Where the table names nobody, it makes no difference in which pod the process starts.
        if member.running || (!member.listed() && !same_pod) {
            return false;
        }
        member.running = true;
        member.fence = Fence::NotJoined;
        member.listing = match (member.listed(), same_pod) {
            (false, _) => Listing::None,
            (true, true) => Listing::SamePod,
            (true, false) => Listing::OtherPod,
        };
        self.begin_watching(state, m);
        true
    }
}
