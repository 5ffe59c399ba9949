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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shard::table::Incarnation;

    fn snapshot(version: u64, epochs: [u64; 2]) -> Snapshot {
        let mut table = Table::new(2, Duration::from_secs(15), "egress".into());
        for (entry, epoch) in table.shards.iter_mut().zip(epochs) {
            *entry = Entry { holder: Some("a".into()), epoch };
        }
        Snapshot { uid: "table".into(), version, table: table.into() }
    }

    fn member(life: u32) -> MemberEntry {
        let incarnation = Incarnation { start: "s".into(), life };
        MemberEntry { incarnation, uid: "u".into(), since: "t".into(), leaving: false }
    }

    #[test]
    fn a_new_epoch_is_above_the_old_one_and_above_every_version_before() {
        let mut change = Change::of(&snapshot(100, [7, 500]));
        change.give(ShardId(0), Some("b".into()));
        change.give(ShardId(1), None);
        assert_eq!(change.table().shards[0], Entry { holder: Some("b".into()), epoch: 100 });
        assert_eq!(change.table().shards[1], Entry { holder: None, epoch: 501 });
    }

    #[test]
    fn who_joins_again_keeps_its_shards_under_new_epochs() {
        let mut change = Change::of(&snapshot(100, [7, 8]));
        change.join(&"a".into(), member(2));
        assert!(change.table().shards.iter().all(|entry| entry.holder.as_deref() == Some("a") && entry.epoch == 100));
        assert_eq!(change.table().members["a"].incarnation.life, 2);
    }

    #[test]
    fn who_is_removed_leaves_free_shards() {
        let mut change = Change::of(&snapshot(100, [7, 8]));
        change.join(&"a".into(), member(1));
        assert_eq!(change.remove("a"), [ShardId(0), ShardId(1)]);
        assert_eq!(change.table().free().count(), 2);
        assert!(change.table().members.is_empty());
    }
}
