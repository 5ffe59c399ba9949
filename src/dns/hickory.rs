//! [`Lookup`] by hickory, with nothing of its own left on: no cache, no hosts file, no search list.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use egress_domain::answer::{AnswerKind, Family, LookupFailure};
use egress_domain::fqdn::Fqdn;
use egress_domain::lookups::NEGATIVE_TTL;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup as Records;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::servers::Server;
use super::{DnsAnswer, Lookup};

/// Of one attempt: longer than a recursive server needs for all but broken zones.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Retries after the first attempt: a lost packet must not look like an outage.
const RETRIES: usize = 1;
/// Requests in flight on one TCP connection; hickory's 32 turns the others away while both lanes are full of answers
/// that do not fit a datagram.
const REQUESTS_PER_CONNECTION: usize = 1_024;

/// One server, or all those of resolv.conf.
pub struct Hickory {
    resolver: TokioResolver,
}

impl Hickory {
    /// Reads resolv.conf for [`Server::System`]; opens no socket yet.
    ///
    /// # Errors
    /// If resolv.conf cannot be read or names no server.
    pub fn new(server: Server) -> Result<Self, NetError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = match server {
            Server::System => TokioResolver::builder(provider)?,
            Server::Address(address) => {
                let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
                (udp.port, tcp.port) = (address.port(), address.port());
                let config = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
                TokioResolver::builder_with_config(ResolverConfig::from_name_servers(vec![config]), provider)
            }
        };
        set_options(builder.options_mut());
        Ok(Self { resolver: builder.build()? })
    }
}

fn set_options(options: &mut ResolverOpts) {
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = RETRIES;
    // The answers are cached where their validity is known and shared.
    options.cache_size = 0;
    // The hosts file of this machine is not that of the pods.
    options.use_hosts_file = ResolveHosts::Never;
    // The next nameserver is asked when one fails, not beside it: the rate is counted in lookups.
    options.num_concurrent_reqs = 1;
    options.max_active_requests = REQUESTS_PER_CONNECTION;
    // The chain of CNAMEs is of no interest, but its TTLs are: they bound how long the answer holds.
    options.preserve_intermediates = true;
}

impl Lookup for Hickory {
    fn lookup(&self, host: &Fqdn, family: Family) -> BoxFuture<'static, Result<DnsAnswer, LookupFailure>> {
        // With the dot no search list is applied.
        let name = Name::from_ascii(format!("{host}."));
        let resolver = self.resolver.clone();
        async move {
            // Cannot be: a host name that was parsed is a name on the wire.
            let name = name.map_err(|_| LookupFailure::BadAnswer)?;
            match resolver.lookup(name, record_type(family)).await {
                Ok(records) => Ok(answer(&records, family)),
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => negative(&none),
                Err(error) => Err(failure(&error)),
            }
        }
        .boxed()
    }
}

fn record_type(family: Family) -> RecordType {
    match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    }
}

fn answer(records: &Records, family: Family) -> DnsAnswer {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::from(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::from(aaaa.0)),
        _ => None,
    };
    let addresses = records.answers().iter().filter_map(|record| address(&record.data));
    let addresses: Vec<IpAddr> = addresses.filter(|address| Family::of(address) == family).collect();
    let kind = if addresses.is_empty() { AnswerKind::NoData } else { AnswerKind::Positive };
    // Of a chain the shortest TTL counts; that of the address record alone would be too long.
    let valid_for = records.valid_until().saturating_duration_since(Instant::now());
    DnsAnswer { kind, addresses, valid_for }
}

fn negative(none: &NoRecords) -> Result<DnsAnswer, LookupFailure> {
    let kind = match none.response_code {
        ResponseCode::NXDomain => AnswerKind::NxDomain,
        ResponseCode::NoError => AnswerKind::NoData,
        code => return Err(of_code(code)),
    };
    let valid_for = none.negative_ttl.map_or(NEGATIVE_TTL, |seconds| Duration::from_secs(seconds.into()));
    Ok(DnsAnswer { kind, addresses: Vec::new(), valid_for })
}

fn failure(error: &NetError) -> LookupFailure {
    match error {
        NetError::Dns(DnsError::ResponseCode(code)) => of_code(*code),
        NetError::Timeout => LookupFailure::Timeout,
        NetError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => LookupFailure::Timeout,
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => LookupFailure::Unreachable,
        _ => LookupFailure::BadAnswer,
    }
}

fn of_code(code: ResponseCode) -> LookupFailure {
    match code {
        ResponseCode::ServFail => LookupFailure::ServFail,
        ResponseCode::Refused => LookupFailure::Refused,
        _ => LookupFailure::BadAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_this_machine_and_nothing_remembered_takes_part() {
        let server = Server::Address("192.0.2.53:5353".parse().unwrap());
        let hickory = Hickory::new(server).unwrap();
        let options = hickory.resolver.options();
        assert_eq!((options.use_hosts_file, options.cache_size), (ResolveHosts::Never, 0));
        assert_eq!((options.timeout, options.attempts), (ATTEMPT_TIMEOUT, RETRIES));
    }

    #[track_caller]
    fn check(error: impl Into<NetError>, expected: LookupFailure) {
        let error = error.into();
        assert_eq!(failure(&error), expected, "{error}");
    }

    #[test]
    fn every_error_has_its_reason() {
        check(DnsError::ResponseCode(ResponseCode::ServFail), LookupFailure::ServFail);
        check(DnsError::ResponseCode(ResponseCode::Refused), LookupFailure::Refused);
        check(DnsError::ResponseCode(ResponseCode::FormErr), LookupFailure::BadAnswer);
        check(NetError::Timeout, LookupFailure::Timeout);
        check(NetError::Truncated, LookupFailure::BadAnswer);
        check(NetError::NoConnections, LookupFailure::Unreachable);
        check(std::io::Error::from(std::io::ErrorKind::ConnectionRefused), LookupFailure::Unreachable);
    }
}
