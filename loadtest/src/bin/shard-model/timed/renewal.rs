//! R2: a renewal is two requests, and it counts from the earlier one.

use super::member::{Fence, Listing, Request, Seen};
use super::state::State;
use super::{Timed, Watches};
use crate::control::Control;

impl Timed {
    pub(super) fn renew_lease(&self, state: &mut State, m: usize) -> bool {
        let member = &mut state.members[m];
        let may = match member.fence {
            Fence::Since(_) | Fence::Missing => member.running,
            Fence::Lapsed => self.lacks(Control::NoLapse) && member.running && member.listing == Listing::Present,
            Fence::NotJoined => false,
        };
        if !may {
            return false;
        }
        if member.listed() && !member.lease {
            if !self.lacks(Control::LeaseCreatedAgain) {
                // Somebody has deleted it: 404. An incarnation never gets a second Lease.
                return self.lapse(member);
            }
            member.lease = true;
        }
        member.request = Request::Renewing { age: 0 };
        self.lease_changed(state, m);
        true
    }

    /// A table that does not list the member confirms nothing: then its fence runs out.
    pub(super) fn read_table(&self, state: &mut State, m: usize) -> bool {
        let mine = state.holdings(m);
        let member = &mut state.members[m];
        let Request::Renewing { age } = member.request else { return false };
        if member.listing != Listing::Present {
            return false;
        }
        member.request = Request::Read { age, mine };
        true
    }

    pub(super) fn take_answer(&self, state: &mut State, m: usize) -> bool {
        let member = &mut state.members[m];
        let Request::Read { age, mine } = member.request else { return false };
        if member.fence == Fence::Lapsed && !self.lacks(Control::NoLapse) {
            return false;
        }
        member.fence = Fence::Since(age);
        member.mine = mine;
        member.request = Request::None;
        true
    }

    /// The Lease of `m` has other content than before.
    pub(super) fn lease_changed(&self, state: &mut State, m: usize) {
        if !state.members[m].listed() {
            return;
        }
        for observer in 0..self.members {
            if !self.watches_lease(state, observer, m) {
                continue;
            }
            let seen = &mut state.members[observer].seen[m];
            *seen = match (self.watches, *seen) {
                (Watches::Prompt, _) => Seen::Lease { age: 0, current: true },
                (Watches::Late, Seen::Lease { age, .. }) => Seen::Lease { age, current: false },
                (Watches::Late, seen) => seen,
            };
        }
    }

    /// The Lease of `m` is gone.
    pub(super) fn lease_gone(&self, state: &mut State, m: usize) {
        state.members[m].lease = false;
        for observer in 0..self.members {
            if !self.watches_lease(state, observer, m) {
                continue;
            }
            let seen = &mut state.members[observer].seen[m];
            *seen = match (self.watches, *seen) {
                (Watches::Prompt, _) => Seen::NoLease { age: 0 },
                (Watches::Late, Seen::Lease { age, .. }) => Seen::Lease { age, current: false },
                (Watches::Late, seen) => seen,
            };
        }
    }

    /// A process watches the others, and a predecessor of its name in another pod.
    pub(super) fn watches_lease(&self, state: &State, observer: usize, m: usize) -> bool {
        let stranger = observer != m || state.members[m].listing == Listing::OtherPod;
        stranger && state.members[observer].observing() && state.members[m].listed()
    }

    /// An observer begins, or begins anew: all that it sees now, it sees for the first time.
    pub(super) fn begin_watching(&self, state: &mut State, observer: usize) {
        for m in 0..self.members {
            let watched = self.watches_lease(state, observer, m) && self.watches == Watches::Prompt;
            state.members[observer].seen[m] = match (watched, state.members[m].lease) {
                (false, _) => Seen::Nothing,
                (true, true) => Seen::Lease { age: 0, current: true },
                (true, false) => Seen::NoLease { age: 0 },
            };
        }
    }

    /// A late watch delivers.
    pub(super) fn watch(&self, state: &mut State, observer: usize, m: usize) -> bool {
        if !self.watches_lease(state, observer, m) {
            return false;
        }
        let lease = state.members[m].lease;
        let seen = &mut state.members[observer].seen[m];
        *seen = match (*seen, lease) {
            (Seen::Lease { current: true, .. }, true) | (Seen::NoLease { .. }, false) => return false,
            (_, true) => Seen::Lease { age: 0, current: true },
            (_, false) => Seen::NoLease { age: 0 },
        };
        true
    }
}
