//! Failures for the moment: how long a write, or the whole queue, waits after one.

use std::time::Duration;

use super::{Flight, Pending, Waits, WriteQueue};
use crate::object::ObjectKey;
use crate::time::Instant;

/// Least time before a failed write is sent again: longer than one round trip, not felt by a person.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Most time: a repaired API server has every write half a minute later.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Time after a refusal by the fence, or by one that is not ready: an API server that has just started needs seconds.
pub const FENCED_BACKOFF: Duration = Duration::from_secs(1);
/// Longest Retry-After that is believed: a proxy that says an hour must not stop what closes a hole.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);
/// While the API server cannot be reached, about one write in so long tries whether it is back.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a write has no final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransientKind {
    /// 429: the server sheds load.
    Throttled,
    /// 5xx.
    ServerError,
    /// No answer in time, or 504: whether it was committed is unknown.
    Timeout,
    /// No connection: nothing was sent.
    Unreachable,
    /// The connection broke before the answer was complete: whether it was committed is unknown.
    Interrupted,
    /// 401, or 403 by RBAC: a token that expired or is not known yet, roles that are not read yet or lack something.
    Unauthorized,
    /// Somebody else changed the object between our read and our write.
    Conflict,
    /// The API server's fence refuses the stamp, or has not read its policies yet; it may take it later.
    Fenced,
}

impl TransientKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Throttled,
        Self::ServerError,
        Self::Timeout,
        Self::Unreachable,
        Self::Interrupted,
        Self::Unauthorized,
        Self::Conflict,
        Self::Fenced,
    ];

    /// The spelling in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
            Self::Unauthorized => "unauthorized",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
        }
    }

    /// Whether fewer writes at a time would help.
    fn is_overload(self) -> bool {
        matches!(self, Self::Throttled | Self::ServerError | Self::Timeout)
    }
}

/// A failure after which the same write is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transient {
    /// Why.
    pub kind: TransientKind,
    /// What the server asked for.
    pub retry_after: Option<Duration>,
}

impl From<TransientKind> for Transient {
    fn from(kind: TransientKind) -> Self {
        Self { kind, retry_after: None }
    }
}

impl<P: Clone> WriteQueue<P> {
    /// Puts the write back, unless a newer one came or it was withdrawn, and slows down as the failure asks.
    pub(super) fn failed(&mut self, now: Instant, key: &ObjectKey, flight: Flight<P>, failure: Transient, jitter: f64) {
        let Transient { kind, retry_after } = failure;
        let asked = retry_after.map(|after| after.min(MAX_PAUSE)).unwrap_or_default();
        if kind.is_overload() {
            self.limit.overloaded(flight.sent, self.sent);
        }
        if kind == TransientKind::Throttled {
            self.stats.throttled += 1;
            self.paused_until = self.paused_until.max(now + asked);
        }
        let waits = if kind == TransientKind::Fenced {
            // Not the object's fault, and over as soon as the fence has seen the table.
            self.object_did_not_fail(key);
            Waits::Until(now + FENCED_BACKOFF.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0))
        } else if kind == TransientKind::Unreachable {
            // The server is away, not the object's fault: all wait together, and none the longer for it afterwards.
            self.object_did_not_fail(key);
            self.next_probe = Some(now + PROBE_INTERVAL.mul_f64(0.5 + jitter.clamp(0.0, 1.0)));
            Waits::InLane
        } else {
            let failures = self.objects.get(key).map_or(1, |object| object.failures);
            Waits::Until(now + backoff(failures, jitter).max(asked))
        };
        match self.take_pending(key) {
            // The newer write carries what the failed one meant, so it inherits its importance and its place.
            Some(newer) => {
                let (lane, place) = (newer.lane.min(flight.lane), newer.place.min(flight.place));
                self.set_pending(key.clone(), Pending { lane, place, waits, ..newer });
            }
            None if flight.withdrawn => {}
            None => {
                self.stats.retried += 1;
                let Flight { ticket, payload, lane, place, .. } = flight;
                self.set_pending(key.clone(), Pending { ticket, payload, lane, place, waits });
            }
        }
    }

    fn object_did_not_fail(&mut self, key: &ObjectKey) {
        if let Some(object) = self.objects.get_mut(key) {
            object.failures = object.failures.saturating_sub(1);
        }
    }
}

/// Doubles with each failure in a row; the upper half is random, so that what failed together does not return together.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = (FIRST_BACKOFF * 2).saturating_mul(1 << doublings).min(MAX_BACKOFF);
    longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_between_its_bounds() {
        assert_eq!(backoff(1, 0.0), FIRST_BACKOFF);
        assert_eq!(backoff(2, 0.0), FIRST_BACKOFF * 2);
        assert_eq!(backoff(3, 1.0), FIRST_BACKOFF * 8);
        assert_eq!(backoff(60, 1.0), MAX_BACKOFF);
        assert_eq!(backoff(u32::MAX, 0.0), MAX_BACKOFF / 2);
    }
}
