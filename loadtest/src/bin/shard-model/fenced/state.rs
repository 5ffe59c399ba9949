//! One state of the fenced model: every table that there was, and the objects.

pub use crate::timed::member::{MEMBERS, SHARDS};

/// Changes of the table that a state has room for.
pub const CHANGES: usize = 9;

/// A shard's entry in the table. The tenure is no part of the stamp: it says which change of the table the entry is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Entry {
    pub pod: u8,
    pub epoch: u8,
    pub tenure: u8,
}

pub type Entries = [Option<Entry>; SHARDS];

/// The one object of a shard that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Object {
    pub exists: bool,
    /// The epoch of its stamp.
    pub epoch: u8,
    /// Whose entry the last spec, or its deletion, was written under.
    pub tenure: u8,
    /// Tenures of which a re-stamp is under way, one bit each.
    pub restamps: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct State {
    /// Stands for the resourceVersion: one more with every change of the table, its deletion included.
    pub version: u8,
    pub table: bool,
    pub listed: [bool; MEMBERS],
    /// The entries of each version.
    pub history: [Entries; CHANGES + 1],
    /// Which version the lagging API server sees.
    pub view: u8,
    pub objects: [Object; SHARDS],
    pub forgeries: u8,
    /// A newer holder's object was overwritten by an older one.
    pub overwritten: bool,
}

impl State {
    /// Everybody is listed, and the shards are dealt out.
    pub fn initial(members: usize, shards: usize, forgeries: u8) -> Self {
        let mut history = [[None; SHARDS]; CHANGES + 1];
        for (shard, entry) in history[0].iter_mut().enumerate().take(shards) {
            *entry = Some(Entry { pod: (shard % members) as u8, epoch: 0, tenure: 0 });
        }
        let object = Object { exists: true, epoch: 0, tenure: 0, restamps: 0 };
        Self {
            version: 0,
            table: true,
            listed: std::array::from_fn(|member| member < members),
            history,
            view: 0,
            objects: [object; SHARDS],
            forgeries,
            overwritten: false,
        }
    }

    pub fn present(&self) -> &Entries {
        &self.history[self.version as usize]
    }

    /// Every entry that `shard` ever had: somebody may still send writes under it.
    pub fn granted(&self, shard: usize) -> impl Iterator<Item = Entry> {
        (0..=self.version)
            .filter_map(move |tenure| self.history[tenure as usize][shard].filter(|entry| entry.tenure == tenure))
    }

    /// T1: a stamp of the past that the fence takes for the present one.
    pub fn ambiguous_stamp(&self) -> Option<(usize, Entry, Entry)> {
        for (shard, present) in self.present().iter().enumerate() {
            let Some(present) = *present else { continue };
            let same = |entry: &Entry| entry.pod == present.pod && entry.epoch == present.epoch;
            if let Some(old) = self.granted(shard).find(|entry| entry.tenure != present.tenure && same(entry)) {
                return Some((shard, old, present));
            }
        }
        None
    }
}
