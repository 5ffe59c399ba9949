//! What `--to` names.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use egress_domain::evaluate::Labels;
use egress_domain::fqdn::Fqdn;

use crate::cli::values::labels;
use crate::files::names::is_namespace;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host name.
    Host(Fqdn),
    /// An address.
    Address(IpAddr),
    /// Pods of a namespace of the cluster.
    Pod {
        /// The namespace.
        namespace: String,
        /// Labels of the pod.
        labels: Labels,
    },
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(pod) = text.strip_prefix("pod:") {
            let (namespace, given) = pod.split_once('/').unwrap_or((pod, ""));
            if !is_namespace(namespace) {
                return Err(format!("{namespace:?} is not the name of a namespace"));
            }
            return Ok(Self::Pod { namespace: namespace.to_owned(), labels: labels(given)? });
        }
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => Fqdn::parse(text).map(Self::Host).map_err(|error| error.to_string()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{host}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Pod { namespace, labels } => write!(f, "pods of {namespace} {}", Shown(labels)),
        }
    }
}

/// Labels as text.
pub struct Shown<'a>(pub &'a Labels);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("without labels");
        }
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, "with {}", pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, ()>) {
        let parsed = text.parse::<Target>().map(|target| target.to_string()).map_err(drop);
        assert_eq!(parsed, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn hosts_addresses_and_pods_are_told_apart() {
        check("API.github.com.", Ok("api.github.com"));
        check("192.0.2.1", Ok("192.0.2.1"));
        check("2001:db8::1", Ok("2001:db8::1"));
        check("pod:db", Ok("pods of db without labels"));
        check("pod:db/a=b,c=d", Ok("pods of db with a=b,c=d"));
        check("*.example", Err(()));
        check("pod:", Err(()));
        check("pod:a/b", Err(()));
    }
}
