//! An EgressPolicy parsed once. Nobody downstream reads the raw spec.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::api::{Destination, DestinationPort, EgressPolicy, Mode, TransportProtocol};
use crate::fqdn::Fqdn;
use crate::object::PolicyKey;
use crate::ports::{PortRange, PortSet, Protocol};
use crate::settings::Settings;
use crate::time::UnixTime;

/// A part of the spec that is skipped, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, as `spec.destinations[2].hostname`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A block of addresses with its holes; canonical (host bits zero, holes sorted).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The block.
    pub net: IpNet,
    /// Blocks strictly inside that stay forbidden.
    pub except: Vec<IpNet>,
}

impl Block {
    /// The block of one address.
    pub fn host(address: IpAddr) -> Self {
        Self { net: address.into(), except: Vec::new() }
    }
}

/// Pods of a namespace of this cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespacePeer {
    /// Name of the namespace.
    pub name: String,
    /// Pods of it; all when none.
    pub pod_selector: Option<LabelSelector>,
    /// Ports; all when none (the shorthand `spec.namespaces`).
    pub ports: Option<PortSet>,
}

/// A policy whose every field has been understood or listed as a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedPolicy {
    /// Namespace and name.
    pub key: PolicyKey,
    /// Uid of the object.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Creation time of the object.
    pub created: UnixTime,
    /// Enforce or DryRun.
    pub mode: Mode,
    /// Pods that the policy applies to.
    pub pod_selector: LabelSelector,
    /// Longest time between two lookups.
    pub refresh: Duration,
    /// How long an address stays after an answer last held it.
    pub retention: Duration,
    /// Hosts and the ports that each opens: sorted, without duplicates; a host stands once per port set.
    pub hosts: Vec<(Fqdn, PortSet)>,
    /// Explicit addresses and blocks, sorted, without duplicates.
    pub blocks: Vec<(PortSet, Block)>,
    /// Namespace peers.
    pub namespaces: Vec<NamespacePeer>,
    /// What was skipped.
    pub problems: Vec<Problem>,
}

impl ValidatedPolicy {
    /// Parses an object as the API server stores it, also one from before the schema was tightened. One bad entry
    /// never stops the rest.
    pub fn parse(object: &EgressPolicy, settings: &Settings) -> Self {
        let spec = &object.spec;
        let mut parser = Parser { settings, hosts: vec![], blocks: vec![], namespaces: vec![], problems: vec![] };
        for (index, destination) in spec.destinations.iter().enumerate() {
            parser.destination(&format!("spec.destinations[{index}]"), destination);
        }
        for (index, name) in spec.namespaces.iter().enumerate() {
            parser.namespace(&format!("spec.namespaces[{index}]"), name, None, None);
        }
        let Parser { mut hosts, mut blocks, mut namespaces, problems, .. } = parser;
        hosts.sort_unstable();
        hosts.dedup();
        hosts.shrink_to_fit();
        blocks.sort_unstable();
        blocks.dedup();
        namespaces.sort_by_cached_key(namespace_sort_key);
        namespaces.dedup();
        let seconds = |value: Option<u32>, default| value.map_or(default, |s| Duration::from_secs(s.into()));
        let retention = seconds(spec.retention_seconds, settings.default_retention);
        let created = object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        Self {
            key: PolicyKey::new(object.namespace().unwrap_or_default(), object.name_any()),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            created: UnixTime(u64::try_from(created).unwrap_or_default()),
            mode: spec.mode,
            pod_selector: spec.pod_selector.clone(),
            refresh: seconds(spec.refresh_interval_seconds, settings.default_refresh).max(Duration::from_secs(1)),
            retention: settings.max_retention.map_or(retention, |max| retention.min(max)),
            hosts,
            blocks,
            namespaces,
            problems,
        }
    }

    /// The host names, sorted, each once.
    pub fn host_names(&self) -> Vec<Fqdn> {
        let mut names: Vec<Fqdn> = self.hosts.iter().map(|(host, _)| host.clone()).collect();
        names.dedup();
        names
    }
}

/// Order of namespace peers in the output. The selector's JSON is canonical: its maps are sorted.
fn namespace_sort_key(peer: &NamespacePeer) -> (Option<PortSet>, String, String) {
    let selector = peer.pod_selector.as_ref().and_then(|s| serde_json::to_string(s).ok()).unwrap_or_default();
    (peer.ports.clone(), peer.name.clone(), selector)
}

struct Parser<'a> {
    settings: &'a Settings,
    hosts: Vec<(Fqdn, PortSet)>,
    blocks: Vec<(PortSet, Block)>,
    namespaces: Vec<NamespacePeer>,
    problems: Vec<Problem>,
}

impl Parser<'_> {
    fn problem(&mut self, field: String, message: impl ToString) {
        self.problems.push(Problem { field, message: message.to_string() });
    }

    fn destination(&mut self, path: &str, destination: &Destination) {
        let Some(ports) = self.ports(path, destination.ports.as_deref()) else { return };
        let Destination { hostname, ip, cidr, except, namespace, ports: _ } = destination;
        // The Python operator's order: hostname wins over ip.
        if let Some(hostname) = hostname {
            self.hostname(format!("{path}.hostname"), hostname, ports);
        } else if let Some(ip) = ip {
            self.ip(format!("{path}.ip"), ip, ports);
        } else if let Some(cidr) = cidr {
            self.cidr(path, cidr, except, ports);
        } else if let Some(namespace) = namespace {
            let selector = namespace.pod_selector.clone();
            self.namespace(&format!("{path}.namespace.name"), &namespace.name, selector, Some(ports));
        } else {
            self.problem(path.to_owned(), "a destination has one of hostname, ip, cidr and namespace; this has none");
        }
    }

    fn hostname(&mut self, field: String, text: &str, ports: PortSet) {
        if let Ok(address) = text.trim().parse::<IpAddr>() {
            self.blocks.push((ports, Block::host(address.to_canonical())));
            return;
        }
        match Fqdn::parse(text) {
            Ok(host) => {
                if host.is_single_label() {
                    self.problem(
                        field,
                        format!("{host} has one label only: write the full name, search lists are not applied"),
                    );
                }
                self.hosts.push((host, ports));
            }
            Err(error) => self.problem(field, error),
        }
    }

    fn ip(&mut self, field: String, text: &str, ports: PortSet) {
        match text.trim().parse::<IpAddr>() {
            // The API server refuses IPv4-mapped addresses; an object from before the schema may hold one.
            Ok(address) => self.blocks.push((ports, Block::host(address.to_canonical()))),
            Err(_) => self.problem(field, format!("{text:?} is not an IPv4 or IPv6 address")),
        }
    }

    fn cidr(&mut self, path: &str, text: &str, except: &[String], ports: PortSet) {
        let Ok(net) = text.trim().parse::<IpNet>().map(|net| net.trunc()) else {
            return self.problem(format!("{path}.cidr"), format!("{text:?} is not a block like 203.0.113.0/24"));
        };
        let mut holes = Vec::with_capacity(except.len());
        for (index, hole) in except.iter().enumerate() {
            match hole.trim().parse::<IpNet>().map(|hole| hole.trunc()) {
                Ok(hole) if net.contains(&hole) && hole != net => holes.push(hole),
                // Leaving out a hole would allow what the tenant forbids: the whole entry is skipped.
                _ => {
                    let message = format!("{hole:?} is not a block strictly inside {net}; the destination is skipped");
                    return self.problem(format!("{path}.except[{index}]"), message);
                }
            }
        }
        holes.sort_unstable();
        holes.dedup();
        self.blocks.push((ports, Block { net, except: holes }));
    }

    fn namespace(&mut self, field: &str, name: &str, pod_selector: Option<LabelSelector>, ports: Option<PortSet>) {
        // RFC 1123 label, as the API server wants a namespace to be named.
        let valid = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if valid {
            self.namespaces.push(NamespacePeer { name: name.to_owned(), pod_selector, ports });
        } else {
            self.problem(field.to_owned(), format!("{name:?} is not the name of a namespace"));
        }
    }

    /// The ports of a destination; none when every one of them is bad (then the destination opens nothing).
    fn ports(&mut self, path: &str, ports: Option<&[DestinationPort]>) -> Option<PortSet> {
        let Some(ports) = ports.filter(|ports| !ports.is_empty()) else {
            return Some(self.settings.default_ports.clone());
        };
        let mut ranges = Vec::with_capacity(ports.len());
        for (index, port) in ports.iter().enumerate() {
            match port_range(port) {
                Some(range) => ranges.push(range),
                None => self.problem(
                    format!("{path}.ports[{index}]"),
                    format!("port {} to {} is no range in 1..65535", port.port, port.end_port.unwrap_or(port.port)),
                ),
            }
        }
        PortSet::new(ranges)
    }
}

fn port_range(port: &DestinationPort) -> Option<PortRange> {
    let protocol = match port.protocol.unwrap_or(TransportProtocol::Tcp) {
        TransportProtocol::Tcp => Protocol::Tcp,
        TransportProtocol::Udp => Protocol::Udp,
        TransportProtocol::Sctp => Protocol::Sctp,
    };
    let first = u16::try_from(port.port).ok().filter(|port| *port > 0)?;
    let end = u16::try_from(port.end_port.unwrap_or(port.port)).ok().filter(|end| *end >= first)?;
    Some(PortRange { protocol, port: first, end })
}

#[cfg(test)]
mod tests;
