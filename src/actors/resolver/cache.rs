//! Answers until they expire. It only spares first lookups of a name that somebody asked for a moment ago; what is
//! allowed is never read from it, so an eviction costs one query.

use std::time::{Duration, Instant};

use egress_domain::answer::Family;
use egress_domain::fqdn::Fqdn;
use moka::Expiry;
use moka::sync::Cache;

use crate::dns::DnsAnswer;
use crate::dns::servers::Server;

/// Some 20 MB at 200 bytes an answer: every name of a large cluster, for three servers and both families.
const CAPACITY: u64 = 100_000;

type Key = (Server, Fqdn, Family);

/// An answer and when it came.
type Entry = (DnsAnswer, Instant);

/// Answers by (server, name, type).
pub(super) struct AnswerCache(Cache<Key, Entry>);

struct UntilInvalid;

impl Expiry<Key, Entry> for UntilInvalid {
    fn expire_after_create(&self, _: &Key, (answer, _): &Entry, _: Instant) -> Option<Duration> {
        Some(answer.valid_for)
    }

    fn expire_after_update(&self, _: &Key, (answer, _): &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(answer.valid_for)
    }
}

impl AnswerCache {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).expire_after(UntilInvalid).build())
    }

    /// The answer with what is left of its validity.
    pub(super) fn get(&self, server: Server, host: &Fqdn, family: Family) -> Option<DnsAnswer> {
        let (mut answer, at) = self.0.get(&(server, host.clone(), family))?;
        answer.valid_for = answer.valid_for.saturating_sub(at.elapsed());
        (!answer.valid_for.is_zero()).then_some(answer)
    }

    pub(super) fn insert(&self, server: Server, host: &Fqdn, family: Family, answer: &DnsAnswer) {
        self.0.insert((server, host.clone(), family), (answer.clone(), Instant::now()));
    }
}
