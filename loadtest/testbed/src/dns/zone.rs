//! The scripts by name, and who asked for what.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hickory_proto::rr::{LowerName, RecordType};
use tokio::sync::Notify;

use super::script::{Script, fqdn};

/// Seconds that NXDOMAIN may be cached where a test says nothing: the usual value of a cluster's DNS.
pub const DEFAULT_SOA_MINIMUM: u32 = 30;

/// Times kept per (name, type): enough to see a schedule, little enough for 100,000 names.
pub const TIMES_KEPT: usize = 32;

/// One script with the number of answers it has given.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) script: Script,
    turns: AtomicU64,
}

impl Entry {
    fn new(script: Script) -> Arc<Self> {
        let turns = AtomicU64::new(0);
        Arc::new(Self { script, turns })
    }

    /// The number of this answer, from 0: where a rotating script is in its series.
    pub(super) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    times: VecDeque<Instant>,
}

#[derive(Debug)]
struct Inner {
    names: HashMap<LowerName, HashMap<RecordType, Arc<Entry>>>,
    unset: Arc<Entry>,
    no_such_type: Arc<Entry>,
    everything: Option<Arc<Entry>>,
    seen: HashMap<(LowerName, RecordType), Seen>,
    total: u64,
}

/// Scripts and counters, shared by the handle and the sockets.
#[derive(Debug)]
pub(super) struct Zone {
    inner: Mutex<Inner>,
    pub(super) asked: Notify,
}

impl Zone {
    pub(super) fn new() -> Self {
        let inner = Inner {
            names: HashMap::new(),
            unset: Entry::new(Script::nx_domain(DEFAULT_SOA_MINIMUM)),
            no_such_type: Entry::new(Script::no_data(DEFAULT_SOA_MINIMUM)),
            everything: None,
            seen: HashMap::new(),
            total: 0,
        };
        Self { inner: Mutex::new(inner), asked: Notify::new() }
    }

    // A panic in a test's thread must not silence the server for the others.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, name: &str, kinds: &[RecordType], script: &Script) {
        let name = LowerName::new(&fqdn(name));
        let mut inner = self.lock();
        let scripts = inner.names.entry(name).or_default();
        for kind in kinds {
            scripts.insert(*kind, Entry::new(script.clone()));
        }
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().names.remove(&LowerName::new(&fqdn(name)));
    }

    pub(super) fn set_default(&self, script: Script) {
        self.lock().unset = Entry::new(script);
    }

    pub(super) fn set_all(&self, script: Option<Script>) {
        self.lock().everything = script.map(Entry::new);
    }

    /// Counts the question and gives the script that answers it.
    pub(super) fn ask(&self, name: LowerName, kind: RecordType) -> Arc<Entry> {
        let mut inner = self.lock();
        let entry = match (&inner.everything, inner.names.get(&name)) {
            (Some(entry), _) => entry,
            (None, Some(scripts)) => scripts.get(&kind).unwrap_or(&inner.no_such_type),
            (None, None) => &inner.unset,
        };
        let entry = Arc::clone(entry);
        inner.total += 1;
        let seen = inner.seen.entry((name, kind)).or_default();
        seen.count += 1;
        if seen.times.len() == TIMES_KEPT {
            seen.times.pop_front();
        }
        seen.times.push_back(Instant::now());
        drop(inner);
        self.asked.notify_waiters();
        entry
    }

    pub(super) fn count(&self, name: &str, kind: RecordType) -> u64 {
        let key = (LowerName::new(&fqdn(name)), kind);
        self.lock().seen.get(&key).map_or(0, |seen| seen.count)
    }

    pub(super) fn times(&self, name: &str, kind: RecordType) -> Vec<Instant> {
        let key = (LowerName::new(&fqdn(name)), kind);
        let inner = self.lock();
        let seen = inner.seen.get(&key);
        seen.map_or_else(Vec::new, |seen| seen.times.iter().copied().collect())
    }

    pub(super) fn total(&self) -> u64 {
        self.lock().total
    }

    pub(super) fn counts(&self) -> BTreeMap<(String, RecordType), u64> {
        let inner = self.lock();
        let key = |name: &LowerName, kind| (name.to_string().trim_end_matches('.').into(), kind);
        let counts = inner.seen.iter();
        counts.map(|((name, kind), seen)| (key(name, *kind), seen.count)).collect()
    }

    pub(super) fn reset_counts(&self) {
        let mut inner = self.lock();
        inner.seen.clear();
        inner.total = 0;
    }
}
