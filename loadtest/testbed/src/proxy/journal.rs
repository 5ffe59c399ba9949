//! Which requests came, and how they were answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::target::{Target, Verb};

/// Requests kept in the log, oldest dropped first: some 30 MB, the writes of a long fault run.
pub const LOG_KEPT: usize = 100_000;

/// One request in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What it asked for.
    pub target: Target,
    /// Code that the client got; none while it waits and when the connection was closed.
    pub code: Option<u16>,
    /// Code that the API server gave; none when it was not asked or did not answer.
    pub upstream_code: Option<u16>,
    /// When it came.
    pub at: Instant,
}

/// Number of a request since the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry(u64);

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<(Verb, String), u64>,
    log: VecDeque<Logged>,
    /// Number of the oldest request in the log.
    first: u64,
}

/// Counters and log.
#[derive(Debug, Default)]
pub(super) struct Journal {
    inner: Mutex<Inner>,
    pub(super) changed: Notify,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, target: Target) -> Entry {
        let mut inner = self.lock();
        let key = (target.verb, target.resource.clone());
        *inner.counts.entry(key).or_default() += 1;
        if inner.log.len() == LOG_KEPT {
            inner.log.pop_front();
            inner.first += 1;
        }
        let entry = Entry(inner.first + inner.log.len() as u64);
        inner.log.push_back(Logged { target, code: None, upstream_code: None, at: Instant::now() });
        drop(inner);
        self.changed.notify_waiters();
        entry
    }

    pub(super) fn answered(&self, entry: Entry, code: Option<u16>, upstream_code: Option<u16>) {
        let mut inner = self.lock();
        // A request that the log has dropped in the meantime is not missed.
        let index = entry.0.checked_sub(inner.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        if let Some(logged) = index.and_then(|index| inner.log.get_mut(index)) {
            logged.code = code;
            logged.upstream_code = upstream_code;
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    pub(super) fn count(&self, verb: Verb, resource: &str) -> u64 {
        let inner = self.lock();
        let key = (verb, resource.to_owned());
        inner.counts.get(&key).copied().unwrap_or_default()
    }

    pub(super) fn counts(&self) -> BTreeMap<(Verb, String), u64> {
        self.lock().counts.clone()
    }

    pub(super) fn log(&self) -> Vec<Logged> {
        self.lock().log.iter().cloned().collect()
    }

    pub(super) fn log_holds(&self, holds: impl Fn(&[Logged]) -> bool) -> bool {
        holds(self.lock().log.make_contiguous())
    }

    pub(super) fn reset(&self) {
        let mut inner = self.lock();
        inner.counts.clear();
        // Requests under way keep their numbers and find nothing to fill in.
        inner.first += inner.log.len() as u64;
        inner.log.clear();
    }
}
