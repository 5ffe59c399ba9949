//! What a size means: which policy names which hosts, and what each host answers.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use egress_domain::api::EgressPolicy;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use super::size::Size;

/// RFC 2544's block for benchmarks: no guard rail of the controller covers it.
const BASE: u32 = 0xC612_0000;
/// How often an answer can change at least without coming back.
const LEAST_CHANGES: usize = 8;
/// Addresses in it.
const SPACE: usize = 1 << 17;

/// The work, the same for the same size and seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What it was made from.
    pub size: Size,
    hosts: Vec<Vec<usize>>,
    policies: Vec<Vec<usize>>,
}

impl Workload {
    /// Deals the hosts out as cards, one shuffled deck after the other: each is named as often as any other.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let mut random = StdRng::seed_from_u64(size.seed);
        let mut hosts: Vec<Vec<usize>> = Vec::with_capacity(size.policies);
        let mut policies = vec![Vec::new(); size.hosts];
        let wanted = size.hosts_per_policy.min(size.hosts);
        let (mut deck, mut set_aside): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for policy in 0..size.policies {
            let mut hand: Vec<usize> = Vec::with_capacity(wanted);
            while hand.len() < wanted {
                let Some(host) = deck.pop() else {
                    deck = (0..size.hosts).collect();
                    deck.shuffle(&mut random);
                    continue;
                };
                // At the seam of two decks a host can come twice: the next policy gets it.
                if hand.contains(&host) { set_aside.push(host) } else { hand.push(host) }
            }
            deck.append(&mut set_aside);
            hand.iter().for_each(|host| policies[*host].push(policy));
            hosts.push(hand);
        }
        Self { size, hosts, policies }
    }

    /// The same, but every policy names host 0 in the place of one of its own.
    #[must_use]
    pub fn with_shared_host(size: Size) -> Self {
        let mut workload = Self::new(size);
        for (policy, hosts) in workload.hosts.iter_mut().enumerate().filter(|(_, hosts)| !hosts.contains(&0)) {
            if let Some(host) = hosts.first_mut() {
                workload.policies[*host].retain(|known| *known != policy);
                *host = 0;
                workload.policies[0].push(policy);
            }
        }
        workload
    }

    /// Fails where the hosts are too many for their answers to change.
    ///
    /// # Errors
    /// With what would fit.
    pub fn check(&self) -> Result<()> {
        let most = SPACE / (LEAST_CHANGES * self.size.addresses);
        ensure!(self.size.hosts <= most, "at most {most} hosts with {} addresses each", self.size.addresses);
        Ok(())
    }

    /// The hosts that a policy names.
    #[must_use]
    pub fn hosts_of(&self, policy: usize) -> &[usize] {
        &self.hosts[policy]
    }

    /// The policies that name a host.
    #[must_use]
    pub fn policies_of(&self, host: usize) -> &[usize] {
        &self.policies[host]
    }

    /// Name of a host.
    #[must_use]
    pub fn host(host: usize) -> String {
        format!("host-{host:05}.example.com")
    }

    /// Name of a namespace.
    #[must_use]
    pub fn namespace(namespace: usize) -> String {
        format!("team-{namespace:04}")
    }

    /// Namespace of a policy.
    #[must_use]
    pub fn namespace_of(&self, policy: usize) -> String {
        Self::namespace(policy % self.size.namespaces)
    }

    /// Name of a policy.
    #[must_use]
    pub fn policy(policy: usize) -> String {
        format!("policy-{policy}")
    }

    /// The policy that a NetworkPolicy belongs to, by the number at the end of its name.
    #[must_use]
    pub fn policy_of(name: &str) -> Option<usize> {
        let (rest, number) = name.rsplit_once('-')?;
        if rest.ends_with("policy") { number.parse().ok() } else { None }
    }

    /// What a host answers after it has changed so often; the answers of two hosts never meet, nor do those of a host
    /// within as many changes as the block has room for.
    #[must_use]
    pub fn answer(&self, host: usize, changes: usize) -> Vec<IpAddr> {
        let each = SPACE / self.size.hosts.clamp(1, SPACE);
        let address = |number: usize| {
            let number = (changes * self.size.addresses + number) % each.max(1);
            IpAddr::V4(Ipv4Addr::from(BASE + ((host * each + number) % SPACE) as u32))
        };
        (0..self.size.addresses).map(address).collect()
    }

    /// A policy as its tenant writes it.
    #[must_use]
    pub fn egress_policy(&self, policy: usize) -> EgressPolicy {
        let mut object = EgressPolicy::new(&Self::policy(policy), Default::default());
        object.metadata.namespace = Some(self.namespace_of(policy));
        object.spec = serde_json::from_value(self.spec(policy)).unwrap_or_default();
        object
    }

    fn spec(&self, policy: usize) -> Value {
        let destinations = self.hosts_of(policy).iter().map(|host| json!({"hostname": Self::host(*host)}));
        json!({"destinations": destinations.collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn size(policies: usize, hosts: usize) -> Size {
        Size { policies, namespaces: 10, hosts, hosts_per_policy: 5, addresses: 2, ttl: 60, replicas: 1, seed: 7 }
    }

    #[test]
    fn each_policy_names_different_hosts_and_each_host_is_named_as_often() {
        for (policies, hosts) in [(100, 50), (97, 33), (10, 5)] {
            let workload = Workload::new(size(policies, hosts));
            for policy in 0..policies {
                assert_eq!(workload.hosts_of(policy).iter().collect::<BTreeSet<_>>().len(), 5);
            }
            let named = (0..hosts).map(|host| workload.policies_of(host).len());
            let (least, most) = (named.clone().min().unwrap_or(0), named.max().unwrap_or(0));
            assert!(most - least <= 2, "{policies} policies, {hosts} hosts: {least} to {most}");
        }
    }

    #[test]
    fn answers_of_different_hosts_and_of_successive_changes_share_no_address() {
        let workload = Workload::new(size(100, 1000));
        let answers = (0..1000).flat_map(|host| (0..20).flat_map(move |changes| [(host, changes)]));
        let all: Vec<IpAddr> = answers.flat_map(|(host, changes)| workload.answer(host, changes)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_network_policy_tells_its_policy() {
        assert_eq!(Workload::policy_of("egress-policy-17"), Some(17));
        assert_eq!(Workload::policy_of("default-deny-egress"), None);
    }
}
