//! Signs of life, and what the table that is read with each of them says.

use super::holdings::Phase;
use super::types::{Effect, Refused, TableRead};
use super::{Known, Member, Seen};
use crate::shard::fence::{Fence, Moment};
use crate::shard::table::{Pod, Snapshot};
use crate::shard::timing::Timing;
use crate::time::Instant;

/// Longest random wait before a replica that lapsed joins again: after an outage all do.
const MAX_JITTER: std::time::Duration = std::time::Duration::from_secs(1);

impl Member {
    pub(super) fn renew_if_due(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.renewing || now.boot < self.next_renewal {
            return;
        }
        // R11: a replica whose loops stand still must not keep its shards.
        if !self.healthy {
            self.next_renewal = now.boot + self.timing.renew_retry();
            return;
        }
        self.renewing = true;
        effects.push(Effect::Renew { incarnation: self.incarnation() });
    }

    pub(super) fn renewed(
        &mut self,
        sent: Moment,
        life: u32,
        answer: Option<TableRead>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        self.renewing = false;
        // An answer to an earlier life came too late, and extends nothing.
        let Some(answer) = answer.filter(|_| life == self.life) else {
            self.next_renewal = self.next_renewal.max(now.boot + self.timing.renew_retry());
            return;
        };
        if let TableRead::Found(snapshot) = &answer {
            self.timing = Timing { lease: snapshot.table.lease };
        }
        let fence = Fence::after(sent, self.timing.fence());
        if !fence.is_ahead_of(now) {
            self.next_renewal = now.boot + self.timing.renew_retry();
            return;
        }
        if self.fence.is_none() {
            // It could not tell who was silent while it was silent itself: all waiting starts now (R5).
            self.observed.restart(now.boot);
        }
        self.fence = Some(fence);
        self.next_renewal = (sent.boot + self.timing.renew_every()).max(now.boot);
        self.read(Some(answer), now, effects);
    }

    /// R2: the right to write ended before an answer came. Sticky: this life is over.
    pub(super) fn lapse_if_due(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.fence.is_some_and(|fence| !fence.is_ahead_of(now)) {
            self.lapse(now, effects);
        }
    }

    pub(super) fn lapse(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.life += 1;
        if self.fence.take().is_some() {
            effects.push(Effect::Lapsed);
        }
        self.verdict = None;
        self.abandon_release();
        self.next_renewal = now.boot + self.jitter();
    }

    /// Different for each process and life, and always the same for one.
    fn jitter(&self) -> std::time::Duration {
        let spread = MAX_JITTER.min(self.timing.lease / 15);
        let random = crate::shard::shard_of(&self.incarnation().to_string(), 1_024).0;
        spread * u32::from(random) / 1_024
    }

    pub(super) fn read_if_due(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let wanted = self.stale || self.read_again || self.table == Known::Nothing;
        if wanted && !self.reading && now.boot >= self.next_read {
            self.reading = true;
            self.read_again = false;
            effects.push(Effect::ReadTable);
        }
    }

    /// A read of the table, or the answer to a change, which is one as well.
    pub(super) fn read(&mut self, answer: Option<TableRead>, now: Moment, effects: &mut Vec<Effect>) {
        let Some(answer) = answer else {
            self.next_read = now.boot + self.timing.renew_retry();
            return;
        };
        match answer {
            TableRead::Found(snapshot) => self.found(snapshot, now, effects),
            TableRead::Missing => {
                self.forget(Known::Missing, now, effects);
            }
            TableRead::Unusable(why) => {
                if self.table != Known::Unusable(why.clone()) {
                    effects.push(Effect::Alarm(Refused::Unusable(why.clone())));
                }
                self.forget(Known::Unusable(why), now, effects);
            }
        }
        self.stale = false;
    }

    /// Without a table nothing is anybody's: who held something must wait like all others (R3).
    fn forget(&mut self, known: Known, now: Moment, effects: &mut Vec<Effect>) {
        if self.table != known && self.is_listed() {
            self.lapse(now, effects);
        }
        if matches!(self.table, Known::Table(_)) {
            // It was seen with the table that is no more; without asking again, nothing may be built on it.
            self.fence_active = false;
        }
        self.table = known;
        self.seen.clear();
        self.lose_all(effects);
    }

    fn found(&mut self, snapshot: Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        match &self.table {
            // Answers of two requests may overtake each other.
            Known::Table(known) if known.uid == snapshot.uid && known.version > snapshot.version => return,
            // Somebody damaged it: whoever held what cannot be read may still write.
            Known::Table(known) if known.uid == snapshot.uid && known.table.settled && !snapshot.table.settled => {
                self.table_since = now.boot;
            }
            Known::Table(known) if known.uid == snapshot.uid => {}
            Known::Table(_) => {
                self.table_since = now.boot;
                self.fence_active = false;
            }
            Known::Nothing | Known::Missing | Known::Unusable(_) => self.table_since = now.boot,
        }
        let was_listed = self.is_listed();
        self.timing = Timing { lease: snapshot.table.lease };
        let first = self.seen.is_empty();
        self.see_members(&snapshot, first, now.boot);
        self.table = Known::Table(snapshot);
        if was_listed && !self.is_listed() && !self.leaving {
            // Somebody declared this life dead, or the table was edited.
            self.lapse(now, effects);
        }
        self.sync_holdings(effects);
    }

    fn see_members(&mut self, snapshot: &Snapshot, first: bool, now: Instant) {
        let members = &snapshot.table.members;
        let is_same = |pod: &Pod, seen: &Seen| {
            members.get(pod).is_some_and(|member| member.incarnation.start == seen.incarnation.start)
        };
        self.seen.retain(|pod, seen| is_same(pod, seen));
        for (pod, member) in members {
            let (incarnation, lease) = (&member.incarnation, member.incarnation.lease_name(pod).into());
            // Who was there before this replica looked is no newcomer.
            let old = first && *pod != self.me.pod;
            let since = if old { now - self.timing.lease } else { now };
            let fresh = || Seen { incarnation: incarnation.clone(), since };
            let seen = self.seen.entry(pod.clone()).or_insert_with(fresh);
            self.observed.expect(&lease, now);
            if seen.incarnation != *incarnation {
                // What was seen of the Lease belongs to the life before.
                seen.incarnation = incarnation.clone();
                self.observed.restart_one(&lease, now);
            }
        }
        let listed = |lease: &str| members.iter().any(|(pod, member)| member.incarnation.lease_name(pod) == lease);
        self.observed.keep(listed);
    }

    /// A hand-over that did not come to its end: what has stopped is started again once it is ours again.
    pub(super) fn abandon_release(&mut self) {
        self.release = None;
        for held in self.held.values_mut().filter(|held| held.phase == Phase::Draining) {
            held.phase = Phase::Stopped;
        }
    }
}
