//! `--dns-egress`: where the pods of a policy may send DNS queries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{DnsRule, dns_ports};

/// Where DNS listens unless a list says otherwise.
pub const DNS_PORT: u16 = 53;
/// A label's name and value, and a namespace's name, as the API server bounds them.
const MAX_LABEL: usize = 63;
/// The part of a label's key before the slash, as the API server bounds it.
const MAX_PREFIX: usize = 253;

/// What the administrator says of the pods' DNS path.
///
/// A list is made of entries with commas between them: an address or a CIDR; `KEY=VALUE` or `KEY=VALUE+KEY=VALUE`, the
/// pods with these labels in every namespace; `namespace:NAME`, all pods of it; `port:N`, in place of port 53.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum DnsEgress {
    /// What the cluster itself tells: the DNS namespaces, the DNS Service's ClusterIPs, the nameservers of our own pod.
    #[default]
    Auto,
    /// The Python operator's rule: kube-system on port 53.
    Seed,
    /// This rule alone.
    List(DnsRule),
}

/// Why a text is no [`DnsEgress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsEgressError {
    /// No entry, or an empty one between two commas.
    #[error("an entry is empty: use auto, seed, or a list of addresses, CIDRs, KEY=VALUE, namespace:NAME and port:N")]
    Empty,
    /// Not an address, not a CIDR, and none of the other forms.
    #[error("{0:?} is neither an address nor a CIDR, KEY=VALUE, namespace:NAME or port:N")]
    Entry(String),
    /// The API server would refuse the label.
    #[error("{0:?} is no legal label")]
    Label(String),
    /// The API server would never have such a namespace.
    #[error("{0:?} is no legal name of a namespace")]
    Namespace(String),
    /// Not 1 to 65535.
    #[error("{0:?} is no port from 1 to 65535")]
    Port(String),
    /// Ports alone would allow nothing.
    #[error("a list that names only ports opens nothing")]
    OnlyPorts,
}

impl FromStr for DnsEgress {
    type Err = DnsEgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "seed" => Ok(Self::Seed),
            list => parse_list(list).map(Self::List),
        }
    }
}

fn parse_list(text: &str) -> Result<DnsRule, DnsEgressError> {
    let mut namespaces = BTreeSet::new();
    let mut selectors: BTreeSet<BTreeMap<String, String>> = BTreeSet::new();
    let mut blocks = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for entry in text.split(',').map(str::trim) {
        if entry.is_empty() {
            return Err(DnsEgressError::Empty);
        } else if let Some(name) = entry.strip_prefix("namespace:") {
            namespaces.insert(namespace(name)?);
        } else if let Some(number) = entry.strip_prefix("port:") {
            ports.insert(port(number)?);
        } else if entry.contains('=') {
            selectors.insert(entry.split('+').map(label).collect::<Result<_, _>>()?);
        } else {
            blocks.insert(block(entry)?);
        }
    }
    if namespaces.is_empty() && selectors.is_empty() && blocks.is_empty() {
        return Err(DnsEgressError::OnlyPorts);
    }
    if ports.is_empty() {
        ports.insert(DNS_PORT);
    }
    Ok(DnsRule {
        namespaces: namespaces.into_iter().collect(),
        selectors: selectors.into_iter().map(selector).collect(),
        blocks: blocks.into_iter().collect(),
        ports: dns_ports(ports).ok_or(DnsEgressError::Empty)?,
    })
}

fn block(text: &str) -> Result<IpNet, DnsEgressError> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    // The API server warns of bits after the prefix, and from some release on refuses them.
    let net = address.or_else(|_| text.parse::<IpNet>().map(|net| net.trunc()));
    net.map_err(|_| DnsEgressError::Entry(text.to_owned()))
}

fn port(text: &str) -> Result<u16, DnsEgressError> {
    let port = text.parse::<u16>().ok().filter(|port| *port != 0);
    port.ok_or_else(|| DnsEgressError::Port(text.to_owned()))
}

fn namespace(text: &str) -> Result<String, DnsEgressError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = is_bounded(text, MAX_LABEL) && text.chars().all(legal);
    if is_name { Ok(text.to_owned()) } else { Err(DnsEgressError::Namespace(text.to_owned())) }
}

fn label(text: &str) -> Result<(String, String), DnsEgressError> {
    let illegal = || DnsEgressError::Label(text.to_owned());
    let (key, value) = text.split_once('=').ok_or_else(illegal)?;
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let of_prefix = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let prefixed = prefix.is_none_or(|prefix| is_bounded(prefix, MAX_PREFIX) && prefix.chars().all(of_prefix));
    let is_legal = prefixed && is_label_part(name) && (value.is_empty() || is_label_part(value));
    if is_legal { Ok((key.to_owned(), value.to_owned())) } else { Err(illegal()) }
}

fn is_label_part(text: &str) -> bool {
    is_bounded(text, MAX_LABEL) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Not empty, not too long, and with a letter or digit at either end.
fn is_bounded(text: &str, most: usize) -> bool {
    let ends = [text.chars().next(), text.chars().next_back()];
    text.len() <= most && ends.iter().all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()))
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

impl fmt::Display for DnsEgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self {
            Self::Auto => return f.write_str("auto"),
            Self::Seed => return f.write_str("seed"),
            Self::List(rule) => rule,
        };
        let ports: BTreeSet<u16> = rule.ports.ranges().iter().map(|range| range.port).collect();
        let labels = |selector: &LabelSelector| {
            let pairs = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>().join("+")
        };
        let blocks = rule.blocks.iter().map(ToString::to_string);
        let entries = blocks
            .chain(rule.selectors.iter().map(labels))
            .chain(rule.namespaces.iter().map(|name| format!("namespace:{name}")))
            .chain(ports.iter().map(|port| format!("port:{port}")));
        f.write_str(&entries.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, DnsEgressError>) {
        let parsed = text.parse::<DnsEgress>();
        assert_eq!(parsed.clone().map(|parsed| parsed.to_string()), expected.map(str::to_owned), "{text}");
        if let Ok(parsed) = parsed {
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{text} read back");
        }
    }

    #[test]
    fn the_two_words_are_read() {
        check("auto", Ok("auto"));
        check(" seed ", Ok("seed"));
    }

    #[test]
    fn a_list_of_addresses_is_sorted_without_duplicates_on_port_53() {
        check("169.254.20.10,10.96.0.10, 10.96.0.10/32", Ok("10.96.0.10/32,169.254.20.10/32,port:53"));
        check("fd00::a", Ok("fd00::a/128,port:53"));
    }

    #[test]
    fn bits_after_the_prefix_are_cut_off() {
        check("10.96.0.10/16", Ok("10.96.0.0/16,port:53"));
    }

    #[test]
    fn selectors_namespaces_and_ports_stand_beside_addresses() {
        check(
            "k8s-app=kube-dns,namespace:dns,port:5353,port:53,192.0.2.1",
            Ok("192.0.2.1/32,k8s-app=kube-dns,namespace:dns,port:53,port:5353"),
        );
        check("example.com/tier=dns+app=core", Ok("app=core+example.com/tier=dns,port:53"));
    }

    #[test]
    fn every_port_is_open_on_udp_and_tcp() {
        let DnsEgress::List(rule) = "192.0.2.1,port:5353".parse().unwrap() else { panic!("not a list") };
        assert_eq!(Some(rule.ports), dns_ports([5353]));
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused_here() {
        check("", Err(DnsEgressError::Empty));
        check("10.0.0.1,,10.0.0.2", Err(DnsEgressError::Empty));
        check("kube-dns", Err(DnsEgressError::Entry("kube-dns".to_owned())));
        check("10.0.0.0/33", Err(DnsEgressError::Entry("10.0.0.0/33".to_owned())));
        check("=x", Err(DnsEgressError::Label("=x".to_owned())));
        check("a=b c", Err(DnsEgressError::Label("a=b c".to_owned())));
        check("UPPER.example/a=b", Err(DnsEgressError::Label("UPPER.example/a=b".to_owned())));
        check("namespace:-x", Err(DnsEgressError::Namespace("-x".to_owned())));
        check("10.0.0.1,port:0", Err(DnsEgressError::Port("0".to_owned())));
        check("port:53", Err(DnsEgressError::OnlyPorts));
    }
}
