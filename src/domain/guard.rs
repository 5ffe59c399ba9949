//! I5: addresses that a DNS answer may not open, whatever the tenant wrote.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses that clouds serve metadata, instance credentials or platform services on.
const PLATFORM: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// What an address of a DNS answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May be allowed.
    Fine,
    /// Inside a Service CIDR: the host is a name of the cluster itself.
    ClusterLocal,
    /// Never allowed.
    Guarded,
}

/// Blocks of this cluster and of the administrator that DNS answers may not open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardRail {
    /// Service CIDRs.
    pub services: Vec<IpNet>,
    /// Pod CIDRs.
    pub pods: Vec<IpNet>,
    /// Addresses of Nodes, sorted: there may be tens of thousands, and every address of every answer is judged.
    pub nodes: Vec<IpAddr>,
    /// `--deny-answer-cidr`.
    pub denied: Vec<IpNet>,
}

impl GuardRail {
    /// Judges an address of a DNS answer, and the IPv4 address that it embeds.
    pub fn judge(&self, address: IpAddr) -> Verdict {
        let inner = embedded_ipv4(address).map(IpAddr::V4);
        let forms = [Some(address), inner].into_iter().flatten();
        let mut verdict = Verdict::Fine;
        for form in forms {
            if is_special(form) || PLATFORM.contains(&form) || self.is_ours(form) {
                return Verdict::Guarded;
            }
            if self.services.iter().any(|net| net.contains(&form)) {
                verdict = Verdict::ClusterLocal;
            }
        }
        verdict
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.nodes.binary_search(&address).is_ok()
            || self.pods.iter().chain(&self.denied).any(|net| net.contains(&address))
    }
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                // An IPv4-mapped address is never on the wire; the A record speaks for it.
                || v6.to_ipv4_mapped().is_some()
        }
    }
}

/// The IPv4 address inside an IPv4-mapped (RFC 4291, 2.5.5.2), IPv4-compatible (2.5.5.1), NAT64 (RFC 6052, RFC 8215)
/// or 6to4 (RFC 3056) address.
fn embedded_ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: Verdict) {
        let guard = GuardRail {
            services: vec!["10.96.0.0/16".parse().unwrap()],
            pods: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()],
            nodes: ["192.0.2.9", "192.0.2.10", "192.0.2.200", "2001:db8::a"].map(|node| node.parse().unwrap()).to_vec(),
            denied: vec!["198.51.100.0/24".parse().unwrap()],
        };
        assert_eq!(guard.judge(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn outside_and_private_addresses_are_fine() {
        for address in ["140.82.121.6", "10.0.0.5", "192.168.1.1", "2606:50c0:8000::153", "fd12:3456::1"] {
            check(address, Verdict::Fine);
        }
    }

    #[test]
    fn every_kind_of_guarded_address_is_guarded_in_each_of_its_forms() {
        for v4 in [
            "127.0.0.1",
            "127.8.8.8",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.251",
            "255.255.255.255",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "10.244.3.7",
            "192.0.2.9",
            "192.0.2.10",
            "192.0.2.200",
            "198.51.100.77",
        ] {
            check(v4, Verdict::Guarded);
            let o = v4.parse::<Ipv4Addr>().unwrap().octets();
            let hex = format!("{:02x}{:02x}:{:02x}{:02x}", o[0], o[1], o[2], o[3]);
            for form in [
                format!("::ffff:{hex}"),
                format!("64:ff9b::{hex}"),
                format!("64:ff9b:1::{hex}"),
                format!("2002:{hex}::1"),
            ] {
                check(&form, Verdict::Guarded);
            }
        }
        for v6 in [
            "::",
            "::1",
            "fe80::1",
            "ff02::fb",
            "fd00:ec2::254",
            "fd00:10:244::9",
            "::ffff:140.82.121.6",
            "2001:db8::a",
        ] {
            check(v6, Verdict::Guarded);
        }
    }

    #[test]
    fn a_service_address_is_cluster_local_also_behind_nat64() {
        check("10.96.0.10", Verdict::ClusterLocal);
        check("64:ff9b::a60:a", Verdict::ClusterLocal);
    }
}
