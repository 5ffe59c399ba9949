//! The machine of one replica: it renews, joins, takes over from the dead, hands over, leaves. `step` is the only way in.
//!
//! ```text
//! no sign of life -> renewed -> joined <-> holding shards -> leaving -> left
//!       ^---------- lapsed (an answer came too late) ---'
//! ```
//!
//! It is driven by its state, not by its history: every step ends by looking at what there is to do now, and at most one
//! change of the table is under way at a time. A change whose answer is lost is looked up, never assumed.

mod duties;
mod holdings;
mod renewal;
mod types;

use std::collections::BTreeMap;

use super::ShardId;
use super::fence::{Fence, Moment};
use super::observe::Observations;
use super::stamp::Stamp;
use super::table::{Incarnation, Pod, Snapshot};
use super::timing::Timing;
use crate::time::Instant;

pub use types::{CasAnswer, Effect, Identity, Input, ProbeAnswer, Refused, Role, TableRead, View};

use duties::Duty;
use holdings::Held;

/// One replica. See the module documentation.
#[derive(Clone, Debug)]
pub struct Member {
    me: Identity,
    /// For a table that this replica has to make.
    wanted: Timing,
    timing: Timing,
    /// Which life of this process speaks now.
    life: u32,
    fence: Option<Fence>,
    renewing: bool,
    next_renewal: Instant,
    /// The loops that the shards depend on advance.
    healthy: bool,
    table: Known,
    reading: bool,
    read_again: bool,
    /// The table may be another one than is known: it is read before anything is decided.
    stale: bool,
    next_read: Instant,
    /// The change of the table that is under way.
    duty: Option<Duty>,
    held: BTreeMap<ShardId, Held>,
    /// Shards that are handed over: stopped, or about to be.
    release: Option<Release>,
    /// How many hand-overs there were.
    releases: u64,
    /// Epochs of our shards before and after the join that is under way.
    resumes: BTreeMap<ShardId, (u64, u64)>,
    /// A probe of the fence is under way.
    probing: Option<Stamp>,
    probes_refused: u32,
    next_probe: Instant,
    /// After a failure nothing is tried before.
    next_duty: Instant,
    observed: Observations,
    /// Since when each process has been seen in the table, and with which life.
    seen: BTreeMap<Pod, Seen>,
    /// When the process started.
    started: Instant,
    /// When this replica first saw the present table, or saw that it was damaged.
    table_since: Instant,
    /// Since when there have been free shards.
    free_since: Option<Instant>,
    /// The Lease of this member is being read before it is declared dead.
    verdict: Option<(Pod, u64)>,
    weights: Vec<u32>,
    fence_active: bool,
    leaving: bool,
    left: bool,
    told: View,
}

/// A member of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    incarnation: Incarnation,
    /// Since when its process has been there.
    since: Instant,
}

/// What is known of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Missing,
    Unusable(String),
    Table(Snapshot),
}

/// A hand-over of shards.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Release {
    number: u64,
    shards: Vec<ShardId>,
    drained: bool,
}

impl Member {
    /// A replica that has said and seen nothing yet. `timing` and `me.shard_count` hold until a table says otherwise.
    pub fn new(me: Identity, timing: Timing, now: Moment) -> Self {
        Self {
            me,
            wanted: timing,
            timing,
            life: 1,
            fence: None,
            renewing: false,
            next_renewal: now.boot,
            healthy: true,
            table: Known::Nothing,
            reading: false,
            read_again: false,
            stale: false,
            next_read: now.boot,
            duty: None,
            held: BTreeMap::new(),
            release: None,
            releases: 0,
            resumes: BTreeMap::new(),
            probing: None,
            probes_refused: 0,
            next_probe: now.boot,
            next_duty: now.boot,
            observed: Observations::default(),
            seen: BTreeMap::new(),
            started: now.boot,
            table_since: now.boot,
            free_since: None,
            verdict: None,
            weights: Vec::new(),
            fence_active: false,
            leaving: false,
            left: false,
            told: View::default(),
        }
    }

    /// Takes one input and says what to do.
    pub fn step(&mut self, input: Input, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        // Before anything else: what came too late is judged by the state it came into.
        self.lapse_if_due(now, &mut effects);
        match input {
            Input::Tick { healthy } => self.healthy = healthy,
            Input::Renewed { sent, life, answer } => self.renewed(sent, life, answer, now, &mut effects),
            Input::LeaseLost { life } => {
                self.renewing = false;
                if life == self.life {
                    self.lapse(now, &mut effects);
                }
            }
            Input::TableRead(answer) => {
                self.reading = false;
                self.read(answer, now, &mut effects);
            }
            Input::TableChanged { version } => {
                self.read_again |= self.snapshot().is_none_or(|known| known.version != version);
                self.next_read = self.next_read.min(now.boot);
            }
            Input::Cas(answer) => self.cas_answered(answer, now, &mut effects),
            Input::LeaseSeen { lease, renewal } => self.observed.see(&lease, renewal, now.boot),
            Input::LeaseRead { pod, answer } => self.lease_read(&pod, answer, now, &mut effects),
            Input::Released { number } => {
                if let Some(release) = self.release.as_mut().filter(|release| release.number == number) {
                    release.drained = true;
                }
            }
            Input::Probed(answer) => self.probed(answer, now, &mut effects),
            Input::Started { shards } => self.started(&shards),
            Input::Weights(weights) => self.weights = weights,
            Input::FenceActive(active) => self.fence_active = active,
            Input::Leave => self.leaving = true,
        }
        if !self.left {
            self.act(now, &mut effects);
        }
        self.tell(&mut effects);
        effects
    }

    /// When the machine wants an [`Input::Tick`], if nothing else comes.
    pub fn next_deadline(&self, now: Moment) -> Instant {
        let fence = self.fence.map(Fence::boot);
        let renewal = (!self.renewing).then_some(self.next_renewal);
        let read = (!self.reading).then_some(self.next_read);
        let known = [fence, renewal, read, self.duty_deadline(now)];
        // A tick too many costs nothing; a forgotten one would cost shards.
        let idle = now.boot + self.timing.renew_every();
        known.into_iter().flatten().filter(|at| *at > now.boot).min().unwrap_or(idle).min(idle)
    }

    /// The incarnation that speaks now.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation { start: self.me.start.clone(), life: self.life }
    }

    /// How late a renewal is that is sent now.
    pub fn lateness(&self, now: Moment) -> std::time::Duration {
        now.boot.since(self.next_renewal)
    }

    /// The times that hold.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The table as it was read last.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match &self.table {
            Known::Table(snapshot) => Some(snapshot),
            Known::Nothing | Known::Missing | Known::Unusable(_) => None,
        }
    }

    /// What this replica is now, for people and metrics.
    pub fn role(&self) -> Role {
        match &self.table {
            _ if self.left => Role::Left,
            Known::Unusable(why) => Role::Refused(why.clone()),
            _ if self.leaving => Role::Leaving,
            _ if self.fence.is_none() && self.life > 1 => Role::Lapsed,
            _ if self.is_member() => Role::Member,
            _ => Role::Joining,
        }
    }

    /// Whether the table names this very incarnation, and its sign of life is fresh.
    fn is_member(&self) -> bool {
        self.fence.is_some() && self.is_listed()
    }

    fn is_listed(&self) -> bool {
        let entry = self.snapshot().and_then(|known| known.table.members.get(&self.me.pod));
        entry.is_some_and(|entry| entry.incarnation == self.incarnation())
    }

    /// Says what changed for the gate, before anything else: it must be shut when a drain begins, and open when a shard acts.
    fn tell(&mut self, effects: &mut Vec<Effect>) {
        let view = self.view();
        if view != self.told {
            self.told = view.clone();
            effects.insert(0, Effect::View(view));
        }
    }
}

#[cfg(test)]
mod tests;
