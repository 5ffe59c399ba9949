//! The status: derived, never read back, and never worth a delay of anything else.

mod conditions;

use std::hash::Hash;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::hosts::{HostState, LastLookup};
use super::{Effect, Machine};
use crate::answer::AnswerKind;
use crate::api::{EgressPolicyStatus, HostStatus};
use crate::fingerprint::hash;
use crate::time::{Instant, Now, UnixTime};

/// The status lists so many addresses of a host; the count is exact.
const LISTED_ADDRESSES: usize = 20;

/// What is remembered of the status that was written last.
#[derive(Clone, Debug)]
pub(super) struct StatusState {
    /// Hash of the last status, times left out; of the object's own at start.
    written: Option<u64>,
    /// Each condition as last written.
    conditions: Box<[Said]>,
    last_written: Option<Instant>,
    started: Instant,
    has_outcome: bool,
    touched: bool,
}

/// A condition as it was written: hashes of its parts, because only their equality matters.
#[derive(Clone, Debug)]
pub(super) struct Said {
    kind: u64,
    status: u64,
    reason: u64,
    since: Time,
}

impl Said {
    fn of(condition: &Condition) -> Self {
        Self {
            kind: hash_of(&condition.type_),
            status: hash_of(&condition.status),
            reason: hash_of(&condition.reason),
            since: condition.last_transition_time.clone(),
        }
    }

    /// Since when, if its status was this one.
    fn since_if(&self, status: &str) -> Option<&Time> {
        (self.status == hash_of(status)).then_some(&self.since)
    }

    /// Whether another says the same, since whenever.
    fn same(&self, other: &Self) -> bool {
        (self.kind, self.status, self.reason) == (other.kind, other.status, other.reason)
    }
}

fn hash_of(text: &str) -> u64 {
    hash(|h| text.hash(h))
}

impl StatusState {
    /// What was last written of a condition of this kind.
    pub(super) fn said(&self, kind: &str) -> Option<&Said> {
        let kind = hash_of(kind);
        self.conditions.iter().find(|said| said.kind == kind)
    }

    pub(super) fn new(present: Option<&EgressPolicyStatus>, now: Now) -> Self {
        let conditions = present.iter().flat_map(|status| &status.conditions);
        Self {
            written: present.map(hash_without_times),
            conditions: conditions.map(Said::of).collect(),
            last_written: None,
            started: now.instant,
            has_outcome: false,
            touched: true,
        }
    }

    /// Something that the status tells may have changed.
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    /// The last status may not have been stored: a fenced one is nobody's answer.
    pub(super) fn forget_written(&mut self) {
        self.written = None;
        self.touched = true;
    }

    /// The first write has an outcome; true the first time.
    pub(super) fn first_outcome(&mut self) -> bool {
        !std::mem::replace(&mut self.has_outcome, true)
    }

    pub(super) fn has_outcome(&self) -> bool {
        self.has_outcome
    }
}

impl Machine {
    pub(super) fn status_deadline(&self) -> Option<Instant> {
        let settings = &self.context.settings;
        let contest = self.drift.contested_until();
        let patience = (!self.is_status_known()).then(|| self.status.started + settings.pending_status_after);
        let interval = self.status.last_written.map(|last| last + settings.status_interval);
        let due = [patience, interval].into_iter().flatten().max().filter(|_| self.status.touched);
        [due, contest.filter(|_| !self.status.touched)].into_iter().flatten().min()
    }

    /// Whether there is more to say than Pending: every host that is asked for is settled, and a write (where one is due)
    /// was answered.
    fn is_status_known(&self) -> bool {
        let settled = self.standing != super::Standing::Normal || self.all_settled();
        settled && (self.status.has_outcome() || !self.is_write_expected())
    }

    pub(super) fn write_status_if_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.drift.contested_until().is_some_and(|until| now.instant >= until) {
            self.drift = crate::drift::DriftBackoff::default();
            self.contenders.clear();
            self.status.touch();
        }
        if !self.status.touched {
            return;
        }
        let settings = &self.context.settings;
        if !self.is_status_known() && now.instant < self.status.started + settings.pending_status_after {
            return;
        }
        let status = self.status(now);
        let conditions: Box<[Said]> = status.conditions.iter().map(Said::of).collect();
        let same = |(now, before): (&Said, &Said)| now.same(before);
        let before = &self.status.conditions;
        let transition = conditions.len() != before.len() || !conditions.iter().zip(before).all(same);
        let interval = settings.status_interval;
        if !transition && self.status.last_written.is_some_and(|last| now.instant < last + interval) {
            return;
        }
        self.status.touched = false;
        let hash = hash_without_times(&status);
        if self.status.written == Some(hash) {
            return;
        }
        self.conditions_changed(&status, now, effects);
        self.status.written = Some(hash);
        self.status.conditions = conditions;
        self.status.last_written = Some(now.instant);
        effects.push(Effect::Status(Box::new(status)));
    }

    /// The status that tells the truth now.
    pub fn status(&self, now: Now) -> EgressPolicyStatus {
        let hosts: Vec<HostStatus> = self.hosts.iter().map(|host| self.host_status(host)).collect();
        EgressPolicyStatus {
            observed_generation: Some(self.policy.generation),
            conditions: self.conditions(now),
            allowed_address_count: i32::try_from(self.book.len()).ok(),
            host_count: i32::try_from(hosts.len()).ok(),
            hosts,
            fence: None,
        }
    }

    fn host_status(&self, host: &HostState) -> HostStatus {
        let addresses: Vec<String> =
            self.book.addresses(&host.name).take(LISTED_ADDRESSES).map(|address| address.to_string()).collect();
        let failing_since = self.families().filter_map(|family| host.family(family).failing_since).min();
        HostStatus {
            hostname: host.name.to_string(),
            address_count: i32::try_from(self.book.count(&host.name)).unwrap_or(i32::MAX),
            addresses,
            reason: self.host_reason(host),
            failing_since: failing_since.map(|since| time(since).0.to_string()),
        }
    }

    /// Why a host has no fresh addresses, if it has none: failures of a family first, then what both said.
    pub(super) fn host_reason(&self, host: &HostState) -> Option<String> {
        if host.local {
            return Some("inside the cluster: use a namespace destination".to_owned());
        }
        if host.over_quota {
            return Some("not looked up: over the cap of hosts of this namespace".to_owned());
        }
        let last = |family| host.family(family).last;
        let failure = self.families().find_map(|family| match last(family) {
            Some(LastLookup::Failed(failure)) => Some(failure.as_str().to_owned()),
            Some(LastLookup::Answered(_)) | None => None,
        });
        let answers: Vec<AnswerKind> = self
            .families()
            .filter_map(|family| match last(family) {
                Some(LastLookup::Answered(kind)) => Some(kind),
                Some(LastLookup::Failed(_)) | None => None,
            })
            .collect();
        let negative = if answers.contains(&AnswerKind::Positive) || answers.is_empty() {
            None
        } else if answers.contains(&AnswerKind::NxDomain) {
            Some("NXDOMAIN".to_owned())
        } else {
            Some("NODATA".to_owned())
        };
        failure.or(negative)
    }
}

pub(super) fn time(at: UnixTime) -> Time {
    let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Two statuses that differ in times or in the fence only are the same.
fn hash_without_times(status: &EgressPolicyStatus) -> u64 {
    let mut bare = status.clone();
    bare.fence = None;
    for condition in &mut bare.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    for host in &mut bare.hosts {
        host.failing_since = host.failing_since.take().map(|_| String::new());
    }
    bare.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    hash(|h| serde_json::to_string(&bare).unwrap_or_default().hash(h))
}
