//! What nobody planned. Each of them takes one from the budget.

use super::action::Action;
use super::member::{Request, Seen};
use super::state::{Holder, State};
use super::{MEMBERS, Timed};
use crate::control::Control;

impl Timed {
    pub(super) fn fault(&self, state: &mut State, fault: Action) -> bool {
        if state.faults == 0 {
            return false;
        }
        state.faults -= 1;
        match fault {
            Action::Crash(m) => self.crash(state, m as usize),
            Action::DeleteLease(m) => self.delete_lease(state, m as usize),
            Action::ChangeLease(m) => {
                let m = m as usize;
                self.lease_changed(state, m);
                state.members[m].lease
            }
            Action::RestoreLease(m) => self.restore_lease(state, m as usize),
            Action::DeleteTable => self.delete_table(state),
            Action::GarbleEntry(shard) => self.garble_entry(state, shard as usize),
            _ => false,
        }
    }

    fn crash(&self, state: &mut State, m: usize) -> bool {
        let running = state.members[m].running;
        state.members[m].stop();
        running
    }

    fn delete_lease(&self, state: &mut State, m: usize) -> bool {
        let present = state.members[m].lease;
        self.lease_gone(state, m);
        present
    }

    /// What late watches saw of this incarnation is there again, except for its resourceVersion.
    fn restore_lease(&self, state: &mut State, m: usize) -> bool {
        if matches!(state.members[m].request, Request::Joining { .. }) {
            return false;
        }
        for observer in 0..MEMBERS {
            if let Seen::Lease { current, .. } = &mut state.members[observer].seen[m] {
                *current = true;
            }
        }
        state.members[m].lease
    }

    fn delete_table(&self, state: &mut State) -> bool {
        let present = state.table;
        state.table = false;
        state.holders.fill(Holder::Free { age: 0 });
        for m in 0..MEMBERS {
            state.unlist(m);
        }
        state.table_changed();
        present
    }

    /// The holder knows nothing of it, so whoever assigns the shard waits as long as for a table made anew.
    fn garble_entry(&self, state: &mut State, shard: usize) -> bool {
        let held = matches!(state.holders[shard], Holder::Member(_));
        state.holders[shard] = match self.lacks(Control::UnreadableIsFree) {
            true => self.free_at_once(),
            false => Holder::Free { age: 0 },
        };
        state.table_changed();
        held
    }
}
