//! Writes that arrive at one of two API servers, and what the two rules of the fence make of them.

use super::action::{Action, Server};
use super::state::{Entry, Object, State};
use super::{Fenced, entries};
use crate::control::Control;

/// The epoch that a tenant forges.
const FORGED: u8 = u8::MAX;

impl Fenced {
    pub(super) fn object_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.view < state.version {
            actions.push(Action::CatchUp);
        }
        for shard in self.all_shards() {
            actions.push(Action::SendRestamp { shard });
            if state.forgeries > 0 {
                actions.push(Action::Forge { shard });
            }
            for entry in state.granted(shard as usize) {
                let tenure = entry.tenure;
                for server in [Server::Present, Server::Lagging] {
                    actions.push(Action::Write { shard, tenure, server });
                    actions.push(Action::Restamp { shard, tenure, server });
                    if self.lacks(Control::CreateAfterDelete) {
                        actions.push(Action::Delete { shard, tenure, server });
                    }
                }
            }
        }
    }

    pub(super) fn object_step(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::CatchUp => {
                state.view += 1;
                true
            }
            Action::Forge { shard } => {
                state.forgeries -= 1;
                let object = Object { epoch: FORGED, ..state.objects[shard as usize] };
                self.store(state, shard, object)
            }
            Action::SendRestamp { shard } => self.send_restamp(state, shard),
            Action::Restamp { shard, tenure, server } => {
                let before = state.objects[shard as usize];
                let Some(entry) = admitted(state, shard, tenure, server) else { return false };
                if before.restamps >> tenure & 1 == 0 || !before.exists {
                    return false;
                }
                let restamps = before.restamps & !(1 << tenure);
                self.store(state, shard, Object { epoch: entry.epoch, restamps, ..before })
            }
            Action::Write { shard, tenure, server } => {
                let before = state.objects[shard as usize];
                let Some(entry) = admitted(state, shard, tenure, server) else { return false };
                // The second rule speaks of updates only.
                if before.exists && before.epoch > entry.epoch {
                    return false;
                }
                state.overwritten |= before.tenure > tenure;
                self.store(state, shard, Object { exists: true, epoch: entry.epoch, tenure, ..before })
            }
            Action::Delete { shard, tenure, server } => {
                let before = state.objects[shard as usize];
                let Some(entry) = admitted(state, shard, tenure, server) else { return false };
                // R10: stamped first, and the deletion names the resourceVersion, so the old stamp is its own.
                if !before.exists || before.epoch != entry.epoch {
                    return false;
                }
                self.store(state, shard, Object { exists: false, tenure, ..before })
            }
            _ => false,
        }
    }

    /// The spec stays, so the second rule does not look. A quorum read has named the sender just before.
    fn send_restamp(&self, state: &mut State, shard: u8) -> bool {
        let Some(entry) = state.present()[shard as usize] else { return false };
        let object = &mut state.objects[shard as usize];
        let needed = object.exists && object.epoch > entry.epoch;
        object.restamps |= 1 << entry.tenure;
        needed
    }

    /// Every change makes the resourceVersion of what is under way an old one.
    fn store(&self, state: &mut State, shard: u8, object: Object) -> bool {
        let kept = if self.lacks(Control::RestampUnconditional) { object.restamps } else { 0 };
        state.objects[shard as usize] = Object { restamps: kept, ..object };
        true
    }
}

/// The first rule: the stamp is that server's entry.
fn admitted(state: &State, shard: u8, tenure: u8, server: Server) -> Option<Entry> {
    let sent = state.granted(shard as usize).find(|entry| entry.tenure == tenure)?;
    let entry = entries(state, server)[shard as usize]?;
    (entry.pod == sent.pod && entry.epoch == sent.epoch).then_some(sent)
}
