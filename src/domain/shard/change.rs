//! Changes of the table: what one compare-and-swap does, with the epochs it must give.

use std::sync::Arc;

use super::ShardId;
use super::table::{Entry, MemberEntry, Pod, Snapshot, Table};

/// A change of the table that was read as `base`.
#[derive(Clone, Debug)]
pub struct Change {
    base: u64,
    table: Table,
}

impl Change {
    /// Nothing changed yet.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { base: snapshot.version, table: Table::clone(&snapshot.table) }
    }

    /// The table as changed so far.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The table to store.
    pub fn finish(self) -> Arc<Table> {
        Arc::new(self.table)
    }

    /// Adds or replaces a member. Its predecessor's shards stay with it, under new epochs: a request of the
    /// predecessor's is stale from here on.
    pub fn join(&mut self, pod: &Pod, member: MemberEntry) {
        self.table.members.insert(pod.clone(), member);
        let held: Vec<ShardId> = self.table.held_by(pod).map(|(shard, _)| shard).collect();
        for shard in held {
            self.give(shard, Some(pod.clone()));
        }
    }

    /// Says that a member takes nothing any more.
    pub fn leaving(&mut self, pod: &str) {
        if let Some(member) = self.table.members.get_mut(pod) {
            member.leaving = true;
        }
    }

    /// Takes a member out; gives the shards it held, which are free now.
    pub fn remove(&mut self, pod: &str) -> Vec<ShardId> {
        self.table.members.remove(pod);
        let held: Vec<ShardId> = self.table.held_by(pod).map(|(shard, _)| shard).collect();
        for shard in &held {
            self.give(*shard, None);
        }
        held
    }

    /// Gives a shard to a member, or frees it. The new epoch is higher than every earlier one of any table: the versions
    /// of the API server are one sequence, so not even a table that was deleted and made anew repeats one.
    pub fn give(&mut self, shard: ShardId, holder: Option<Pod>) {
        let base = self.base;
        if let Some(entry) = self.table.shards.get_mut(usize::from(shard.0)) {
            self.table.settled |= holder.is_some();
            *entry = Entry { holder, epoch: base.max(entry.epoch + 1) };
        }
    }
}
