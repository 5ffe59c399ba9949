//! The address book: which addresses DNS gave for each host of a policy, and when an answer last held each.
//!
//! It is the only source of what is allowed. Failure never touches it (I3): only successful answers do.

mod annotation;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use litemap::LiteMap;

pub use annotation::{BookError, MAX_ANNOTATION_BYTES, pairs_that_fit, worst_case_bytes};

use crate::answer::Family;
use crate::fqdn::Fqdn;
use crate::time::{UnixMinutes, UnixTime};

/// Bounds of a book (I7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Addresses of one host.
    pub per_host: usize,
    /// (host, address) pairs of the policy.
    pub per_policy: usize,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Addresses that are new.
    pub added: usize,
    /// Addresses that had to go for them.
    pub evicted: usize,
    /// The host is at its cap and the answer held more.
    pub host_cap: bool,
    /// The policy is at its cap and the answer held more.
    pub policy_cap: bool,
}

/// Addresses of a host, and when an answer last held each.
type Entries = LiteMap<IpAddr, UnixMinutes>;

/// Per host: address and when an answer last held it, in minutes rounded up. Sorted vectors: most books are a few entries,
/// for which the nodes of a tree would be mostly empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressBook {
    hosts: LiteMap<Fqdn, Entries>,
}

impl AddressBook {
    /// Addresses allowed for a host, sorted.
    pub fn addresses(&self, host: &Fqdn) -> impl Iterator<Item = IpAddr> + '_ {
        self.hosts.get(host).into_iter().flat_map(|entries| entries.keys().copied())
    }

    /// How many addresses a host has.
    pub fn count(&self, host: &Fqdn) -> usize {
        self.hosts.get(host).map_or(0, Entries::len)
    }

    /// How many (host, address) pairs there are.
    pub fn len(&self) -> usize {
        self.hosts.values().map(Entries::len).sum()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Every (host, address, last seen), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Fqdn, IpAddr, UnixMinutes)> {
        self.hosts.iter().flat_map(|(host, all)| all.iter().map(move |(address, seen)| (host, *address, *seen)))
    }

    /// When an answer last held an address.
    pub fn last_seen(&self, host: &Fqdn, address: &IpAddr) -> Option<UnixTime> {
        Some((*self.hosts.get(host)?.get(address)?).into())
    }

    /// When an answer last held any address of the host.
    pub fn host_last_seen(&self, host: &Fqdn) -> Option<UnixTime> {
        self.hosts.get(host)?.values().max().map(|seen| (*seen).into())
    }

    /// Keeps only the pairs that `keep` accepts; says how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(&Fqdn, IpAddr) -> bool) -> usize {
        let before = self.len();
        for (host, entries) in self.hosts.iter_mut() {
            entries.retain(|address, _| keep(host, *address));
        }
        self.hosts.retain(|_, entries| !entries.is_empty());
        before - self.len()
    }

    /// Forgets every host that is not in `hosts` (I2: what left the spec leaves at once).
    pub fn keep_hosts(&mut self, hosts: &[Fqdn]) {
        self.hosts.retain(|host, _| hosts.binary_search(host).is_ok());
    }

    /// Takes in the addresses of an answer: those known are seen now, new ones are added. At a cap the longest unseen
    /// goes; an address of this very answer never does, so a host that answers more than the cap does not churn.
    pub fn learn(&mut self, host: &Fqdn, answer: &[IpAddr], now: UnixTime, caps: Caps) -> Learned {
        let seen = now.minutes_up();
        let present: HashSet<IpAddr> = answer.iter().copied().collect();
        let mut learned = Learned::default();
        let mut total = self.len();
        let mut fresh: BTreeSet<IpAddr> = BTreeSet::new();
        {
            let room = answer.len().min(caps.per_host);
            let entries = self.hosts.entry(host.clone()).or_insert_with(|| Entries::with_capacity(room));
            for address in answer {
                match entries.get_mut(address) {
                    Some(last) => *last = seen.max(*last),
                    None => drop(fresh.insert(*address)),
                }
            }
        }
        for address in fresh {
            if self.count(host) >= caps.per_host {
                learned.host_cap = true;
                // Nothing older than this answer is left to go: the rest of it does not fit either.
                if !self.evict_from(host, &present) {
                    break;
                }
                learned.evicted += 1;
                total -= 1;
            }
            if total >= caps.per_policy {
                learned.policy_cap = true;
                if !self.evict_any(host, &present) {
                    break;
                }
                learned.evicted += 1;
                total -= 1;
            }
            self.hosts.entry(host.clone()).or_default().insert(address, seen);
            total += 1;
            learned.added += 1;
        }
        self.hosts.retain(|_, entries| !entries.is_empty());
        learned
    }

    /// Removes the addresses of a (host, family) that have expired: absent from this successful answer and from the
    /// last answers of the other servers, and unseen for `retention` (I3). Says how many went.
    pub fn expire(
        &mut self,
        host: &Fqdn,
        family: Family,
        present: impl Fn(&IpAddr) -> bool,
        now: UnixTime,
        retention: Duration,
    ) -> usize {
        let Some(entries) = self.hosts.get_mut(host) else { return 0 };
        let before = entries.len();
        entries.retain(|address, seen| {
            Family::of(address) != family
                || present(address)
                || now.0 < UnixTime::from(*seen).0.saturating_add(retention.as_secs())
        });
        let gone = before - entries.len();
        if entries.is_empty() {
            self.hosts.remove(host);
        }
        gone
    }

    /// Removes the longest unseen pairs until at most `cap` remain; says how many went.
    pub fn shrink_to(&mut self, cap: usize) -> usize {
        let mut gone = 0;
        while self.len() > cap {
            let Some((host, address)) = self.longest_unseen(|_, _| true) else { break };
            self.remove(&host, &address);
            gone += 1;
        }
        gone
    }

    /// Removes the longest unseen addresses of a host until at most `cap` remain.
    pub fn shrink_host_to(&mut self, host: &Fqdn, cap: usize) {
        while self.count(host) > cap && self.evict_from(host, &HashSet::new()) {}
    }

    /// Takes over every pair of `other`; where both know one, the later last-seen time stands.
    pub fn merge(&mut self, other: Self) {
        for (host, entries) in other.hosts {
            let mine = self.hosts.entry(host).or_default();
            for (address, seen) in entries {
                let last = mine.entry(address).or_insert(seen);
                *last = seen.max(*last);
            }
        }
    }

    fn evict_from(&mut self, host: &Fqdn, answer: &HashSet<IpAddr>) -> bool {
        let oldest = self.hosts.get(host).and_then(|entries| {
            entries.iter().filter(|(a, _)| !answer.contains(a)).min_by_key(|(a, seen)| (**seen, **a)).map(|(a, _)| *a)
        });
        oldest.is_some_and(|address| self.remove(host, &address))
    }

    fn evict_any(&mut self, host: &Fqdn, answer: &HashSet<IpAddr>) -> bool {
        self.longest_unseen(|h, a| h != host || !answer.contains(&a)).is_some_and(|(h, a)| self.remove(&h, &a))
    }

    fn longest_unseen(&self, eligible: impl Fn(&Fqdn, IpAddr) -> bool) -> Option<(Fqdn, IpAddr)> {
        self.iter()
            .filter(|(host, address, _)| eligible(host, *address))
            .min_by_key(|(host, address, seen)| (*seen, *host, *address))
            .map(|(host, address, _)| (host.clone(), address))
    }

    fn remove(&mut self, host: &Fqdn, address: &IpAddr) -> bool {
        let Some(entries) = self.hosts.get_mut(host) else { return false };
        let was_known = entries.remove(address).is_some();
        if entries.is_empty() {
            self.hosts.remove(host);
        }
        was_known
    }
}

#[cfg(test)]
mod tests;
