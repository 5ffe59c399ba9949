//! Ports of a destination, in canonical form.

use std::fmt;
use std::sync::Arc;

/// Transport protocols that a NetworkPolicy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The spelling of the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One protocol and an inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// Transport protocol.
    pub protocol: Protocol,
    /// First port.
    pub port: u16,
    /// Last port; equal to `port` for a single one.
    pub end: u16,
}

/// A set of port ranges: sorted, without duplicates, never empty. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Arc<[PortRange]>);

impl PortSet {
    /// The canonical set of `ranges`, or none when there are none.
    pub fn new(mut ranges: Vec<PortRange>) -> Option<Self> {
        ranges.sort_unstable();
        ranges.dedup();
        (!ranges.is_empty()).then(|| Self(ranges.into()))
    }

    /// One single port.
    pub fn single(protocol: Protocol, port: u16) -> Self {
        Self(Arc::new([PortRange { protocol, port, end: port }]))
    }

    /// The ranges, sorted.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether the set has this port.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.0.iter().any(|r| r.protocol == protocol && (r.port..=r.end).contains(&port))
    }
}
