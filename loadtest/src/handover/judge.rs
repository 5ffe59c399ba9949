//! Every revision of the NetworkPolicies and of the table, as watches show them, and what they prove together: the
//! resourceVersions of one cluster are one sequence, so the table's entry at the moment of each write is known.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress_domain::api::{BOOK_ANNOTATION, EgressShardTable, FENCE_ANNOTATION};
use egress_domain::shard::shard_of;
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::table::Table;
use futures::StreamExt as _;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::lock::lock;

/// Between two attempts to open a watch while the API server is away.
const RETRY: Duration = Duration::from_millis(50);

/// One revision of a NetworkPolicy.
#[derive(Clone, Debug)]
pub struct Revision {
    /// resourceVersion.
    pub version: u64,
    /// When it was seen.
    pub at: Instant,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The stamp it carries.
    pub stamp: Option<Stamp>,
    /// Hash of its spec.
    pub spec: u64,
    /// Its address book.
    pub book: String,
}

/// The table as of a revision; none where it was deleted.
pub type TableRevision = (Instant, Option<Arc<Table>>);

#[derive(Default)]
struct Seen {
    revisions: Vec<Revision>,
    tables: BTreeMap<u64, TableRevision>,
    /// When a person was about to write or delete the table, and when the answer had come.
    edits: Vec<Instant>,
}

/// A revision that should not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What was written, by whom, and who held the shard.
    pub told: String,
    /// How long before it a person had edited or deleted the table, if that was a moment before: a request that the API
    /// server had admitted by then is committed all the same, and a holder that a person replaces is not asked first.
    pub after_edit: Option<Duration>,
}

/// A moment.
const MOMENT: Duration = Duration::from_secs(1);

impl Seen {
    fn violation(&self, revision: &Revision, told: String) -> Violation {
        let ago = self.edits.iter().filter_map(|edit| revision.at.checked_duration_since(*edit)).min();
        Violation { told, after_edit: ago.filter(|ago| *ago < MOMENT) }
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
        let (policies, tables, of) = (Arc::clone(&seen), Arc::clone(&seen), installation.to_owned());
        let on_policy = move |object: NetworkPolicy, deleted: bool| {
            if deleted {
                return;
            }
            let stamp = object.annotations().get(FENCE_ANNOTATION).and_then(|stamp| stamp.parse().ok());
            let (version, namespace) = (version(&object), object.namespace().unwrap_or_default());
            let (spec, book) = (hash(&object), object.annotations().get(BOOK_ANNOTATION).cloned().unwrap_or_default());
            let name = object.name_any();
            let at = Instant::now();
            lock(&policies).revisions.push(Revision { version, at, namespace, name, stamp, spec, book });
        };
        let on_table = move |object: EgressShardTable, deleted: bool| {
            let table = Table::parse(&object.spec, &of).ok().filter(|_| !deleted).map(Arc::new);
            lock(&tables).tables.insert(version(&object), (Instant::now(), table));
        };
        let tasks = vec![
            tokio::spawn(record(Api::all(client.clone()), on_policy)),
            tokio::spawn(record(Api::all(client.clone()), on_table)),
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
    pub fn by_strangers(&self, writers: &BTreeMap<u64, String>) -> Vec<Violation> {
        let seen = lock(&self.seen);
        let judged = seen.revisions.iter().filter_map(|revision| {
            let Revision { version, namespace, name, .. } = revision;
            let writer = writers.get(version)?;
            let table = seen.tables.range(..=version).rev().find_map(|(_, (_, table))| table.clone())?;
            let shard = shard_of(namespace, table.shard_count());
            let holder = table.shards[usize::from(shard.0)].holder.as_deref();
            let told = || format!("{namespace}/{name}@{version}: {writer} wrote, {holder:?} held");
            (holder != Some(writer)).then(|| seen.violation(revision, told()))
        });
        judged.collect()
    }

    /// Revisions that the table at that moment did not allow, each with what the table said.
    pub fn stale(&self) -> Vec<Violation> {
        let seen = lock(&self.seen);
        let judged = seen.revisions.iter().filter_map(|revision| {
            let Revision { version, at, namespace, name, stamp, .. } = revision;
            // While there is no table nobody else holds anything: what was admitted a moment before it went is judged by
            // the last one.
            let table =
                seen.tables.range(..=version).rev().find_map(|(of, (at, table))| Some((of, at, table.clone()?)));
            let Some((of, since, table)) = table else {
                return Some(seen.violation(revision, format!("{namespace}/{name}@{version}: there was no table")));
            };
            let Some(stamp) = stamp else {
                return Some(seen.violation(revision, format!("{namespace}/{name}@{version}: no stamp")));
            };
            let entry = &table.shards[usize::from(stamp.shard.0)];
            let right = stamp.shard == shard_of(namespace, table.shard_count())
                && entry.holder.is_some()
                && entry.epoch == stamp.epoch;
            (!right).then(|| {
                let millis = at.saturating_duration_since(*since).as_millis();
                let of = format!("the table of {of} ({millis} ms before)");
                seen.violation(revision, format!("{namespace}/{name}@{version}: stamp {stamp}, {of} said {entry:?}"))
            })
        });
        judged.collect()
    }

    /// Revisions that were judged.
    pub fn judged(&self) -> usize {
        lock(&self.seen).revisions.len()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Every event from the beginning of what is stored; goes on where it was after the API server was away.
async fn record<K>(api: Api<K>, tell: impl Fn(K, bool) + Send)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut since = "0".to_owned();
    loop {
        let Ok(stream) = api.watch(&WatchParams::default(), &since).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(Ok(event)) = stream.next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    since = object.resource_version().unwrap_or(since);
                    tell(object, false);
                }
                WatchEvent::Deleted(object) => {
                    since = object.resource_version().unwrap_or(since);
                    tell(object, true);
                }
                WatchEvent::Bookmark(mark) => since = mark.metadata.resource_version,
                WatchEvent::Error(_) => break,
            }
        }
    }
}

fn hash(object: &NetworkPolicy) -> u64 {
    let spec = object.spec.as_ref().and_then(|spec| serde_json::to_string(spec).ok());
    BuildHasherDefault::<DefaultHasher>::default().hash_one(spec)
}

/// resourceVersion as a number.
pub(super) fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
