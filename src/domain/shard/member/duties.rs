//! What there is to do about the table: make it, join it, take over from the dead, give free shards out, hand over, leave.

use std::collections::BTreeSet;

use super::holdings::Phase;
use super::types::{CasAnswer, Effect, Refused, TableRead};
use super::{Known, Member, Release};
use crate::shard::ShardId;
use crate::shard::assign::{assign, excess};
use crate::shard::change::Change;
use crate::shard::fence::Moment;
use crate::shard::observe::Renewal;
use crate::shard::table::{MemberEntry, Pod, Snapshot, Table};
use crate::time::Instant;

/// A change of the table that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    Create,
    Join,
    TakeOver(Pod),
    Assign,
    HandOver,
    SayLeaving,
    Leave,
}

impl Member {
    /// Everything that the present state asks for.
    pub(super) fn act(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.leaving && !self.is_listed() && self.duty.is_none() && !self.stale {
            // Nothing is held that could be passed on: others notice the silence.
            self.lose_all(effects);
            self.left = true;
            effects.extend([Effect::DeleteLease, Effect::Left]);
            return;
        }
        self.renew_if_due(now, effects);
        self.read_if_due(now, effects);
        if self.fence.is_none() || self.stale || now.boot < self.next_duty {
            return;
        }
        match &self.table {
            Known::Nothing | Known::Unusable(_) => {}
            Known::Missing => self.create_table(effects),
            Known::Table(snapshot) => {
                let snapshot = snapshot.clone();
                self.work(&snapshot, now, effects);
            }
        }
    }

    fn work(&mut self, snapshot: &Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        if !self.is_listed() {
            return self.join(snapshot, now, effects);
        }
        self.probe_gains(now, effects);
        if self.leaving {
            return self.leave(snapshot, now, effects);
        }
        self.look_for_the_dead(snapshot, now, effects);
        self.assign_free(snapshot, now, effects);
        self.hand_over(snapshot, now, effects);
    }

    fn create_table(&mut self, effects: &mut Vec<Effect>) {
        if self.duty.is_none() {
            let table = Table::new(self.me.shard_count, self.wanted.lease, self.me.installation.clone());
            self.duty = Some(Duty::Create);
            effects.push(Effect::CreateTable(table.into()));
        }
    }

    /// R4.
    fn join(&mut self, snapshot: &Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        if self.duty.is_some() || self.leaving {
            return;
        }
        let predecessor = snapshot.table.members.get(&self.me.pod);
        let replaces = predecessor.is_none_or(|member| {
            member.incarnation.start == self.me.start || (!self.me.uid.is_empty() && member.uid == self.me.uid)
        });
        if !replaces {
            // Another process of our name: it must be dead before we may take its place.
            return self.look_for_the_dead(snapshot, now, effects);
        }
        // A container of this pod that has just died may have writes in flight; the fence refuses them (T1), else they
        // are waited for.
        let own = predecessor.is_none_or(|member| member.incarnation.start == self.me.start);
        if !own && !self.fence_active && now.boot < self.started + self.timing.write_timeout() {
            return;
        }
        let mut change = Change::of(snapshot);
        let since = jiff::Timestamp::from_millisecond(i64::try_from(now.wall).unwrap_or_default());
        let since = since.map(|at| at.to_string()).unwrap_or_default();
        let entry = MemberEntry {
            incarnation: self.incarnation(),
            uid: self.me.uid.clone(),
            since: since.into(),
            leaving: false,
        };
        change.join(&self.me.pod, entry);
        let unchanged = |shard: ShardId, epoch: u64| self.held.get(&shard).is_some_and(|held| held.epoch == epoch);
        let before = snapshot.table.held_by(&self.me.pod).filter(|(shard, entry)| unchanged(*shard, entry.epoch));
        let after = |shard: ShardId| change.table().shards.get(usize::from(shard.0)).map(|entry| entry.epoch);
        self.resumes = before.filter_map(|(shard, entry)| Some((shard, (entry.epoch, after(shard)?)))).collect();
        self.swap(Duty::Join, snapshot, change, effects);
    }

    /// R5: in this order, the table that names the incarnation; a whole lease of silence as seen from here; a consistent
    /// read of its Lease; the change of that very table.
    fn look_for_the_dead(&mut self, snapshot: &Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        if self.verdict.is_some() || self.duty.is_some() {
            return;
        }
        let dead = self.suspects(snapshot).find(|(_, since)| now.boot >= *since);
        let Some((pod, _)) = dead else { return };
        let Some(member) = snapshot.table.members.get(&pod) else { return };
        let lease = member.incarnation.lease_name(&pod);
        self.verdict = Some((pod.clone(), snapshot.version));
        effects.push(Effect::ReadLease { pod, lease });
    }

    fn silent_since(&self, pod: &Pod) -> Option<Instant> {
        let member = self.snapshot()?.table.members.get(pod)?;
        self.observed.silent_since(&member.incarnation.lease_name(pod))
    }

    /// The other members, and when each is to be suspected if it stays silent.
    fn suspects(&self, snapshot: &Snapshot) -> impl Iterator<Item = (Pod, Instant)> {
        let me = self.incarnation();
        let others = snapshot.table.members.iter().filter(move |(_, member)| member.incarnation.start != me.start);
        others.filter_map(|(pod, member)| {
            let silent = self.observed.silent_since(&member.incarnation.lease_name(pod))?;
            Some((pod.clone(), silent + self.timing.lease + self.timing.per_rank() * self.rank(snapshot, Some(pod))))
        })
    }

    /// This replica's place among the members that may see the same work; a replica that is no member comes last.
    fn rank(&self, snapshot: &Snapshot, without: Option<&Pod>) -> u32 {
        let able = snapshot.table.members.iter().filter(|(pod, member)| Some(*pod) != without && !member.leaving);
        let rank = match self.is_listed() {
            true => able.filter(|(pod, _)| **pod < self.me.pod).count(),
            false => able.count(),
        };
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    pub(super) fn lease_read(
        &mut self,
        pod: &Pod,
        answer: Option<Option<Renewal>>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some((_, version)) = self.verdict.take_if(|(suspect, _)| suspect == pod) else { return };
        let Some(renewal) = answer else {
            self.next_duty = now.boot + self.timing.renew_retry();
            return;
        };
        let Some(snapshot) = self.snapshot().cloned() else { return };
        let Some(member) = snapshot.table.members.get(pod) else { return };
        let lease: std::sync::Arc<str> = member.incarnation.lease_name(pod).into();
        // A Lease that is gone is a change like any other: between what was seen last and its end there may have been a
        // renewal that the watch has not shown yet.
        self.observed.see(&lease, renewal, now.boot);
        let silent = self.observed.silent_for(&lease, now.boot).unwrap_or_default();
        let usable = self.fence.is_some() && self.duty.is_none() && !self.stale && snapshot.version == version;
        if silent < self.timing.lease || !usable {
            return;
        }
        let mut change = Change::of(&snapshot);
        change.remove(pod);
        self.give_free(&mut change, now);
        self.swap(Duty::TakeOver(pod.clone()), &snapshot, change, effects);
    }

    fn assign_free(&mut self, snapshot: &Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        let any = snapshot.table.free().next().is_some();
        self.free_since = any.then(|| self.free_since.unwrap_or(now.boot));
        let due = self.free_since.is_some_and(|since| now.boot >= since + self.wait_of_rank(snapshot));
        if self.duty.is_some() || !due {
            return;
        }
        let mut change = Change::of(snapshot);
        if self.give_free(&mut change, now) {
            self.swap(Duty::Assign, snapshot, change, effects);
        }
    }

    fn wait_of_rank(&self, snapshot: &Snapshot) -> std::time::Duration {
        self.timing.per_rank() * self.rank(snapshot, None)
    }

    /// R6. Whether anything was given.
    fn give_free(&self, change: &mut Change, now: Moment) -> bool {
        // R3: whoever held a shard of a table that was deleted may write for a lease more, unless the fence refuses it.
        let waited = now.boot >= self.table_since + self.timing.lease;
        if !(change.table().settled || self.fence_active || waited) {
            return false;
        }
        let free: Vec<ShardId> = change.table().free().collect();
        let given = assign(change.table(), &free, &self.eligible(change.table(), now), &self.weights);
        for (shard, pod) in &given {
            change.give(*shard, Some(pod.clone()));
        }
        !given.is_empty()
    }

    /// The members that may be given shards: seen alive lately, not leaving, and no newcomers unless all are.
    fn eligible(&self, table: &Table, now: Moment) -> Vec<Pod> {
        let alive = |pod: &Pod, member: &MemberEntry| {
            let lease = member.incarnation.lease_name(pod);
            *pod == self.me.pod || self.observed.is_fresh(&lease, self.timing.fresh(), now.boot)
        };
        let able = table.members.iter().filter(|(pod, member)| !member.leaving && alive(pod, member));
        let able: Vec<Pod> = able.map(|(pod, _)| pod.clone()).collect();
        let is_old = |pod: &&Pod| self.seen.get(*pod).is_some_and(|seen| now.boot >= seen.since + self.timing.lease);
        let old: Vec<Pod> = able.iter().filter(is_old).cloned().collect();
        if old.is_empty() { able } else { old }
    }

    /// R7: only the holder moves a live shard.
    fn hand_over(&mut self, snapshot: &Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        if self.duty.is_some() || snapshot.table.free().next().is_some() {
            return;
        }
        let members = self.eligible(&snapshot.table, now);
        match &self.release {
            None if members.contains(&self.me.pod) => {
                let shards = excess(&snapshot.table, &self.me.pod, &members, &self.weights);
                if !shards.is_empty() {
                    self.release(shards, effects);
                }
            }
            Some(release) if release.drained => {
                let mut change = Change::of(snapshot);
                for (shard, pod) in assign(&snapshot.table, &release.shards, &members, &self.weights) {
                    change.give(shard, Some(pod));
                }
                self.swap(Duty::HandOver, snapshot, change, effects);
            }
            None | Some(_) => {}
        }
    }

    /// Stops shards; nothing of them is written any more.
    fn release(&mut self, shards: Vec<ShardId>, effects: &mut Vec<Effect>) {
        for shard in &shards {
            if let Some(held) = self.held.get_mut(shard) {
                held.phase = Phase::Draining;
            }
        }
        self.releases += 1;
        effects.push(Effect::Release { number: self.releases, shards: shards.clone() });
        self.release = Some(Release { number: self.releases, shards, drained: false });
    }

    /// Says that it leaves; stops everything; passes everything on and goes, in one change.
    fn leave(&mut self, snapshot: &Snapshot, now: Moment, effects: &mut Vec<Effect>) {
        let held: Vec<ShardId> = snapshot.table.held_by(&self.me.pod).map(|(shard, _)| shard).collect();
        if self.release.as_ref().is_none_or(|release| held.iter().any(|shard| !release.shards.contains(shard))) {
            self.release(held, effects);
        }
        if self.duty.is_some() {
            return;
        }
        let said = snapshot.table.members.get(&self.me.pod).is_some_and(|member| member.leaving);
        let mut change = Change::of(snapshot);
        if self.release.as_ref().is_some_and(|release| release.drained) {
            change.remove(&self.me.pod);
            self.give_free(&mut change, now);
            self.swap(Duty::Leave, snapshot, change, effects);
        } else if !said {
            change.leaving(&self.me.pod);
            self.swap(Duty::SayLeaving, snapshot, change, effects);
        }
    }

    fn swap(&mut self, duty: Duty, base: &Snapshot, change: Change, effects: &mut Vec<Effect>) {
        self.duty = Some(duty);
        effects.push(Effect::Cas { version: base.version, uid: base.uid.clone(), table: change.finish() });
    }

    pub(super) fn cas_answered(&mut self, answer: CasAnswer, now: Moment, effects: &mut Vec<Effect>) {
        let duty = self.duty.take();
        match answer {
            CasAnswer::Stored(snapshot) => {
                let before: BTreeSet<ShardId> = self.held.keys().copied().collect();
                let Some(Duty::TakeOver(from)) = duty else {
                    return self.read(Some(TableRead::Found(snapshot)), now, effects);
                };
                let silent_since = self.silent_since(&from).unwrap_or(now.boot);
                self.read(Some(TableRead::Found(snapshot)), now, effects);
                let shards = self.held.keys().filter(|shard| !before.contains(shard)).copied().collect();
                effects.push(Effect::TookOver { from, shards, silent_since });
                return;
            }
            CasAnswer::Conflict => {}
            CasAnswer::Refused(why) => {
                effects.push(Effect::Alarm(Refused::Table(why)));
                self.next_duty = now.boot + self.timing.renew_every();
            }
            CasAnswer::Unknown => self.next_duty = now.boot + self.timing.per_rank(),
        }
        // What the table is now must be seen before anything else is decided.
        self.stale = true;
        self.next_read = now.boot;
    }

    /// When there will be something to do without any message.
    pub(super) fn duty_deadline(&self, now: Moment) -> Option<Instant> {
        let Known::Table(snapshot) = &self.table else { return None };
        let suspects = self.suspects(snapshot).map(|(_, at)| at);
        let ages = self.seen.values().map(|seen| seen.since + self.timing.lease);
        let free = self.free_since.map(|since| since + self.wait_of_rank(snapshot));
        let predecessor = Some(self.started + self.timing.write_timeout());
        let own = [
            free,
            predecessor,
            Some(self.next_duty),
            Some(self.next_probe),
            Some(self.table_since + self.timing.lease),
        ];
        suspects.chain(ages).chain(own.into_iter().flatten()).filter(|at| *at > now.boot).min()
    }
}
