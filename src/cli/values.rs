//! Values of flags that have no type of their own.

use std::time::Duration;

use egress_domain::evaluate::Labels;
use egress_domain::ports::{PortRange, PortSet, Protocol};

/// Seconds, also fractions of one.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text} seconds: {error}"))
}

/// `TCP`, `UDP` or `SCTP`, in any case.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        _ => Err(format!("{text:?} is not TCP, UDP or SCTP")),
    }
}

/// Ports as `443`, `UDP/53` or `TCP/8000-8080`, with commas between them.
pub fn ports(text: &str) -> Result<PortSet, String> {
    let ranges = text.split(',').map(|entry| port_range(entry.trim())).collect::<Result<Vec<_>, _>>()?;
    PortSet::new(ranges).ok_or_else(|| "no port".to_owned())
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let (name, numbers) = text.split_once('/').unwrap_or(("TCP", text));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (number(first), number(last)) {
        (Some(port), Some(end)) if port <= end => Ok(PortRange { protocol: protocol(name)?, port, end }),
        _ => Err(format!("{text:?} is not a port or a range of ports, as 443, UDP/53 or TCP/8000-8080")),
    }
}

/// Labels as `a=b,c=d`; none for an empty text.
pub fn labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{pair:?} is not KEY=VALUE")),
    };
    pairs.map(pair).collect()
}

/// The name of a namespace or of a service account.
pub fn object_name(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_name = text.chars().all(is_legal) && ends_well(text.chars().next()) && ends_well(text.chars().last());
    if is_name { Ok(text.to_owned()) } else { Err(format!("{text:?} is not the name of an object")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let name = |r: &PortRange| format!("{}/{}-{}", r.protocol, r.port, r.end);
        let found = ports(text).ok().map(|set| set.ranges().iter().map(name).collect::<Vec<_>>().join(","));
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn ports_are_read_sorted_with_tcp_as_the_default() {
        check("443", Some("TCP/443-443"));
        check("UDP/53, tcp/8000-8080,443", Some("TCP/443-443,TCP/8000-8080,UDP/53-53"));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0", "65536", "TCP/", "ICMP/1", "5-4", "a"] {
            check(text, None);
        }
    }

    #[test]
    fn names_of_objects_are_in_lower_case() {
        assert_eq!(object_name("egress-controller"), Ok("egress-controller".to_owned()));
        for text in ["", "Egress", "a b", "-a", "a.", "a\""] {
            assert!(object_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_and_seconds_are_read() {
        assert_eq!(labels("a=b,c=").map(|labels| labels.len()), Ok(2));
        assert_eq!(labels("").map(|labels| labels.len()), Ok(0));
        assert!(labels("a").is_err() && labels("=b").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err() && seconds("x").is_err());
    }
}
