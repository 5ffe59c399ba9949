//! R3 to R7 without their conditions: the table may change in any way that a rule knows, at any moment.

use super::Fenced;
use super::action::Action;
use super::state::{Entry, State};
use crate::control::Control;

impl Fenced {
    pub(super) fn table_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.table {
            actions.push(Action::CreateTable);
            return;
        }
        let listed = |member: &u8| state.listed[*member as usize];
        for member in self.all_members() {
            actions.push(Action::Join { member });
            let heirs: Vec<u8> = self.all_members().filter(|heir| *heir != member && listed(heir)).collect();
            if listed(&member) {
                actions.push(Action::Remove { member, heir: None });
                actions.extend(heirs.iter().map(|&heir| Action::Remove { member, heir: Some(heir) }));
            }
        }
        for shard in self.all_shards() {
            let holder = state.present()[shard as usize].map(|entry| entry.pod);
            let takers = self.all_members().filter(|to| listed(to) && Some(*to) != holder);
            actions.extend(takers.map(|to| match holder {
                Some(_) => Action::HandOver { shard, to },
                None => Action::Assign { shard, to },
            }));
            if holder.is_some() {
                actions.push(Action::Garble { shard });
            }
        }
        actions.push(Action::DeleteTable);
    }

    pub(super) fn table_step(&self, state: &mut State, action: Action) -> bool {
        let read = *state.present();
        let version = state.version as usize;
        let mut entries = read;
        match action {
            Action::Join { member } => {
                state.listed[member as usize] = true;
                self.regrant(state, &mut entries, member, member);
            }
            Action::Remove { member, heir } => {
                state.listed[member as usize] = false;
                match heir {
                    Some(heir) => self.regrant(state, &mut entries, member, heir),
                    None => entries.iter_mut().for_each(|entry| *entry = entry.filter(|entry| entry.pod != member)),
                }
            }
            Action::HandOver { shard, to } | Action::Assign { shard, to } => {
                let old = entries[shard as usize];
                entries[shard as usize] = Some(self.granted(state, old, to));
            }
            Action::Garble { shard } => entries[shard as usize] = None,
            Action::DeleteTable => {
                state.table = false;
                state.listed.fill(false);
                entries.fill(None);
            }
            Action::CreateTable => state.table = true,
            _ => return false,
        }
        state.version += 1;
        state.history[version + 1] = entries;
        if !self.lagging {
            state.view = state.version;
        }
        true
    }

    /// All entries of one pod become entries of another, or of its next incarnation.
    fn regrant(&self, state: &State, entries: &mut [Option<Entry>], from: u8, to: u8) {
        for entry in entries.iter_mut().filter(|entry| entry.is_some_and(|entry| entry.pod == from)) {
            *entry = Some(self.granted(state, *entry, to));
        }
    }

    /// R3. The version stands for the resourceVersion of the read before the compare-and-swap.
    fn granted(&self, state: &State, old: Option<Entry>, to: u8) -> Entry {
        let next = old.map_or(1, |old| old.epoch + 1);
        let epoch = match old {
            _ if self.lacks(Control::EpochFromOne) => next,
            Some(old) if self.lacks(Control::EpochKept) && old.pod == to => old.epoch,
            _ => next.max(state.version),
        };
        Entry { pod: to, epoch, tenure: state.version + 1 }
    }
}
