//! Answers that are still valid, for hosts that come back: a policy that is deleted and created again costs no lookup.
//!
//! It never decides what is allowed; that is in the policies' books.

use std::time::{Duration, Instant};

use egress_domain::answer::Family;
use egress_domain::fqdn::Fqdn;
use egress_domain::lookups::Answered;
use moka::Expiry;
use moka::sync::Cache;

use crate::dns::servers::Server;

/// Addresses (and one for each answer) that are kept: 10,000 hosts of a dozen addresses, in some 10 MB.
const CAPACITY: u64 = 250_000;

type Key = (Server, Fqdn, Family);

#[derive(Clone)]
struct Entry {
    answer: Answered,
    valid_for: Duration,
}

/// Valid answers by server, host and family.
pub(super) struct AnswerCache(Cache<Key, Entry>);

struct Validity;

impl Expiry<Key, Entry> for Validity {
    fn expire_after_create(&self, _: &Key, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.valid_for)
    }

    fn expire_after_update(&self, _: &Key, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.valid_for)
    }
}

impl AnswerCache {
    pub(super) fn new() -> Self {
        let weight = |_: &Key, entry: &Entry| u32::try_from(1 + entry.answer.addresses.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weight).expire_after(Validity).build())
    }

    pub(super) fn get(&self, server: Server, host: &Fqdn, family: Family) -> Option<Answered> {
        self.0.get(&(server, host.clone(), family)).map(|entry| entry.answer)
    }

    pub(super) fn insert(&self, server: Server, host: Fqdn, family: Family, answer: Answered, valid_for: Duration) {
        self.0.insert((server, host, family), Entry { answer, valid_for });
    }
}

#[cfg(test)]
mod tests {
    use egress_domain::answer::AnswerKind;

    use super::*;

    #[test]
    fn an_answer_is_given_while_it_is_valid_and_the_last_one_counts() {
        let cache = AnswerCache::new();
        let host = Fqdn::parse("api.example").unwrap();
        let answer = |last: u8| Answered {
            kind: AnswerKind::Positive,
            addresses: vec![[192, 0, 2, last].into()],
            valid_until: egress_domain::time::Instant(u64::from(last)),
        };
        let get = || cache.get(Server::System, &host, Family::V4);
        for (last, seconds) in [(1, 3_600), (2, 60), (3, 0)] {
            cache.insert(Server::System, host.clone(), Family::V4, answer(last), Duration::from_secs(seconds));
            assert_eq!(get(), (seconds > 0).then(|| answer(last)));
        }
        assert!(cache.get(Server::System, &host, Family::V6).is_none());
    }
}
