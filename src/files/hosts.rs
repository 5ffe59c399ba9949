//! Addresses that a person gives in the place of DNS: `--resolve HOST=IP` and files named `hosts`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use egress_domain::fqdn::Fqdn;

use super::finding::Finding;

/// Name of the file beside the policies.
pub const FILE_NAME: &str = "hosts";

/// One `HOST=IP`, or `HOST=IP,IP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddresses {
    /// The host.
    pub host: Fqdn,
    /// What it is said to have; at least one.
    pub addresses: BTreeSet<IpAddr>,
}

impl FromStr for HostAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, list) = text.split_once('=').ok_or_else(|| format!("{text:?} is not HOST=IP"))?;
        let host = Fqdn::parse(host).map_err(|error| error.to_string())?;
        let address = |text: &str| {
            let bare = text.trim();
            // Brackets around an IPv6 address, as in URLs and in curl.
            let bare = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
            bare.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IPv4 or IPv6 address"))
        };
        Ok(Self { host, addresses: list.split(',').map(address).collect::<Result<_, _>>()? })
    }
}

/// Hosts that are not looked up, with their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenHosts(BTreeMap<Fqdn, BTreeSet<IpAddr>>);

impl GivenHosts {
    /// Adds addresses to those that the host has.
    pub fn add(&mut self, given: HostAddresses) {
        self.0.entry(given.host).or_default().extend(given.addresses);
    }

    /// Takes over the hosts of `other`; the addresses of a host in both are united.
    pub fn merge(&mut self, other: Self) {
        for (host, addresses) in other.0 {
            self.add(HostAddresses { host, addresses });
        }
    }

    /// Takes over the hosts of `other`, which replace those of the same name.
    pub fn override_with(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Addresses of a host, if it is one of these.
    pub fn get(&self, host: &Fqdn) -> Option<&BTreeSet<IpAddr>> {
        self.0.get(host)
    }

    /// The hosts, sorted.
    pub fn hosts(&self) -> impl Iterator<Item = &Fqdn> {
        self.0.keys()
    }

    /// Reads a `hosts` file: lines `HOST=IP`, with comments after a `#`.
    pub fn parse_file(file: &str, text: &str) -> Result<Self, Vec<Finding>> {
        let mut hosts = Self::default();
        let mut errors = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match line.parse() {
                Ok(given) => hosts.add(given),
                Err(error) => errors.push(Finding::of_file(&format!("{file}: line {}", index + 1), error)),
            }
        }
        if errors.is_empty() { Ok(hosts) } else { Err(errors) }
    }
}

impl FromIterator<HostAddresses> for GivenHosts {
    fn from_iter<I: IntoIterator<Item = HostAddresses>>(all: I) -> Self {
        let mut hosts = Self::default();
        all.into_iter().for_each(|given| hosts.add(given));
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hosts: &GivenHosts) -> Vec<String> {
        hosts.0.iter().map(|(host, addresses)| format!("{host}={addresses:?}")).collect()
    }

    #[track_caller]
    fn check(file: &str, expected: Result<&[&str], &[&str]>) {
        let parsed = GivenHosts::parse_file("hosts", file);
        let parsed = parsed.as_ref().map(text).map_err(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>());
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parsed, expected.map(owned).map_err(owned));
    }

    #[test]
    fn lines_of_one_host_are_united_and_comments_are_left_out() {
        check(
            "# documentation addresses\n\nAPI.example.com.=192.0.2.2 # one\napi.example.com=192.0.2.1,[2001:db8::1]\n",
            Ok(&["api.example.com={192.0.2.1, 192.0.2.2, 2001:db8::1}"]),
        );
    }

    #[test]
    fn a_line_that_is_none_is_told_with_its_number() {
        check(
            "a.example=192.0.2.1\n192.0.2.1 a.example\na.example=b\n*.a=1.1.1.1\na.example=\n",
            Err(&[
                "hosts: line 2: \"192.0.2.1 a.example\" is not HOST=IP",
                "hosts: line 3: \"b\" is not an IPv4 or IPv6 address",
                "hosts: line 4: wildcards cannot be resolved to addresses: name each host, or use a cidr",
                "hosts: line 5: \"\" is not an IPv4 or IPv6 address",
            ]),
        );
    }

    #[test]
    fn an_override_replaces_and_a_merge_unites() {
        let of = |text: &str| GivenHosts::parse_file("hosts", text).unwrap();
        let (mut merged, mut overridden) = (of("a.b=1.1.1.1"), of("a.b=1.1.1.1"));
        merged.merge(of("a.b=2.2.2.2"));
        overridden.override_with(of("a.b=2.2.2.2"));
        assert_eq!((merged, overridden), (of("a.b=1.1.1.1,2.2.2.2"), of("a.b=2.2.2.2")));
    }
}
