//! I5 against a list written out here: no revision of ours opens what DNS answers may not open, and nothing else is
//! kept from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::sim::{Sim, hosts};
use crate::api::BOOK_ANNOTATION;
use crate::guard::GuardRail;
use crate::machine::Input;

const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];
const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/56"];
const NODES: [&str; 2] = ["203.0.113.9/32", "2001:db8:9::9/128"];
const DENIED: [&str; 2] = ["198.51.100.0/24", "2001:db8:bad::/48"];
/// Unspecified, loopback, link-local, multicast, broadcast, metadata and platform addresses.
const SPECIAL: [&str; 13] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fd00:ec2::254/128",
    "fe80::/10",
    "ff00::/8",
];

const NAMES: [&str; 2] = ["a.example", "b.example"];

fn nets() -> Vec<IpNet> {
    [&SPECIAL[..], &SERVICES, &PODS, &NODES, &DENIED].concat().iter().map(|net| net.parse().unwrap()).collect()
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(nets: &[&str]) -> Vec<T> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// The IPv4 address that an IPv6 one carries: mapped, compatible, NAT64 (well-known and local) or 6to4.
fn carried(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let inner = match v6.octets() {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        | [0, 0x64, 0xff, 0x9b, 0, 1, _, _, _, _, _, _, a, b, c, d]
        | [0x20, 0x02, a, b, c, d, ..] => [a, b, c, d],
        _ => return None,
    };
    Some(inner.into())
}

fn is_forbidden(address: IpAddr, new_nodes: &[IpAddr]) -> bool {
    let listed = |ip: IpAddr| new_nodes.contains(&ip) || nets().iter().any(|net| net.contains(&ip));
    listed(address) || carried(address).is_some_and(listed)
}

/// In the list, at an edge of it, or just outside.
fn near(net: IpNet, r: u128, place: u8) -> IpAddr {
    let pick = |first: u128, last: u128| match place {
        0 => first,
        1 => last,
        2 => first.wrapping_sub(1),
        3 => last.wrapping_add(1),
        _ => first + r % (last - first).max(1),
    };
    match net {
        IpNet::V4(net) => v4_of(net, pick),
        IpNet::V6(net) => v6_of(net, pick),
    }
}

fn v4_of(net: Ipv4Net, pick: impl Fn(u128, u128) -> u128) -> IpAddr {
    let at = pick(u32::from(net.network()).into(), u32::from(net.broadcast()).into());
    #[allow(clippy::cast_possible_truncation)]
    Ipv4Addr::from(at as u32).into()
}

fn v6_of(net: Ipv6Net, pick: impl Fn(u128, u128) -> u128) -> IpAddr {
    Ipv6Addr::from(pick(net.network().into(), net.broadcast().into())).into()
}

/// An IPv4 address as it is, or inside one of the forms that carry it.
fn wrapped(address: IpAddr, form: u8, r: u128) -> IpAddr {
    let IpAddr::V4(v4) = address else { return address };
    let low = u128::from(u32::from(v4));
    let v6 = match form {
        0 => (0xffff << 32) | low,
        1 => low,
        2 => (0x0064_ff9b << 96) | low,
        3 => (0x0064_ff9b_0001 << 80) | ((r & 0xffff_ffff_ffff) << 32) | low,
        4 => (0x2002 << 112) | (low << 80) | (r & 0xffff),
        _ => return address,
    };
    Ipv6Addr::from(v6).into()
}

fn address() -> impl Strategy<Value = IpAddr> {
    let usual = (any::<bool>(), 1..9_u8).prop_map(|(v6, o)| if v6 { super::world::v6(o) } else { super::world::v4(o) });
    let near = (select(nets()), any::<u128>(), 0..8_u8, 0..10_u8)
        .prop_map(|(net, r, place, form)| wrapped(near(net, r, place), form, r));
    prop_oneof![1 => usual, 3 => near]
}

#[derive(Clone, Debug)]
enum Step {
    Answer(usize, Vec<IpAddr>),
    Advance(u32),
    Restart,
    DryRun(bool),
    /// A Node gets this address.
    Node(u8),
    /// While the controller is down somebody opens these in the object and names them in its book.
    Poison(Vec<IpAddr>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..NAMES.len(), vec(address(), 1..5)).prop_map(|(n, all)| Step::Answer(n, all)),
        2 => (0..90_000_u32).prop_map(Step::Advance),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::DryRun),
        1 => (1..9_u8).prop_map(Step::Node),
        1 => vec(address(), 1..5).prop_map(Step::Poison),
    ]
}

fn poison(object: &mut NetworkPolicy, addresses: &[IpAddr], minutes: u64) {
    let peers = addresses.iter().map(|ip| json!({"ipBlock": {"cidr": IpNet::from(*ip).to_string()}}));
    let rule = json!({"to": peers.collect::<Vec<_>>(), "ports": [{"port": 443, "protocol": "TCP"}]});
    let rules = object.spec.as_mut().unwrap().egress.as_mut().unwrap();
    rules.push(serde_json::from_value(rule).unwrap());
    let annotations = object.metadata.annotations.as_mut().unwrap();
    let mut book: Value = serde_json::from_str(&annotations[BOOK_ANNOTATION]).unwrap();
    for ip in addresses {
        book["hosts"][NAMES[0]][ip.to_string()] = minutes.into();
    }
    annotations.insert(BOOK_ANNOTATION.to_owned(), book.to_string());
}

fn opened(object: &NetworkPolicy) -> Vec<IpAddr> {
    crate::network_policy::blocks(object.spec.as_ref().unwrap()).map(|(net, _)| net.addr()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_revision_of_ours_opens_what_is_forbidden_and_an_answer_opens_the_rest(steps in vec(step(), 1..30)) {
        let mut sim = Sim::new(hosts(&NAMES));
        let mut nodes: Vec<IpAddr> = parsed::<IpNet>(&NODES).iter().map(IpNet::addr).collect();
        sim.cluster.guard =
            GuardRail { services: parsed(&SERVICES), pods: parsed(&PODS), nodes: nodes.clone(), denied: parsed(&DENIED) };
        sim.input(Input::Cluster(sim.cluster.clone().into()));
        let mut dry = false;
        for step in steps {
            let first = sim.written.len();
            match &step {
                Step::Answer(n, all) => {
                    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
                    sim.answer(NAMES[*n], &texts.iter().map(String::as_str).collect::<Vec<_>>());
                }
                Step::Advance(seconds) => sim.advance(Duration::from_secs((*seconds).into())),
                Step::Restart => sim.restart(),
                Step::DryRun(on) => {
                    dry = *on;
                    let mut spec = hosts(&NAMES);
                    spec["mode"] = json!(if dry { "DryRun" } else { "Enforce" });
                    sim.spec(spec);
                }
                Step::Node(octet) => {
                    nodes.push(super::world::v4(*octet));
                    nodes.sort_unstable();
                    sim.cluster.guard.nodes.clone_from(&nodes);
                    sim.input(Input::Cluster(sim.cluster.clone().into()));
                }
                Step::Poison(all) if sim.stored.is_some() => {
                    let minutes = sim.now.unix.0 / 60;
                    sim.edit_while_down(|object| poison(object, all, minutes));
                    sim.restart();
                }
                Step::Poison(_) => {}
            }
            for object in sim.written[first..].iter().map(|(_, object)| object).chain(&sim.stored) {
                for ip in opened(object) {
                    prop_assert!(!is_forbidden(ip, &nodes), "{ip} is open after {step:?}");
                }
            }
            if let (Step::Answer(_, all), Some(object), false) = (&step, &sim.stored, dry) {
                let open = opened(object);
                // Mapped and compatible addresses are never on the wire.
                let is_routed = |ip: &IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.octets()[..10] == [0; 10]);
                for ip in all.iter().filter(|ip| is_routed(ip) && !is_forbidden(**ip, &nodes)) {
                    prop_assert!(open.contains(ip), "{ip} is kept back");
                }
            }
        }
    }
}
