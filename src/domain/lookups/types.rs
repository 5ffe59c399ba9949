//! What goes in and out of [`super::Lookups`].

use std::net::IpAddr;
use std::time::Duration;

use crate::answer::{AnswerKind, Families, Family, LookupFailure, Resolution};
use crate::fqdn::Fqdn;
use crate::time::Instant;

/// A server of the present list. The caller never gives one id to two servers, nor a second time to a server that
/// left: what is still under way to the old one would pass for an answer of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// Who wants to know: one EgressPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

/// One lookup that was sent; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// What a lookup in flight counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Lookups that are answered soon, as far as anybody knows.
    Normal,
    /// Lookups without an answer for [`Config::slow_after`], names known to be slow, and servers known to be down.
    Slow,
    /// Lookups whose purpose is to learn whether a server answers at all.
    Probe,
}

impl Lane {
    /// Short form for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Slow => "slow",
            Self::Probe => "probe",
        }
    }
}

/// A lookup to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Comes back with the result.
    pub id: LookupId,
    /// Whom to ask.
    pub server: ServerId,
    /// What to ask for.
    pub host: Fqdn,
    /// A or AAAA.
    pub family: Family,
    /// A stored answer will not do: this name is due, or the server is being probed.
    pub refresh: bool,
    /// What it counts against until it is [`super::Lookups::overdue`].
    pub lane: Lane,
}

/// A successful answer: NXDOMAIN and NODATA are as good as addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What kind of answer.
    pub kind: AnswerKind,
    /// Its addresses in any order; those of the other family are ignored.
    pub addresses: Vec<IpAddr>,
    /// Until when it may be cached.
    pub valid_until: Instant,
}

/// What a finished lookup is called in counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// The server answered.
    Answer(AnswerKind),
    /// It did not.
    Failure(LookupFailure),
    /// No answer in [`Config::slow_after`] and no room to wait longer: cancelled, to be sent again.
    GivenUp,
}

impl Ended {
    /// Of a lookup's result.
    pub fn of(result: &Result<Answered, LookupFailure>) -> Self {
        match result {
            Ok(answer) => Self::Answer(answer.kind),
            Err(failure) => Self::Failure(*failure),
        }
    }

    /// Short form for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer(AnswerKind::Positive) => "positive",
            Self::Answer(AnswerKind::NoData) => "nodata",
            Self::Answer(AnswerKind::NxDomain) => "nxdomain",
            Self::Failure(LookupFailure::ServFail) => "servfail",
            Self::Failure(LookupFailure::Refused) => "refused",
            Self::Failure(LookupFailure::Timeout) => "timeout",
            Self::Failure(LookupFailure::BadAnswer) => "bad_answer",
            Self::Failure(LookupFailure::Unreachable) => "unreachable",
            Self::GivenUp => "given_up",
        }
    }
}

/// One resolution for many subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What they are told.
    pub resolution: Resolution,
    /// Who is told; never empty.
    pub subscribers: Vec<SubscriberId>,
}

/// What the caller has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Lookups to abort; their results would be ignored.
    pub cancel: Vec<LookupId>,
    /// What to tell the subscribers.
    pub deliveries: Vec<Delivery>,
}

/// Intervals and bounds, with the shipped values as the default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Families that are looked up.
    pub families: Families,
    /// Least time between two lookups of a key that answered.
    pub min_refresh: Duration,
    /// Lookups in flight in the normal lane.
    pub normal_lane: usize,
    /// Lookups in flight in the slow lane.
    pub slow_lane: usize,
    /// A lookup without an answer for so long leaves the normal lane.
    pub slow_after: Duration,
    /// First back-off of a failing key.
    pub first_backoff: Duration,
    /// Longest back-off of a failing key.
    pub longest_backoff: Duration,
    /// A server that answered within this time is up, whatever fails.
    pub alive_for: Duration,
    /// Time between two probes of a server that is down.
    pub probe_interval: Duration,
    /// Time over which many lookups are spread that became due at once.
    pub spread: Duration,
}

/// The floor of every refresh: a TTL of 0 must not make the controller spin.
pub const MIN_REFRESH: Duration = Duration::from_secs(10);
/// Enough for 2,000 lookups per second at 30 ms each.
pub const NORMAL_LANE: usize = 64;
/// Dead names wait here; each costs a socket, and 256 fit every file limit.
pub const SLOW_LANE: usize = 256;
/// A resolver with an empty cache answers most names in less.
pub const SLOW_AFTER: Duration = Duration::from_millis(250);
/// As long as a lost packet is worth.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// A name that is repaired is noticed within five minutes.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// Short enough to notice an outage in its first second.
pub const ALIVE_FOR: Duration = Duration::from_secs(1);
/// Recovery is noticed this soon; one query per second hurts no server.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A server that just came back is not met with everything at once.
pub const SPREAD: Duration = Duration::from_secs(5);
/// TTL of a negative answer without a SOA record, which gives none (RFC 2308, section 5).
pub const NEGATIVE_TTL: Duration = Duration::from_secs(30);

impl Default for Config {
    fn default() -> Self {
        Self {
            families: Families::BOTH,
            min_refresh: MIN_REFRESH,
            normal_lane: NORMAL_LANE,
            slow_lane: SLOW_LANE,
            slow_after: SLOW_AFTER,
            first_backoff: FIRST_BACKOFF,
            longest_backoff: LONGEST_BACKOFF,
            alive_for: ALIVE_FOR,
            probe_interval: PROBE_INTERVAL,
            spread: SPREAD,
        }
    }
}

/// Gauges of the present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Names with a subscriber or a lookup in flight.
    pub names: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// In flight in the normal lane.
    pub normal: usize,
    /// In flight in the slow lane.
    pub slow: usize,
    /// Probes in flight.
    pub probes: usize,
    /// Keys that are due and wait for a lane.
    pub queued: usize,
    /// Keys that wait for their server to come back.
    pub parked: usize,
    /// Servers of the present list.
    pub servers: usize,
    /// Those of them that are down.
    pub servers_down: usize,
}
