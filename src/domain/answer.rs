//! What DNS said, as the policy machines receive it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::fqdn::Fqdn;

/// Address family of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Which families are looked up and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// A records and IPv4 blocks.
    pub v4: bool,
    /// AAAA records and IPv6 blocks.
    pub v6: bool,
}

impl Families {
    /// Both families.
    pub const BOTH: Self = Self { v4: true, v6: true };

    /// Whether this family is on.
    pub fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The families that are on.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        [Family::V4, Family::V6].into_iter().filter(move |family| self.has(*family))
    }
}

/// Why a lookup gave no answer. Failures never remove an address (I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookupFailure {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// No answer in time.
    Timeout,
    /// Any other response code, or an answer that does not parse or does not match the question.
    BadAnswer,
    /// No server is known, or none can be reached.
    Unreachable,
}

impl LookupFailure {
    /// Short form for conditions, metrics labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServFail => "SERVFAIL",
            Self::Refused => "REFUSED",
            Self::Timeout => "timeout",
            Self::BadAnswer => "bad answer",
            Self::Unreachable => "no DNS server reachable",
        }
    }
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kind of a successful answer (I3 counts all three as success).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerKind {
    /// The name has records of this family.
    Positive,
    /// The name exists without records of this family.
    NoData,
    /// The name does not exist.
    NxDomain,
}

/// What one completed lookup means for a (host, family), all servers considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server answered.
    Answer {
        /// Kind of this server's answer.
        kind: AnswerKind,
        /// Addresses of this server's answer: seen now.
        addresses: Arc<[IpAddr]>,
        /// Addresses of the last successful answers of the other present servers, while each is at most an hour
        /// past its validity: not seen now, but not gone either.
        elsewhere: Arc<[IpAddr]>,
    },
    /// This server failed while another one's last lookup succeeded: nothing to say but `settled`.
    OneServerFailed,
    /// The last lookups of every server failed.
    Failure(LookupFailure),
}

/// One message of the resolver to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The name that was looked up.
    pub host: Fqdn,
    /// Its family.
    pub family: Family,
    /// What came of it.
    pub outcome: Outcome,
    /// Every server has answered or failed at least once since the name was first asked for.
    pub settled: bool,
}
