//! DNS as the resolver sees it: one server, one name, one family, one answer or failure.

pub mod hickory;
pub mod servers;

use std::net::IpAddr;
use std::time::Duration;

use egress_domain::answer::{AnswerKind, Family, LookupFailure};
use egress_domain::fqdn::Fqdn;
use futures::future::BoxFuture;

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// NXDOMAIN and NODATA are successes too.
    pub kind: AnswerKind,
    /// Addresses of the family that was asked for.
    pub addresses: Vec<IpAddr>,
    /// For how long it may be cached: the shortest TTL of the chain, or that of the SOA record.
    pub valid_for: Duration,
}

/// Asks one server. Everything that takes time is in the future, which owns what it needs and may be dropped.
pub trait Lookup: Send + Sync {
    /// The records of this family, with CNAMEs followed and over TCP where UDP is too small.
    fn lookup(&self, host: &Fqdn, family: Family) -> BoxFuture<'static, Result<DnsAnswer, LookupFailure>>;
}
