//! Answers of the API server to our writes.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::live::{Live, Stored};
use super::{Adopting, Effect, Machine, Outstanding, Standing, Trouble, WriteKind};
use crate::api::AppliedReason;
use crate::fingerprint::Fingerprint;
use crate::network_policy;
use crate::time::Now;
use crate::write::{Lane, WriteOutcome};

impl Machine {
    pub(super) fn outcome(&mut self, seq: u64, outcome: WriteOutcome, now: Now, effects: &mut Vec<Effect>) {
        // A write that was replaced before it was sent never answers: everything up to this one is done with.
        let answered = self.outstanding.iter().find(|write| write.seq == seq).cloned();
        self.outstanding.retain(|write| write.seq > seq);
        let Some(write) = answered else { return };
        match outcome {
            WriteOutcome::Written(Some(object)) => {
                self.written(&write, &object, now, effects);
                // The watch was ahead of this answer: the object may have been deleted after it was written.
                if write.gone_meanwhile {
                    self.emit_read(effects);
                }
            }
            // What the server returned was lost on the way: look.
            WriteOutcome::Written(None) | WriteOutcome::AlreadyExists | WriteOutcome::Stale => self.emit_read(effects),
            WriteOutcome::Read(object) => {
                self.observe(object.as_deref(), now, effects);
                // In the queue the read may have taken the place of a write, which is decided again.
                self.touch(Lane::Spec);
            }
            WriteOutcome::NamespaceGone => {
                self.standing = Standing::Terminating;
                self.live = Live::Absent;
                self.status.touch();
            }
            WriteOutcome::Rejected(message) => {
                self.refused(&write, AppliedReason::Rejected, message, now, effects);
            }
            WriteOutcome::TooLarge(message) => {
                self.refused(&write, AppliedReason::TooLarge, message, now, effects);
            }
            WriteOutcome::Fenced => {
                let message = "another replica holds this namespace".to_owned();
                self.in_trouble(AppliedReason::Fenced, message, write.fingerprint, now);
            }
        }
    }

    pub(super) fn resumed(&mut self, status_lost: bool, effects: &mut Vec<Effect>) {
        if self.trouble.take_if(|trouble| trouble.reason == AppliedReason::Fenced).is_some() {
            // An attempt before the one that was fenced may have been stored: written again, it would be another revision.
            self.emit_read(effects);
        }
        self.touch(Lane::Spec);
        if status_lost {
            self.status.forget_written();
        }
    }

    fn in_trouble(&mut self, reason: AppliedReason, message: String, fingerprint: Option<Fingerprint>, now: Now) {
        let retry_at = now.instant + self.context.settings.retry_interval;
        self.trouble = Some(Trouble { reason, message, fingerprint, retry_at });
        self.touch(Lane::Spec);
        self.status.first_outcome();
        self.status.touch();
    }

    /// The last good object stays; the namespace is closed all the same.
    fn refused(
        &mut self,
        write: &Outstanding,
        reason: AppliedReason,
        message: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.event(reason.as_str(), true, message.clone(), now.instant, effects);
        self.in_trouble(reason, message, write.fingerprint, now);
        self.first_sight = None;
        self.set_enforcing(true, effects);
    }

    fn written(&mut self, write: &Outstanding, object: &NetworkPolicy, now: Now, effects: &mut Vec<Effect>) {
        // One that is still there (only our label was gone) is no repair yet: the apply that follows is.
        if write.kind == WriteKind::Recreate {
            self.drift.record(now.instant);
        }
        self.book_loaded = true;
        self.first_sight = None;
        self.status.first_outcome();
        self.status.touch();
        let mut stored = Stored::of(object, &self.policy.key);
        let previous = match &self.live {
            Live::Ours(known) => Some(known.clone()),
            Live::Absent | Live::Foreign { .. } => None,
        };
        if write.kind == WriteKind::RepairOwners {
            stored.drifted = previous.is_some_and(|known| known.drifted);
            self.live = Live::Ours(stored);
            self.touch(Lane::Spec);
            return;
        }
        let mutated = write.fingerprint.is_some_and(|wanted| wanted != stored.fingerprint);
        let overtaken =
            previous.as_ref().is_some_and(|known| known.uid == stored.uid && known.version > stored.version);
        let differs = previous.as_ref().is_none_or(|known| known.fingerprint != stored.fingerprint);
        let changed = if mutated { differs } else { write.changes };
        if mutated {
            self.mutated(&mut stored, write.fingerprint, object, now, effects);
        } else {
            self.trouble = None;
        }
        if !overtaken {
            self.live = Live::Ours(stored);
        }
        self.schedule_checkpoint(now);
        self.finish_adoption(object, now, effects);
        self.set_enforcing(true, effects);
        if changed {
            effects.push(self.updated());
        }
    }

    /// The server stored something else than we sent: a mutating policy or webhook. Tried again with the drift back-off.
    fn mutated(
        &mut self,
        stored: &mut Stored,
        wanted: Option<Fingerprint>,
        object: &NetworkPolicy,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        stored.drifted = true;
        if self.drift.allows(now.instant) {
            self.drift.record_mutation(now.instant);
        }
        let managers = network_policy::other_managers(object).join(", ");
        let message = format!(
            "the API server stored another spec than was sent: a mutating admission policy or webhook changes it{}",
            if managers.is_empty() { String::new() } else { format!(" (other field managers: {managers})") }
        );
        self.event(AppliedReason::Mutated.as_str(), true, message.clone(), now.instant, effects);
        let retry_at = self.drift.next_allowed();
        let fingerprint = wanted;
        self.trouble = Some(Trouble { reason: AppliedReason::Mutated, message, fingerprint, retry_at });
    }

    fn finish_adoption(&mut self, object: &NetworkPolicy, now: Now, effects: &mut Vec<Effect>) {
        let name = self.policy.key.network_policy_name();
        match self.adopting.take() {
            Some(Adopting::Foreign(had)) => {
                let blocks: Vec<_> = object.spec.iter().flat_map(network_policy::blocks).collect();
                let gone = had.iter().filter(|net| !network_policy::allows(&blocks, net.addr()));
                let gone = gone.map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let gone = if gone.is_empty() { "none".to_owned() } else { gone };
                let note = format!("NetworkPolicy {name} was taken over; addresses of unknown origin removed: {gone}");
                self.event("Adopted", false, note, now.instant, effects);
            }
            Some(Adopting::BookLost) => {
                let note = format!("the address book of NetworkPolicy {name} was lost; it was learned anew from DNS");
                self.event("BookLost", true, note, now.instant, effects);
            }
            None => {}
        }
    }

    fn updated(&self) -> Effect {
        let text = |net: ipnet::IpNet| {
            if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
        };
        let explicit = self.policy.blocks.iter().map(|(_, block)| text(block.net));
        let learned = self.book.iter().map(|(_, address, _)| address.to_string());
        let ips: BTreeSet<String> = explicit.chain(learned).collect();
        let namespaces: BTreeSet<String> = self.policy.namespaces.iter().map(|peer| peer.name.clone()).collect();
        Effect::Updated { ips: ips.into_iter().collect(), namespaces: namespaces.into_iter().collect() }
    }
}
