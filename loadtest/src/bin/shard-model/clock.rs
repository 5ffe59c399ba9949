//! How long things take, in ticks.

use anyhow::{Result, ensure};

/// The durations of the protocol. All of them are real time; what a drifting clock makes of them is in the methods.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// D, the lease duration.
    pub lease: u8,
    /// T: a write commits at most this long after the check that allowed it.
    pub request: u8,
    /// By how much a clock may be wrong over one lease duration, in either direction.
    pub drift: u8,
    /// What the margin has beyond T and twice the drift.
    pub slack: u8,
    /// By how much two wall clocks may differ. Only the control that believes them reads it.
    pub skew: u8,
}

impl Clock {
    /// The margin of R2.
    pub fn margin(&self) -> u8 {
        self.request + 2 * self.drift + self.slack
    }

    /// The highest age of its renewal at which a member with the slowest clock still writes.
    pub fn fence(&self) -> u8 {
        (self.lease + self.drift).saturating_sub(self.margin())
    }

    /// The lowest age at which an observer with the fastest clock takes a lease duration to be over.
    pub fn expiry(&self) -> u8 {
        self.lease.saturating_sub(self.drift)
    }

    /// The same for an observer that compares the renewTime of the Lease with its own wall clock.
    pub fn wall_clock_expiry(&self) -> u8 {
        self.lease.saturating_sub(self.skew)
    }

    /// Refuses durations with which nobody could ever write.
    pub fn ensure_usable(&self) -> Result<()> {
        ensure!(
            self.lease + self.drift > self.margin() && self.lease > self.drift,
            "the lease ({} ticks) must be longer than the margin ({}) less the drift ({})",
            self.lease,
            self.margin(),
            self.drift
        );
        Ok(())
    }
}
