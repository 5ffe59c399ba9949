//! The table as the machine reads it: parsed once, free where it says nothing usable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{HASH_VERSION, ShardId};
use crate::api::{EgressShardTableSpec, ShardTableEntry, ShardTableMember};

/// Name of a pod: the member's name in the table.
pub type Pod = Arc<str>;

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// D.
    pub lease: Duration,
    /// Which installation it belongs to.
    pub installation: Arc<str>,
    /// Whether its shards have been assigned once.
    pub settled: bool,
    /// The replicas.
    pub members: BTreeMap<Pod, MemberEntry>,
    /// Each shard, by its number.
    pub shards: Vec<Entry>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberEntry {
    /// Who speaks as this member.
    pub incarnation: Incarnation,
    /// Uid of its pod; empty outside a pod.
    pub uid: Arc<str>,
    /// When it joined, for people.
    pub since: Arc<str>,
    /// It is shutting down.
    pub leaving: bool,
}

/// The life of a process as a member: a random start, and how often it has joined since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Drawn at the start of the process.
    pub start: Arc<str>,
    /// Raised whenever the process has lapsed.
    pub life: u32,
}

/// Who holds a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The member; none where the shard is free.
    pub holder: Option<Pod>,
    /// Higher with every change.
    pub epoch: u64,
}

/// The table as it was stored at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Uid of the object: another one is another table.
    pub uid: Arc<str>,
    /// resourceVersion.
    pub version: u64,
    /// What it said.
    pub table: Arc<Table>,
}

/// A table that this program must not work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It maps namespaces to shards in a way that this program does not know.
    #[error(
        "the table has hash version {found}, this program knows {HASH_VERSION}: run a newer program, or scale to 0, delete the table and start again"
    )]
    Hash {
        /// What it says.
        found: u32,
    },
    /// Another installation works with it.
    #[error(
        "the table belongs to installation {found:?}, not to {expected:?}: two installations cannot share a cluster; remove the other one, or delete its table when it is gone"
    )]
    Installation {
        /// Whose it is.
        found: String,
        /// Who we are.
        expected: String,
    },
    /// The schema forbids it.
    #[error("the table says {0}")]
    Shape(String),
}

impl Table {
    /// A new table: every shard free, nobody there.
    pub fn new(shard_count: u16, lease: Duration, installation: Arc<str>) -> Self {
        let shards = vec![Entry::default(); usize::from(shard_count.max(1))];
        Self { lease, installation, settled: false, members: BTreeMap::new(), shards }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When this program must not work with it.
    pub fn parse(spec: &EgressShardTableSpec, installation: &str) -> Result<Self, Unusable> {
        if spec.hash_version != HASH_VERSION {
            return Err(Unusable::Hash { found: spec.hash_version });
        }
        if spec.installation != installation {
            return Err(Unusable::Installation { found: spec.installation.clone(), expected: installation.to_owned() });
        }
        let count = u16::try_from(spec.shard_count).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| Unusable::Shape(format!("{} shards", spec.shard_count)))?;
        if spec.lease_duration_seconds == 0 {
            return Err(Unusable::Shape("a lease of 0 seconds".to_owned()));
        }
        let members =
            spec.members.iter().filter_map(|(pod, member)| Some((pod.as_str().into(), parse_member(member)?)));
        let entry = |number: u16| spec.shards.get(&number.to_string()).map(Entry::from).unwrap_or_default();
        Ok(Self {
            lease: Duration::from_secs(spec.lease_duration_seconds.into()),
            installation: spec.installation.as_str().into(),
            // Who held what is missing or unreadable may still write: like a table that is new.
            settled: spec.settled && (0..count).all(|number| is_readable(&spec.shards, number)),
            members: members.collect(),
            shards: (0..count).map(entry).collect(),
        })
    }

    /// The stored form.
    pub fn to_spec(&self) -> EgressShardTableSpec {
        let member = |entry: &MemberEntry| ShardTableMember {
            incarnation: entry.incarnation.to_string(),
            uid: entry.uid.to_string(),
            since: entry.since.to_string(),
            leaving: entry.leaving,
        };
        let text = |entry: &Entry| format!("{}/{}", entry.holder.as_deref().unwrap_or_default(), entry.epoch);
        let shards = self.shards.iter().enumerate();
        EgressShardTableSpec {
            shard_count: u32::try_from(self.shards.len()).unwrap_or(u32::MAX),
            lease_duration_seconds: u32::try_from(self.lease.as_secs()).unwrap_or(u32::MAX),
            hash_version: HASH_VERSION,
            installation: self.installation.to_string(),
            settled: self.settled,
            members: self.members.iter().map(|(pod, entry)| (pod.to_string(), member(entry))).collect(),
            shards: shards.map(|(number, entry)| (number.to_string(), ShardTableEntry(text(entry)))).collect(),
        }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// Every shard with its entry.
    pub fn entries(&self) -> impl Iterator<Item = (ShardId, &Entry)> {
        (0_u16..).map(ShardId).zip(&self.shards)
    }

    /// The shards of a member.
    pub fn held_by<'a>(&'a self, pod: &'a str) -> impl Iterator<Item = (ShardId, &'a Entry)> {
        self.entries().filter(move |(_, entry)| entry.holder.as_deref() == Some(pod))
    }

    /// The shards that nobody in the table holds.
    pub fn free(&self) -> impl Iterator<Item = ShardId> {
        let is_free = |entry: &Entry| entry.holder.as_ref().is_none_or(|pod| !self.members.contains_key(pod));
        self.entries().filter(move |(_, entry)| is_free(entry)).map(|(shard, _)| shard)
    }
}

impl std::fmt::Display for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.start, self.life)
    }
}

impl Incarnation {
    /// Name of the Lease that the process renews.
    pub fn lease_name(&self, pod: &str) -> String {
        // A name of an object has at most 253 characters, and the start is short.
        let pod: String = pod.chars().take(200).collect();
        format!("{pod}-{}", self.start)
    }
}

fn is_readable(shards: &BTreeMap<String, ShardTableEntry>, number: u16) -> bool {
    let epoch = shards.get(&number.to_string()).and_then(|entry| entry.0.rsplit_once('/')).map(|(_, epoch)| epoch);
    epoch.is_some_and(|epoch| epoch.parse::<u64>().is_ok())
}

fn parse_member(member: &ShardTableMember) -> Option<MemberEntry> {
    let (start, life) = member.incarnation.rsplit_once('.')?;
    Some(MemberEntry {
        incarnation: Incarnation { start: start.into(), life: life.parse().ok()? },
        uid: member.uid.as_str().into(),
        since: member.since.as_str().into(),
        leaving: member.leaving,
    })
}

/// What cannot be read is free, at epoch 0: the API server refuses to lower the stored one.
impl From<&ShardTableEntry> for Entry {
    fn from(entry: &ShardTableEntry) -> Self {
        let parsed = entry.0.rsplit_once('/').and_then(|(pod, epoch)| Some((pod, epoch.parse().ok()?)));
        let Some((pod, epoch)) = parsed else { return Self::default() };
        Self { holder: (!pod.is_empty()).then(|| pod.into()), epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(4, Duration::from_secs(15), "egress".into());
        let incarnation = Incarnation { start: "1f".into(), life: 2 };
        let member = MemberEntry { incarnation, uid: "u".into(), since: "now".into(), leaving: false };
        table.members.insert("pod-a".into(), member);
        table.shards[2] = Entry { holder: Some("pod-a".into()), epoch: 77 };
        table
    }

    #[test]
    fn a_table_survives_its_stored_form() {
        let table = example();
        assert_eq!(Table::parse(&table.to_spec(), "egress"), Ok(table));
    }

    #[test]
    fn entries_that_are_missing_or_unreadable_are_free() {
        let mut spec = example().to_spec();
        spec.shards.remove("0");
        spec.shards.insert("1".to_owned(), ShardTableEntry("no entry".to_owned()));
        let table = Table::parse(&spec, "egress").unwrap();
        assert_eq!(table.free().collect::<Vec<_>>(), [ShardId(0), ShardId(1), ShardId(3)]);
        assert_eq!(table.shards[1], Entry::default());
    }

    #[test]
    fn a_shard_whose_holder_is_no_member_is_free() {
        let mut table = example();
        table.members.clear();
        assert_eq!(table.free().count(), 4);
    }

    #[test]
    fn a_table_of_another_hash_or_installation_is_refused() {
        let spec = example().to_spec();
        assert!(matches!(Table::parse(&spec, "other"), Err(Unusable::Installation { .. })));
        let spec = EgressShardTableSpec { hash_version: 2, ..spec };
        assert_eq!(Table::parse(&spec, "egress"), Err(Unusable::Hash { found: 2 }));
    }
}
