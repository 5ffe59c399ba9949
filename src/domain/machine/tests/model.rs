//! What may be allowed (I2) and what must stay (I3), as product.md tells it, beside the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicySpec};
use serde_json::Value;

use super::wanted::{NAMES, Wanted, port_text};
use crate::answer::Family;
use crate::api::BOOK_ANNOTATION;

/// (index of the name, address).
pub(super) type Pair = (usize, IpAddr);

pub(super) struct Model {
    pub(super) wanted: Wanted,
    /// Answers to hosts of the present spec, and what a start found stored and allowed.
    pub(super) answered: BTreeSet<Pair>,
    /// What no answer has let go of yet, and the second in which an answer last held it.
    pub(super) held: BTreeMap<Pair, u64>,
}

impl Model {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, answered: BTreeSet::new(), held: BTreeMap::new() }
    }

    /// What left the spec is forgotten.
    pub(super) fn spec(&mut self, wanted: Wanted) {
        self.answered.retain(|(n, _)| wanted.names(*n));
        self.held.retain(|(n, _), _| wanted.names(*n));
        self.wanted = wanted;
    }

    /// A successful answer: what it lacks may go when it was last held a retention ago, and never before.
    pub(super) fn answer(&mut self, n: usize, family: Family, addresses: &[IpAddr], now: u64) {
        if !self.wanted.names(n) {
            return;
        }
        let retention = self.wanted.retention;
        self.held.retain(|(host, address), last| {
            *host != n || Family::of(address) != family || addresses.contains(address) || now < *last + retention
        });
        for address in addresses.iter().filter(|address| Family::of(address) == family) {
            self.answered.insert((n, *address));
            self.held.insert((n, *address), now);
        }
    }

    /// A start: the book that is stored is all that is known, as far as the stored spec allows it. A short retention
    /// begins anew; for a long one a stored time is late by a checkpoint interval at most.
    pub(super) fn reload(&mut self, stored: Option<&NetworkPolicy>) {
        let allowed = |address: IpAddr| stored.is_some_and(|object| live_allows(object, address));
        let mut known = stored.and_then(book_of).unwrap_or_default();
        known.retain(|(n, address), _| self.wanted.names(*n) && allowed(*address));
        self.answered.extend(known.keys());
        let retention = self.wanted.retention;
        let late = (retention >= 14 * 3_600).then(|| (retention / 14).max(3_600));
        self.held.retain(|pair, last| {
            let seen = known.get(pair);
            if let (Some(late), Some(seen)) = (late, seen) {
                *last = (*last).min(seen + late);
            }
            seen.is_some()
        });
    }
}

/// The book that an object carries, in seconds; none where there is none that reads.
pub(super) fn book_of(object: &NetworkPolicy) -> Option<BTreeMap<Pair, u64>> {
    let text = object.metadata.annotations.as_ref()?.get(BOOK_ANNOTATION)?;
    let book: Value = serde_json::from_str(text).ok().filter(|book: &Value| book["v"] == 1)?;
    let mut all = BTreeMap::new();
    for (name, entries) in book["hosts"].as_object()? {
        let n = NAMES.iter().position(|known| *known == name.as_str())?;
        for (address, minutes) in entries.as_object()? {
            all.insert((n, address.parse().ok()?), minutes.as_u64()? * 60);
        }
    }
    Some(all)
}

fn live_allows(object: &NetworkPolicy, address: IpAddr) -> bool {
    let Some(spec) = &object.spec else { return false };
    let governs = spec.policy_types.iter().flatten().any(|kind| kind == "Egress");
    let opens = |to: Option<&Vec<NetworkPolicyPeer>>| {
        to.is_none_or(|peers| peers.is_empty() || peers.iter().any(|peer| contains(peer, address)))
    };
    !governs || spec.egress.iter().flatten().any(|rule| opens(rule.to.as_ref()))
}

/// Whether a spec opens this port of this address.
pub(super) fn covers(spec: &NetworkPolicySpec, address: IpAddr, port: &str) -> bool {
    spec.egress.iter().flatten().any(|rule| {
        rule.ports.iter().flatten().any(|open| port_text(open) == port)
            && rule.to.iter().flatten().any(|peer| contains(peer, address))
    })
}

fn contains(peer: &NetworkPolicyPeer, address: IpAddr) -> bool {
    let has = |net: &String| net.parse::<IpNet>().unwrap().contains(&address);
    peer.ip_block.as_ref().is_some_and(|block| has(&block.cidr) && !block.except.iter().flatten().any(has))
}
