//! What is to be written now, and when to look again.

use std::hash::Hash;

use super::live::{Live, Stored};
use super::{ADOPTION_GRACE, Effect, Machine, Standing, WriteKind};
use crate::api::{AppliedReason, Mode};
use crate::fingerprint::{Fingerprint, hash};
use crate::network_policy;
use crate::render::render;
use crate::settings::Settings;
use crate::time::{Instant, Now, UnixTime};
use crate::write::{Lane, WriteRequest};

impl Machine {
    pub(super) fn reconcile(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.standing != Standing::Normal || self.policy.mode == Mode::DryRun {
            return self.stand_down(effects);
        }
        match &self.live {
            Live::Foreign { retry_at } if now.instant >= *retry_at => {
                let retry_at = now.instant + self.context.settings.retry_interval;
                self.live = Live::Foreign { retry_at };
                self.emit_read(effects);
            }
            Live::Foreign { .. } => self.set_enforcing(true, effects),
            Live::Absent => self.reconcile_absent(now, effects),
            Live::Ours(stored) => {
                let stored = stored.clone();
                self.reconcile_ours(&stored, now, effects);
            }
        }
    }

    /// A dry run, a protected or a terminating namespace: nothing is written.
    fn stand_down(&mut self, effects: &mut Vec<Effect>) {
        if self
            .outstanding
            .iter()
            .any(|write| matches!(write.kind, WriteKind::Create | WriteKind::Recreate | WriteKind::Apply))
        {
            self.outstanding
                .retain(|write| !matches!(write.kind, WriteKind::Create | WriteKind::Recreate | WriteKind::Apply));
            effects.push(Effect::WithdrawWrite);
        }
        self.set_enforcing(false, effects);
    }

    pub(super) fn set_enforcing(&mut self, enforcing: bool, effects: &mut Vec<Effect>) {
        if self.enforcing != enforcing {
            self.enforcing = enforcing;
            effects.push(Effect::Enforcing(enforcing));
        }
    }

    fn reconcile_absent(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.outstanding.is_empty() || self.is_waiting_for_first_sight(now.instant) {
            return;
        }
        if self.book_loaded && !self.drift.allows(now.instant) {
            return;
        }
        let spec = render(&self.policy, &self.book, &self.context.cluster);
        let fingerprint = Fingerprint::of(&spec);
        if self.is_in_trouble(fingerprint, now.instant) {
            return;
        }
        self.changed = None;
        let object = network_policy::owned(&self.policy, spec, &self.book, None);
        let kind = if self.book_loaded { WriteKind::Recreate } else { WriteKind::Create };
        self.emit_write(kind, Lane::Spec, Some(fingerprint), WriteRequest::Create(Box::new(object)), effects);
    }

    fn reconcile_ours(&mut self, stored: &Stored, now: Now, effects: &mut Vec<Effect>) {
        if self.is_outstanding(WriteKind::RepairOwners) || self.is_outstanding(WriteKind::Read) {
            return;
        }
        if self.trouble.as_ref().is_some_and(|t| t.fingerprint.is_none() && now.instant >= t.retry_at) {
            self.trouble = None;
            return self.emit_read(effects);
        }
        if self.adopting.is_some() && !self.is_adoption_due(now.instant) {
            return;
        }
        let capped = self.capped && now.instant >= self.capped_next;
        let retry = self.trouble.as_ref().is_some_and(|trouble| now.instant >= trouble.retry_at);
        let repair = stored.drifted && self.drift.allows(now.instant);
        if self.changed.is_none() && !capped && !retry && !repair {
            return self.checkpoint(stored, now, effects);
        }
        let lane = self.changed.unwrap_or(if repair || retry { Lane::Spec } else { Lane::Added });
        let spec = render(&self.policy, &self.book, &self.context.cluster);
        let fingerprint = Fingerprint::of(&spec);
        let last_sent = self.outstanding.iter().rev().find_map(|write| write.fingerprint);
        if last_sent.unwrap_or(stored.fingerprint) == fingerprint && stored.is_marked && self.adopting.is_none() {
            // Equal by canonical comparison: nothing to write (I4).
            self.changed = None;
            self.capped = false;
            if last_sent.is_none() {
                self.confirmed(effects);
            }
            return;
        }
        if stored.drifted && !self.drift.allows(now.instant) || self.is_in_trouble(fingerprint, now.instant) {
            return;
        }
        if stored.drifted {
            self.repairing(now, effects);
        }
        if self.capped {
            self.capped = false;
            self.capped_next = now.instant + self.context.settings.capped_write_interval;
        }
        self.changed = None;
        let object = network_policy::owned(&self.policy, spec, &self.book, Some(&stored.uid));
        self.emit_write(WriteKind::Apply, lane, Some(fingerprint), WriteRequest::Apply(Box::new(object)), effects);
    }

    /// The live object is as wanted without a write.
    fn confirmed(&mut self, effects: &mut Vec<Effect>) {
        if let Live::Ours(stored) = &mut self.live {
            stored.drifted = false;
        }
        if self.trouble.take().is_some() {
            self.status.touch();
        }
        self.first_sight = None;
        if self.status.first_outcome() {
            self.status.touch();
        }
        self.set_enforcing(true, effects);
    }

    fn repairing(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.reason == AppliedReason::Mutated) {
            return self.drift.record_mutation(now.instant);
        }
        let was_contested = self.drift.is_contested(now.instant);
        self.drift.record(now.instant);
        if self.drift.is_contested(now.instant) && !was_contested {
            self.status.touch();
            let name = self.policy.key.network_policy_name();
            let note = format!("somebody keeps rewriting NetworkPolicy {name}; it is put right ever more rarely");
            self.event(AppliedReason::Contested.as_str(), true, note, now.instant, effects);
        }
    }

    /// Last-seen times, when nothing else was written for the checkpoint interval.
    fn checkpoint(&mut self, stored: &Stored, now: Now, effects: &mut Vec<Effect>) {
        let due = self.checkpoint_at.is_some_and(|at| now.instant >= at);
        if !due || stored.drifted || self.trouble.is_some() || !self.outstanding.is_empty() {
            return;
        }
        let spec = render(&self.policy, &self.book, &self.context.cluster);
        let fingerprint = Fingerprint::of(&spec);
        self.schedule_checkpoint(now);
        if fingerprint == stored.fingerprint {
            let object = network_policy::owned(&self.policy, spec, &self.book, Some(&stored.uid));
            let request = WriteRequest::Apply(Box::new(object));
            self.emit_write(WriteKind::Apply, Lane::Checkpoint, Some(fingerprint), request, effects);
        }
    }

    /// Something was written: the next checkpoint is an interval away.
    pub(super) fn schedule_checkpoint(&mut self, now: Now) {
        self.stored_at = now.instant;
        self.checkpoint_at =
            Settings::checkpoint_interval(self.policy.retention).map(|interval| now.instant + interval);
    }

    /// After a start the first checkpoint is spread over half the interval, so that a fleet does not write at once; but it is
    /// no later than if there had been no start, or starts in a row would put it off for ever.
    pub(super) fn schedule_first_checkpoint(&mut self, stored_at: Option<UnixTime>, now: Now) {
        self.checkpoint_at = Settings::checkpoint_interval(self.policy.retention).map(|interval| {
            let share = u32::try_from(hash(|h| self.policy.key.hash(h)) % 1_000).unwrap_or_default();
            let spread = interval / 2 + interval / 2_000 * share;
            let due = stored_at.map(|at| interval.saturating_sub(now.unix.since(at)));
            // Those that are overdue are spread, too.
            let due = due.map(|due| due.max(Settings::SHORTEST_CHECKPOINT_INTERVAL / 1_000 * share));
            now.instant + due.map_or(spread, |due| due.min(spread))
        });
    }

    /// An address is back that a restart would take for gone since it was stored last (I3). At most every hour: addresses
    /// that take turns must not be a write storm.
    pub(super) fn checkpoint_soon(&mut self, now: Now) {
        let soon = now.instant.max(self.stored_at + Settings::SHORTEST_CHECKPOINT_INTERVAL);
        self.checkpoint_at = self.checkpoint_at.map(|at| at.min(soon));
    }

    pub(super) fn is_waiting_for_first_sight(&self, now: Instant) -> bool {
        self.first_sight.is_some_and(|until| now < until) && !self.all_settled()
    }

    /// Unexplained blocks may go: every host has answered, or has had its time after the first that did.
    fn is_adoption_due(&self, now: Instant) -> bool {
        let deadline = self.first_answer.map(|first| first + ADOPTION_GRACE);
        self.all_answered() || deadline.is_some_and(|deadline| now >= deadline) && self.all_settled()
    }

    fn is_in_trouble(&self, fingerprint: Fingerprint, now: Instant) -> bool {
        self.trouble.as_ref().is_some_and(|t| now < t.retry_at && t.fingerprint.is_none_or(|had| had == fingerprint))
    }

    pub(super) fn write_deadline(&self) -> Option<Instant> {
        if self.standing != Standing::Normal || self.policy.mode == Mode::DryRun {
            return None;
        }
        let trouble = self.trouble.as_ref().map(|trouble| trouble.retry_at);
        match &self.live {
            Live::Foreign { retry_at } => Some(*retry_at),
            Live::Absent if !self.outstanding.is_empty() => None,
            Live::Absent => {
                let sight = self.first_sight.filter(|_| !self.all_settled());
                let drift = self.book_loaded.then(|| self.drift.next_allowed());
                [sight, drift, trouble].into_iter().flatten().max()
            }
            // An answer is under way, and everything is looked at again when it comes.
            Live::Ours(_) if !self.outstanding.is_empty() => None,
            Live::Ours(_) if self.adopting.is_some() => {
                self.first_answer.filter(|_| self.all_settled()).map(|first| first + ADOPTION_GRACE)
            }
            Live::Ours(stored) => {
                let drift = stored.drifted.then(|| self.drift.next_allowed());
                let blocked = [drift, trouble].into_iter().flatten().max();
                let capped = self.capped.then_some(self.capped_next);
                blocked.or_else(|| [capped, self.checkpoint_at].into_iter().flatten().min())
            }
        }
    }
}
