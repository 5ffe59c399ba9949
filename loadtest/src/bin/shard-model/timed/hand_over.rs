//! R7: only the holder moves a live shard.

use super::Timed;
use super::member::{Listing, Request};
use super::state::{Placement, State};
use crate::control::Control;

impl Timed {
    pub(super) fn drain(&self, state: &mut State, m: usize, shard: usize) -> bool {
        if state.moves == 0 || !state.members[m].writes(shard) {
            return false;
        }
        state.moves -= 1;
        state.members[m].draining = state.members[m].draining.with(shard);
        true
    }

    /// Every outcome is known. Where one stays unknown, the flight ends by itself.
    pub(super) fn drained(&self, state: &mut State, m: usize) -> bool {
        let member = &mut state.members[m];
        for shard in member.draining.iter() {
            member.flights[shard] = None;
        }
        member.running
    }

    pub(super) fn send_hand_over(&self, state: &mut State, m: usize) -> bool {
        let held = state.holdings(m);
        let other = state.listed().any(|other| other != m);
        let member = &mut state.members[m];
        let ready = member.draining.iter().all(|shard| member.flights[shard].is_none());
        let handing = member.draining.iter().filter(|&shard| held.contains(shard)).collect();
        if !member.valid() || member.listing != Listing::Present || !other {
            return false;
        }
        if !ready && !self.lacks(Control::ReleaseBeforeDrain) {
            return false;
        }
        member.handing = handing;
        true
    }

    pub(super) fn hand_over(&self, state: &mut State, m: usize, to: Placement) -> bool {
        let member = &mut state.members[m];
        let handing = member.handing;
        if handing.is_empty() {
            return false;
        }
        member.mine = member.mine.without(handing);
        member.draining = member.draining.without(handing);
        if let Request::Read { age, mine } = member.request
            && !self.lacks(Control::OlderTableCounts)
        {
            // That answer shows a table older than the one just written.
            member.request = Request::Read { age, mine: mine.without(handing) };
        }
        state.place(handing, to, self.free_at_once());
        state.table_changed();
        true
    }

    /// Not while the compare-and-swap may still be applied.
    pub(super) fn resume(&self, state: &mut State, m: usize) -> bool {
        let member = &mut state.members[m];
        if !member.valid() || !member.handing.is_empty() && !self.lacks(Control::ResumeEarly) {
            return false;
        }
        member.draining = Default::default();
        true
    }

    /// SIGTERM: drained, one compare-and-swap passes all on and removes the member, the process ends.
    pub(super) fn leave(&self, state: &mut State, m: usize, to: Placement) -> bool {
        let held = state.holdings(m);
        let member = &mut state.members[m];
        let drained = held.iter().all(|shard| member.draining.contains(shard) && member.flights[shard].is_none());
        if state.moves == 0 || !member.valid() || member.listing != Listing::Present || !drained {
            return false;
        }
        state.moves -= 1;
        member.stop();
        state.unlist(m);
        state.place(held, to, self.free_at_once());
        state.table_changed();
        true
    }
}
