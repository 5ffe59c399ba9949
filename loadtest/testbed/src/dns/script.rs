//! What the server does with a question.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;

/// The behaviour of one (name, type). Addresses of the family that was not asked for are left out, so one script can serve A and AAAA.
///
/// An answer over TCP ends at 64 KiB: 4,000 IPv4 addresses fit, of IPv6 addresses about 2,330. What does not fit is left out and the TC bit set.
#[derive(Clone, Debug)]
pub enum Script {
    /// These addresses in this order; none of the family asked for is NODATA with `ttl` as the SOA minimum.
    Answer {
        /// Addresses of both families.
        addresses: Vec<IpAddr>,
        /// Time to live in seconds, sent as it is.
        ttl: u32,
    },
    /// A part of a pool that changes with every answer.
    Rotate {
        /// Addresses of both families.
        pool: Vec<IpAddr>,
        /// Addresses in one answer; the whole pool if it is smaller.
        per_answer: usize,
        /// Time to live in seconds.
        ttl: u32,
        /// Which part comes next.
        order: Order,
    },
    /// A chain of CNAME records, then what the last name of the chain answers.
    /// A resolver asks for the last target again when no address follows, so a chain into nothing needs that name set as well.
    Cname {
        /// Each target with the TTL of the record that points to it; the first record belongs to the name asked for.
        chain: Vec<(Name, u32)>,
        /// The behaviour of the last target.
        then: Box<Script>,
    },
    /// The name does not exist.
    NxDomain {
        /// MINIMUM and TTL of the SOA record: how long the answer may be cached.
        soa_minimum: u32,
    },
    /// The name has no record of this type.
    NoData {
        /// MINIMUM and TTL of the SOA record.
        soa_minimum: u32,
    },
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// No answer at all.
    Silence,
    /// The inner behaviour, later; other questions do not wait.
    Delay(Duration, Box<Script>),
    /// An empty answer with the TC bit over UDP, the inner behaviour over TCP.
    TruncateUdp(Box<Script>),
    /// The inner behaviour under another message id.
    WrongId(Box<Script>),
    /// The inner behaviour with a question that nobody asked.
    WrongQuestion(Box<Script>),
}

/// Which addresses of a pool come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next `per_answer` addresses, from the start again after the last.
    RoundRobin,
    /// A random choice; the same seed gives the same series.
    Random {
        /// Start of the series.
        seed: u64,
    },
}

impl Script {
    /// These addresses, with this TTL in seconds.
    pub fn answer(addresses: impl IntoIterator<Item = impl Into<IpAddr>>, ttl: u32) -> Self {
        let addresses = addresses.into_iter().map(Into::into).collect();
        Self::Answer { addresses, ttl }
    }

    /// `per_answer` addresses of the pool in turn.
    pub fn round_robin(pool: impl IntoIterator<Item = impl Into<IpAddr>>, per_answer: usize, ttl: u32) -> Self {
        Self::rotate(pool, per_answer, ttl, Order::RoundRobin)
    }

    /// `per_answer` addresses of the pool at random, the same series for the same seed.
    pub fn random(pool: impl IntoIterator<Item = impl Into<IpAddr>>, per_answer: usize, ttl: u32, seed: u64) -> Self {
        Self::rotate(pool, per_answer, ttl, Order::Random { seed })
    }

    fn rotate(pool: impl IntoIterator<Item = impl Into<IpAddr>>, per_answer: usize, ttl: u32, order: Order) -> Self {
        Self::Rotate { pool: pool.into_iter().map(Into::into).collect(), per_answer, ttl, order }
    }

    /// A chain of (target, TTL of the record that points to it), then what the last target answers.
    ///
    /// # Panics
    /// If a target is not a legal name.
    pub fn cname(chain: &[(&str, u32)], then: Script) -> Self {
        Self::Cname { chain: chain.iter().map(|(name, ttl)| (fqdn(name), *ttl)).collect(), then: Box::new(then) }
    }

    /// NXDOMAIN, cacheable for this many seconds.
    pub fn nx_domain(soa_minimum: u32) -> Self {
        Self::NxDomain { soa_minimum }
    }

    /// NODATA, cacheable for this many seconds.
    pub fn no_data(soa_minimum: u32) -> Self {
        Self::NoData { soa_minimum }
    }

    /// This behaviour after a delay.
    pub fn delayed(self, by: Duration) -> Self {
        Self::Delay(by, Box::new(self))
    }

    /// This behaviour over TCP only; over UDP an empty answer with the TC bit.
    pub fn truncated_over_udp(self) -> Self {
        Self::TruncateUdp(Box::new(self))
    }

    /// This behaviour under a message id that was not asked with.
    pub fn with_wrong_id(self) -> Self {
        Self::WrongId(Box::new(self))
    }

    /// This behaviour with a question section that was not asked.
    pub fn with_wrong_question(self) -> Self {
        Self::WrongQuestion(Box::new(self))
    }
}

/// The fully qualified form of a name; the trailing dot is optional.
pub(super) fn fqdn(name: &str) -> Name {
    let mut parsed = Name::from_ascii(name).unwrap_or_else(|error| panic!("{name:?} is not a domain name: {error}"));
    parsed.set_fqdn(true);
    parsed
}
