//! The nameservers that the kubelet gave this pod: node-local caches and cloud DNS show up here without guessing.

use std::net::IpAddr;
use std::path::Path;

/// Where resolvers look.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The kubelet sets it in every container.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

/// The nameservers of this pod's resolv.conf; none outside a pod, where they say nothing about pods.
pub fn nameservers_of_this_pod() -> Vec<IpAddr> {
    if std::env::var_os(IN_POD).is_none() {
        return Vec::new();
    }
    read(Path::new(RESOLV_CONF))
}

fn read(path: &Path) -> Vec<IpAddr> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "nameservers of this pod cannot be read; policies go without them");
            Vec::new()
        }
    }
}

/// The addresses of the `nameserver` lines, in their order (resolv.conf(5)).
pub fn parse(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let value = words.next().filter(|keyword| *keyword == "nameserver").and_then(|_| words.next())?;
        // A zone (fe80::1%eth0) belongs to this machine; a NetworkPolicy has none.
        let bare = value.split_once('%').map_or(value, |(address, _)| address);
        bare.parse().ok()
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let parsed: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn a_pods_file_gives_its_nameserver() {
        check(
            "search a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
            &["10.96.0.10"],
        );
    }

    #[test]
    fn every_nameserver_counts_in_its_order() {
        check(
            "nameserver 169.254.20.10\n\tnameserver\tfd00::a # cache\nnameserver 10.0.0.2",
            &["169.254.20.10", "fd00::a", "10.0.0.2"],
        );
    }

    #[test]
    fn comments_other_keywords_and_broken_lines_are_ignored() {
        check(
            "# nameserver 10.0.0.1\n;nameserver 10.0.0.1\nnameservers 10.0.0.1\nnameserver\nnameserver host\n\n",
            &[],
        );
    }

    #[test]
    fn a_zone_is_cut_off() {
        check("nameserver fe80::1%eth0", &["fe80::1"]);
    }

    #[test]
    fn a_file_that_is_not_there_gives_none() {
        assert!(read(Path::new("/nonexistent/resolv.conf")).is_empty());
    }
}
