//! Every time of the protocol, derived from the lease duration of the table.

use std::time::Duration;

/// Lease duration of a table that is made anew.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(15);

/// A watch that failed is opened again within three seconds, and then needs a connection.
const LEAST_SILENCE: Duration = Duration::from_secs(4);

/// The times that follow from one lease duration D.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// D: a replica is taken for alive so long after its last sign of life.
    pub lease: Duration,
}

impl Timing {
    /// From one renewal to the next: seven of them fit into a lease.
    pub fn renew_every(self) -> Duration {
        self.lease * 2 / 15
    }

    /// Longest wait for each request of a renewal.
    pub fn renew_timeout(self) -> Duration {
        self.lease / 15
    }

    /// From a renewal that failed to the next.
    pub fn renew_retry(self) -> Duration {
        self.lease / 30
    }

    /// T: longest time from sending a write to its commit, bounded by the client and by the server alike.
    pub fn write_timeout(self) -> Duration {
        self.lease / 5
    }

    /// How long before the end of the lease a replica stops writing: T, and as much again as two clocks may drift apart
    /// over a lease (1 in 150 each), and slack.
    pub fn margin(self) -> Duration {
        self.write_timeout() + self.lease / 75
    }

    /// From the sending of a renewal to the moment after which nothing may be sent any more.
    pub fn fence(self) -> Duration {
        self.lease - self.margin()
    }

    /// A write without an answer may be committed until so long after it was sent.
    pub fn unknown_outcome(self) -> Duration {
        self.write_timeout() * 2
    }

    /// A member whose last sign of life is younger may be given shards.
    pub fn fresh(self) -> Duration {
        self.lease / 2
    }

    /// A watch of the Leases that has shown nothing for so long is broken, since it would have shown our own renewals. From a lease
    /// of 11 s on it is opened again before anybody's last renewal is older than [`Self::fresh`]; with shorter ones the wait of a
    /// watch to be opened again must not be interrupted.
    pub fn longest_silence(self) -> Duration {
        (self.renew_every() * 2 + self.renew_timeout()).max(LEAST_SILENCE)
    }

    /// Between two members that see the same work: the later one finds it done.
    pub fn per_rank(self) -> Duration {
        Duration::from_millis(100).min(self.lease / 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_the_default_lease() {
        let timing = Timing { lease: DEFAULT_LEASE };
        assert_eq!(timing.renew_every(), Duration::from_secs(2));
        assert_eq!(timing.renew_timeout(), Duration::from_secs(1));
        assert_eq!(timing.renew_retry(), Duration::from_millis(500));
        assert_eq!(timing.write_timeout(), Duration::from_secs(3));
        assert_eq!(timing.margin(), Duration::from_millis(3_200));
        assert_eq!(timing.fence(), Duration::from_millis(11_800));
        assert_eq!(timing.longest_silence(), Duration::from_secs(5));
        assert!(timing.longest_silence() + timing.renew_every() < timing.fresh());
    }

    #[test]
    fn half_a_lease_without_the_api_server_does_not_lapse() {
        let timing = Timing { lease: DEFAULT_LEASE };
        // The last renewal was sent just before, the next succeeds one retry and one time-out after.
        let silent = timing.renew_every() + timing.lease / 2 + timing.renew_retry() + timing.renew_timeout() / 2;
        assert!(silent < timing.fence(), "{silent:?}");
    }
}
