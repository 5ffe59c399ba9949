//! Which DNS servers are asked.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Port of DNS.
const DNS_PORT: u16 = 53;
/// Servers of one list, or ready endpoints of the DNS Service, that are asked. Each is asked for every host: beyond this
/// the permitted rate is spent on asking the same again, and a pool of this size shows all that rotates.
pub const MAX_SERVERS: usize = 16;

/// `--dns-servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsServers {
    /// The nameservers of resolv.conf, as one server with failover.
    System,
    /// Each of these is asked, and the answers are united.
    List(Vec<SocketAddr>),
    /// Every ready endpoint of the cluster's DNS Service is asked, and the answers are united; while there is none,
    /// the nameservers of resolv.conf.
    Cluster,
}

/// Why a text names no DNS servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsServersError {
    /// Nothing, or nothing between two commas.
    #[error("a server is missing: give `system`, `cluster`, or addresses like 10.0.0.10,[2001:db8::53]:5353")]
    Empty,
    /// Neither a word that is known nor an address.
    #[error(
        "{0:?} is neither `system` nor `cluster` nor an address like 10.0.0.10, 10.0.0.10:5353 or [2001:db8::53]:5353"
    )]
    NoAddress(String),
    /// `system` or `cluster` in a list.
    #[error("{0:?} stands alone: it cannot be mixed with addresses")]
    Mixed(String),
    /// An address that no packet can be sent to.
    #[error("{0} is no address of a server")]
    NoServer(SocketAddr),
    /// More than [`MAX_SERVERS`].
    #[error("{0} servers: each is asked for every host, so there may be {MAX_SERVERS} at most")]
    TooMany(usize),
}

impl FromStr for DnsServers {
    type Err = DnsServersError;

    fn from_str(text: &str) -> Result<Self, DnsServersError> {
        match text.trim() {
            "system" => return Ok(Self::System),
            "cluster" => return Ok(Self::Cluster),
            _ => {}
        }
        let mut list = Vec::new();
        for entry in text.split(',') {
            let server = address(entry.trim())?;
            if !list.contains(&server) {
                list.push(server);
            }
        }
        if list.len() > MAX_SERVERS {
            return Err(DnsServersError::TooMany(list.len()));
        }
        Ok(Self::List(list))
    }
}

fn address(entry: &str) -> Result<SocketAddr, DnsServersError> {
    match entry {
        "" => return Err(DnsServersError::Empty),
        "system" | "cluster" => return Err(DnsServersError::Mixed(entry.to_owned())),
        _ => {}
    }
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let with_port = || bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let server = entry.parse().ok().or_else(with_port).ok_or_else(|| DnsServersError::NoAddress(entry.to_owned()))?;
    if server.ip().is_unspecified() || server.ip().is_multicast() || server.port() == 0 {
        return Err(DnsServersError::NoServer(server));
    }
    Ok(server)
}

impl fmt::Display for DnsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Cluster => f.write_str("cluster"),
            Self::List(list) => {
                let list: Vec<String> = list.iter().map(SocketAddr::to_string).collect();
                f.write_str(&list.join(","))
            }
        }
    }
}

/// One server of those that are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// All nameservers of resolv.conf, one after the other.
    System,
    /// This one.
    Address(SocketAddr),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("resolv.conf"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl DnsServers {
    /// Whom to ask, while these endpoints of the DNS Service are ready.
    pub fn present(&self, endpoints: &[SocketAddr]) -> BTreeSet<Server> {
        match self {
            Self::List(list) => list.iter().copied().map(Server::Address).collect(),
            Self::System => BTreeSet::from([Server::System]),
            Self::Cluster if endpoints.is_empty() => BTreeSet::from([Server::System]),
            Self::Cluster => {
                let endpoints: BTreeSet<SocketAddr> = endpoints.iter().copied().collect();
                endpoints.into_iter().take(MAX_SERVERS).map(Server::Address).collect()
            }
        }
    }

    /// Whether resolv.conf stands in for the DNS Service.
    pub fn falls_back(&self, endpoints: &[SocketAddr]) -> bool {
        *self == Self::Cluster && endpoints.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, DnsServersError>) {
        let parsed = text.parse::<DnsServers>().map(|servers| servers.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn words_and_lists_are_understood() {
        check("system", Ok("system"));
        check(" cluster ", Ok("cluster"));
        check("10.0.0.10, 10.0.0.11:5353,[::1]:53", Ok("10.0.0.10:53,10.0.0.11:5353,[::1]:53"));
        check("2001:db8::53", Ok("[2001:db8::53]:53"));
        check("[2001:db8::53]", Ok("[2001:db8::53]:53"));
        check("10.0.0.10,10.0.0.10:53", Ok("10.0.0.10:53"));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        use DnsServersError::{Empty, Mixed, NoAddress, NoServer, TooMany};
        check("", Err(Empty));
        check("10.0.0.10,,10.0.0.11", Err(Empty));
        check("dns.example", Err(NoAddress("dns.example".into())));
        check("10.0.0.10:99999", Err(NoAddress("10.0.0.10:99999".into())));
        check("Cluster", Err(NoAddress("Cluster".into())));
        check("system,10.0.0.10", Err(Mixed("system".into())));
        check("0.0.0.0", Err(NoServer("0.0.0.0:53".parse().unwrap())));
        check("10.0.0.10:0", Err(NoServer("10.0.0.10:0".parse().unwrap())));
        let many: Vec<String> = (0..17).map(|last| format!("10.0.0.{last}")).collect();
        check(&many.join(","), Err(TooMany(17)));
    }

    #[test]
    fn without_a_ready_endpoint_the_cluster_falls_back_to_resolv_conf() {
        let endpoint: SocketAddr = "10.0.0.10:53".parse().unwrap();
        assert_eq!(DnsServers::Cluster.present(&[endpoint]), [Server::Address(endpoint)].into());
        assert_eq!(DnsServers::Cluster.present(&[]), [Server::System].into());
        assert!(DnsServers::Cluster.falls_back(&[]) && !DnsServers::Cluster.falls_back(&[endpoint]));
        assert!(!DnsServers::System.falls_back(&[]));
    }

    #[test]
    fn of_very_many_endpoints_some_are_asked() {
        let endpoint = |last| SocketAddr::from(([10, 0, 0, last], 53));
        let endpoints: Vec<SocketAddr> = (1..=200).map(endpoint).collect();
        assert_eq!(DnsServers::Cluster.present(&endpoints).len(), MAX_SERVERS);
    }
}
