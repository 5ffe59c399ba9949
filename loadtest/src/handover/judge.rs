//! Every revision of the NetworkPolicies, of the statuses and of the table, as watches show them, and what they prove
//! together: the resourceVersions of one cluster are one sequence, so the table's entry at the moment of each write is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress_domain::api::{BOOK_ANNOTATION, EgressPolicy, EgressShardTable, FENCE_ANNOTATION};
use egress_domain::shard::shard_of;
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::table::Table;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::task::JoinHandle;

use super::audit::Audit;
use super::watch::{Told, record};
use crate::lock::lock;

/// What a revision is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A NetworkPolicy that was stored.
    Stored,
    /// One that was deleted.
    Deleted,
    /// The status of an EgressPolicy.
    Status,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Of what.
    pub what: What,
    /// resourceVersion.
    pub version: u64,
    /// When it was seen.
    pub at: Instant,
    /// Uid of the object.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The stamp it carries.
    pub stamp: Option<Stamp>,
    /// Hash of its spec, or of the status.
    pub spec: u64,
    /// Its address book.
    pub book: String,
}

impl Revision {
    fn of_policy(what: What, object: &NetworkPolicy) -> Self {
        let annotation = |name: &str| object.annotations().get(name);
        Self {
            what,
            version: version(object),
            at: Instant::now(),
            uid: object.uid().unwrap_or_default(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            stamp: annotation(FENCE_ANNOTATION).and_then(|stamp| stamp.parse().ok()),
            spec: hash(object.spec.as_ref().and_then(|spec| serde_json::to_string(spec).ok())),
            book: annotation(BOOK_ANNOTATION).cloned().unwrap_or_default(),
        }
    }

    /// None where there is no status.
    fn of_status(object: &EgressPolicy) -> Option<Self> {
        let status = object.status.as_ref()?;
        Some(Self {
            what: What::Status,
            version: version(object),
            at: Instant::now(),
            uid: object.uid().unwrap_or_default(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            stamp: status.fence.as_deref().and_then(|stamp| stamp.parse().ok()),
            spec: hash(serde_json::to_string(status).ok()),
            book: String::new(),
        })
    }

    /// For reports.
    fn told(&self) -> String {
        let Self { version, namespace, name, .. } = self;
        let of = match self.what {
            What::Stored => "",
            What::Deleted => "deleting ",
            What::Status => "status of ",
        };
        format!("{of}{namespace}/{name}@{version}")
    }
}

/// The table as of a revision; none where it was deleted.
pub type TableRevision = (Instant, Option<Arc<Table>>);

#[derive(Default)]
struct Seen {
    /// NetworkPolicies that were stored.
    revisions: Vec<Revision>,
    /// Deletions and statuses.
    others: Vec<Revision>,
    /// Hash of the present status of each EgressPolicy, by uid: what leaves it as it was is not about the status.
    statuses: HashMap<String, u64>,
    /// What no watch can show any more.
    gaps: Vec<String>,
    tables: BTreeMap<u64, TableRevision>,
    /// When a person was about to write or delete the table, and when the answer had come.
    edits: Vec<Instant>,
}

/// A revision that should not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What was written.
    pub what: What,
    /// What was written, by whom, and who held the shard.
    pub told: String,
    /// How long before it a person had edited or deleted the table, if that was a moment before: a request that the API
    /// server had admitted by then is committed all the same, and a holder that a person replaces is not asked first.
    pub after_edit: Option<Duration>,
}

/// A moment.
const MOMENT: Duration = Duration::from_secs(1);

impl Seen {
    fn violation(&self, revision: &Revision, told: &str) -> Violation {
        let ago = self.edits.iter().filter_map(|edit| revision.at.checked_duration_since(*edit)).min();
        let told = format!("{}: {told}", revision.told());
        Violation { what: revision.what, told, after_edit: ago.filter(|ago| *ago < MOMENT) }
    }

    fn all(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.iter().chain(&self.others)
    }

    fn policy(&mut self, told: Told<NetworkPolicy>) {
        match told {
            Told::Stored(object) => self.revisions.push(Revision::of_policy(What::Stored, &object)),
            Told::Deleted(object) => self.others.push(Revision::of_policy(What::Deleted, &object)),
            Told::Lost(since) => self.gaps.push(format!("NetworkPolicies since {since}")),
        }
    }

    fn status(&mut self, told: Told<EgressPolicy>) {
        match told {
            Told::Stored(object) => {
                let Some(revision) = Revision::of_status(&object) else { return };
                if self.statuses.insert(revision.uid.clone(), revision.spec) != Some(revision.spec) {
                    self.others.push(revision);
                }
            }
            Told::Deleted(object) => {
                self.statuses.remove(&object.uid().unwrap_or_default());
            }
            Told::Lost(since) => self.gaps.push(format!("EgressPolicies since {since}")),
        }
    }

    fn table(&mut self, told: Told<EgressShardTable>, installation: &str) {
        let (object, is_there) = match told {
            Told::Stored(object) => (object, true),
            Told::Deleted(object) => (object, false),
            Told::Lost(since) => return self.gaps.push(format!("the table since {since}")),
        };
        let table = Table::parse(&object.spec, installation).ok().filter(|_| is_there).map(Arc::new);
        self.tables.insert(version(&object), (Instant::now(), table));
    }
}

/// Records until dropped.
pub struct Judge {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Judge {
    /// Records everything from now on.
    pub fn start(client: &Client, installation: &str) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (policies, statuses, tables) = (Arc::clone(&seen), Arc::clone(&seen), Arc::clone(&seen));
        let of = installation.to_owned();
        let tasks = vec![
            tokio::spawn(record(Api::all(client.clone()), move |told| lock(&policies).policy(told))),
            tokio::spawn(record(Api::all(client.clone()), move |told| lock(&statuses).status(told))),
            tokio::spawn(record(Api::all(client.clone()), move |told| lock(&tables).table(told, &of))),
        ];
        Self { seen, tasks }
    }

    /// The present table.
    pub fn table(&self) -> Option<Arc<Table>> {
        lock(&self.seen).tables.last_key_value().and_then(|(_, (_, table))| table.clone())
    }

    /// Every table since a version, the oldest first.
    pub fn tables_since(&self, version: u64) -> Vec<(u64, TableRevision)> {
        lock(&self.seen).tables.range(version..).map(|(version, revision)| (*version, revision.clone())).collect()
    }

    /// The newest version of the table.
    pub fn table_version(&self) -> u64 {
        lock(&self.seen).tables.last_key_value().map_or(0, |(version, _)| *version)
    }

    /// How often each NetworkPolicy was written since a version.
    pub fn writes_since(&self, since: u64) -> HashMap<(String, String), usize> {
        let mut writes = HashMap::new();
        for revision in lock(&self.seen).revisions.iter().filter(|revision| revision.version > since) {
            *writes.entry((revision.namespace.clone(), revision.name.clone())).or_default() += 1;
        }
        writes
    }

    /// Revisions since a version that left the spec as the one before had it.
    pub fn unchanged_since(&self, since: u64) -> Vec<String> {
        let mut last: HashMap<(&str, &str), &Revision> = HashMap::new();
        let seen = lock(&self.seen);
        let unchanged = seen.revisions.iter().filter_map(|revision| {
            let before = last.insert((&revision.namespace, &revision.name), revision)?;
            (revision.version > since && revision.spec == before.spec).then(|| {
                let stamp = |revision: &Revision| revision.stamp.map_or_else(String::new, |stamp| stamp.to_string());
                let Revision { version, namespace, name, book, .. } = revision;
                let (new, old) = (stamp(revision), stamp(before));
                format!("{namespace}/{name}@{version}: {new} after {old}, book {book} after {}", before.book)
            })
        });
        unchanged.collect()
    }

    /// The newest version of any NetworkPolicy that the watch has shown.
    pub fn version(&self) -> u64 {
        lock(&self.seen).revisions.iter().map(|revision| revision.version).max().unwrap_or_default()
    }

    /// A person writes or deletes the table now, or has the answer: it was done at some time between the two.
    pub fn edits(&self) {
        lock(&self.seen).edits.push(Instant::now());
    }

    /// Revisions that were written by another pod than the one to which the table gave the shard at that moment.
    pub fn by_strangers(&self, audit: &Audit) -> Vec<Violation> {
        let seen = lock(&self.seen);
        let judged = seen.all().filter_map(|revision| {
            let writer = match revision.what {
                What::Stored => audit.writers.get(&revision.version)?,
                What::Deleted => audit.deleters.get(&revision.uid)?,
                // The log has no versions of statuses; their stamps are judged.
                What::Status => return None,
            };
            let table = seen.tables.range(..=revision.version).rev().find_map(|(_, (_, table))| table.clone())?;
            let shard = shard_of(&revision.namespace, table.shard_count());
            let holder = table.shards[usize::from(shard.0)].holder.as_deref();
            let told = || format!("{writer} wrote, {holder:?} held");
            (holder != Some(writer)).then(|| seen.violation(revision, &told()))
        });
        judged.collect()
    }

    /// Revisions that the table at that moment did not allow, each with what the table said.
    pub fn stale(&self) -> Vec<Violation> {
        let seen = lock(&self.seen);
        let judged = seen.all().filter_map(|revision| {
            let Revision { version, at, namespace, stamp, .. } = revision;
            // While there is no table nobody else holds anything: what was admitted a moment before it went is judged by
            // the last one.
            let table =
                seen.tables.range(..=version).rev().find_map(|(of, (at, table))| Some((of, at, table.clone()?)));
            let Some((of, since, table)) = table else {
                return Some(seen.violation(revision, "there was no table"));
            };
            let Some(stamp) = stamp else {
                return Some(seen.violation(revision, "no stamp"));
            };
            let entry = table.shards.get(usize::from(stamp.shard.0));
            let right = stamp.shard == shard_of(namespace, table.shard_count())
                && entry.is_some_and(|entry| entry.holder.is_some() && entry.epoch == stamp.epoch);
            (!right).then(|| {
                let millis = at.saturating_duration_since(*since).as_millis();
                let of = format!("the table of {of} ({millis} ms before)");
                seen.violation(revision, &format!("stamp {stamp}, {of} said {entry:?}"))
            })
        });
        judged.collect()
    }

    /// Revisions since a version that the API server has noted and no watch has shown: a blind judge finds nothing.
    pub fn unseen(&self, audit: &Audit, since: u64) -> Vec<u64> {
        let seen = lock(&self.seen);
        let shown: HashSet<u64> = seen.revisions.iter().map(|revision| revision.version).collect();
        let noted = audit.writers.range(since + 1..).map(|(version, _)| *version);
        noted.filter(|version| !shown.contains(version)).collect()
    }

    /// What the watches missed because the API server had forgotten it.
    pub fn gaps(&self) -> Vec<String> {
        lock(&self.seen).gaps.clone()
    }

    /// How many revisions there are of a kind.
    pub fn count(&self, what: What) -> usize {
        lock(&self.seen).all().filter(|revision| revision.what == what).count()
    }

    /// How often a shard was given to another replica in the tables since this version, up to another one.
    pub fn moved(&self, since: u64, until: u64) -> usize {
        let seen = lock(&self.seen);
        let mut tables = seen.tables.range(since..=until).filter_map(|(_, (_, table))| table.as_ref());
        let Some(first) = tables.next() else { return 0 };
        let mut holders: Vec<Option<&str>> = first.shards.iter().map(|entry| entry.holder.as_deref()).collect();
        let mut moved = 0;
        for table in tables {
            for (last, entry) in holders.iter_mut().zip(&table.shards) {
                // Given up first and taken later is one move.
                if let Some(holder) = entry.holder.as_deref().filter(|holder| *last != Some(*holder)) {
                    *last = Some(holder);
                    moved += 1;
                }
            }
        }
        moved
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn hash(text: Option<String>) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

/// resourceVersion as a number.
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
