//! The shards of this replica, from being seen in the table to being somebody else's.

use std::time::Duration;

use super::Member;
use super::types::{Effect, ProbeAnswer, Refused, View};
use crate::shard::ShardId;
use crate::shard::fence::Moment;
use crate::shard::stamp::Stamp;

/// One shard of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// In the table; the API server's fence may not have seen it yet.
    Gained,
    /// Its objects are being read.
    Loading,
    /// Its policies act.
    Active,
    /// Its policies stop, to be handed over.
    Draining,
    /// They have stopped, and the hand-over was given up: gained anew with the next epoch.
    Stopped,
}

impl Member {
    /// Compares what the table says with what this replica thinks it has.
    pub(super) fn sync_holdings(&mut self, effects: &mut Vec<Effect>) {
        let Some(snapshot) = self.snapshot().cloned() else { return };
        let mine = |shard: ShardId| {
            let entry = snapshot.table.shards.get(usize::from(shard.0))?;
            (entry.holder.as_ref() == Some(&self.me.pod)).then_some(entry.epoch)
        };
        let mut lost = Vec::new();
        let mut resumed = Vec::new();
        let (resumes, listed) = (&self.resumes, self.is_listed());
        self.held.retain(|shard, held| {
            let epoch = mine(*shard);
            if epoch == Some(held.epoch) {
                return true;
            }
            let resumes = listed && resumes.get(shard).copied() == epoch.map(|epoch| (held.epoch, epoch));
            if let (true, Some(epoch)) = (resumes, epoch) {
                held.epoch = epoch;
                match held.phase {
                    Phase::Active => resumed.push(Stamp { shard: *shard, epoch }),
                    Phase::Gained | Phase::Loading | Phase::Draining | Phase::Stopped => held.phase = Phase::Gained,
                }
                return true;
            }
            // One that is only gained may have been read in an earlier life: the router holds it still.
            if !matches!(held.phase, Phase::Draining | Phase::Stopped) {
                lost.push(*shard);
            }
            false
        });
        if listed {
            for (shard, entry) in snapshot.table.held_by(&self.me.pod) {
                self.held.entry(shard).or_insert(Held { epoch: entry.epoch, phase: Phase::Gained });
            }
        }
        // What came back under a new epoch has not stopped: it may act, and must be drained anew before it is moved.
        let drains = |shard: &ShardId| self.held.get(shard).is_some_and(|held| held.phase == Phase::Draining);
        if !self.leaving && self.release.as_ref().is_some_and(|release| !release.shards.iter().any(drains)) {
            self.release = None;
        }
        if !lost.is_empty() {
            effects.push(Effect::Lose(lost));
        }
        if !resumed.is_empty() {
            effects.push(Effect::Resume(resumed));
        }
    }

    pub(super) fn lose_all(&mut self, effects: &mut Vec<Effect>) {
        let lost: Vec<ShardId> = std::mem::take(&mut self.held).into_keys().collect();
        self.release = None;
        if !lost.is_empty() {
            effects.push(Effect::Lose(lost));
        }
    }

    /// R8: before a gained shard acts, the API server must take its stamp. The fence sees the whole table at once, so the
    /// newest epoch speaks for all.
    pub(super) fn probe_gains(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.probing.is_some() || now.boot < self.next_probe || self.leaving {
            return;
        }
        let gained = self.held.iter().filter(|(_, held)| held.phase == Phase::Gained);
        if let Some((shard, held)) = gained.max_by_key(|(_, held)| held.epoch) {
            let stamp = Stamp { shard: *shard, epoch: held.epoch };
            self.probing = Some(stamp);
            effects.push(Effect::Probe(stamp));
        }
    }

    pub(super) fn probed(&mut self, answer: ProbeAnswer, now: Moment, effects: &mut Vec<Effect>) {
        let Some(probed) = self.probing.take() else { return };
        match answer {
            ProbeAnswer::Accepted => {
                let mut gained = Vec::new();
                for (shard, held) in &mut self.held {
                    if held.phase == Phase::Gained && held.epoch <= probed.epoch {
                        held.phase = Phase::Loading;
                        gained.push(Stamp { shard: *shard, epoch: held.epoch });
                    }
                }
                if !gained.is_empty() {
                    effects.push(Effect::Gain(gained));
                }
                self.probes_refused = 0;
            }
            ProbeAnswer::Fenced => {
                // The fence sees a new table within milliseconds, as a rule.
                let wait = FIRST_PROBE_RETRY * (1 << self.probes_refused.min(10));
                self.probes_refused += 1;
                self.next_probe = now.boot + wait.min(self.timing.per_rank());
                // The first refusals are the time that the table takes to reach the fence.
                if self.probes_refused == REFUSALS_BEFORE_ALARM {
                    effects.push(Effect::Alarm(Refused::Probe(probed)));
                }
            }
            ProbeAnswer::Unknown => self.next_probe = now.boot + self.timing.renew_retry(),
        }
    }

    pub(super) fn started(&mut self, shards: &[Stamp]) {
        for stamp in shards {
            let held = self.held.get_mut(&stamp.shard).filter(|held| held.epoch == stamp.epoch);
            if let Some(held) = held.filter(|held| held.phase == Phase::Loading) {
                held.phase = Phase::Active;
            }
        }
    }

    pub(super) fn view(&self) -> View {
        let shard_count = self.snapshot().map_or(0, |known| known.table.shard_count());
        if !self.is_member() {
            return View { fence: None, open: Default::default(), shard_count };
        }
        let is_open = |held: &Held| matches!(held.phase, Phase::Loading | Phase::Active);
        let open = self.held.iter().filter(|(_, held)| is_open(held)).map(|(shard, held)| (*shard, held.epoch));
        View { fence: self.fence, open: open.collect(), shard_count }
    }

    /// Whether shards of ours wait for the fence to see the table.
    pub fn holds_unprobed(&self) -> bool {
        self.held.values().any(|held| held.phase == Phase::Gained)
    }

    /// The shards of this replica whose policies act.
    pub fn active(&self) -> impl Iterator<Item = Stamp> {
        let active = self.held.iter().filter(|(_, held)| held.phase == Phase::Active);
        active.map(|(shard, held)| Stamp { shard: *shard, epoch: held.epoch })
    }
}

/// Doubled with each refusal, up to what lies between two ranks.
const FIRST_PROBE_RETRY: Duration = Duration::from_millis(10);
/// Nearly three seconds at the default lease: the fence of a busy API server sees a change of the table within one.
const REFUSALS_BEFORE_ALARM: u32 = 30;
