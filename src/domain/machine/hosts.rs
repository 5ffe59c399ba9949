//! The hosts of a policy: what lookups said of each, and what that does to the book.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Effect, Machine, Standing};
use crate::answer::{AnswerKind, Family, LookupFailure, Outcome, Resolution};
use crate::api::DroppedReason;
use crate::fqdn::Fqdn;
use crate::guard::Verdict;
use crate::settings::{Settings, StaleAction};
use crate::time::{Now, UnixTime};
use crate::write::Lane;

/// What the last lookup said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastLookup {
    Answered(AnswerKind),
    Failed(LookupFailure),
}

/// One (host, family).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FamilyState {
    pub(super) settled: bool,
    pub(super) last: Option<LastLookup>,
    pub(super) succeeded: Option<UnixTime>,
    pub(super) failing_since: Option<UnixTime>,
    pub(super) dropped: Option<DroppedReason>,
    pub(super) cluster_local: bool,
}

/// One host of the spec.
#[derive(Clone, Debug)]
pub(super) struct HostState {
    pub(super) name: Fqdn,
    /// Below the cluster domain: never looked up.
    pub(super) local: bool,
    /// Over the namespace's cap of hosts: not looked up.
    pub(super) over_quota: bool,
    pub(super) since: UnixTime,
    pub(super) v4: FamilyState,
    pub(super) v6: FamilyState,
}

impl HostState {
    fn new(name: Fqdn, now: UnixTime) -> Self {
        let family = FamilyState::default();
        Self { name, local: false, over_quota: false, since: now, v4: family, v6: family }
    }

    pub(super) fn family(&self, family: Family) -> &FamilyState {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut FamilyState {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    pub(super) fn is_looked_up(&self) -> bool {
        !self.local && !self.over_quota
    }
}

impl Machine {
    /// Makes the list of hosts true to the spec, the quota and the cluster, and asks for their lookups.
    pub(super) fn refresh_hosts(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut old = std::mem::take(&mut self.hosts);
        let domain = &self.context.cluster.domain;
        let mut looked_up = 0;
        let names = self.policy.host_names();
        // Exactly so many: thousands of machines keep theirs for ever.
        self.hosts = Vec::with_capacity(names.len());
        for name in names {
            let known = old.iter().position(|host| host.name == name).map(|at| old.swap_remove(at));
            let mut host = known.unwrap_or_else(|| HostState::new(name, now.unix));
            host.local = host.name.is_under(domain);
            host.over_quota = !host.local && looked_up >= self.host_quota;
            looked_up += usize::from(host.is_looked_up());
            self.hosts.push(host);
        }
        let wanted = match self.standing {
            Standing::Normal => self.looked_up_hosts().map(|host| host.name.clone()).collect(),
            Standing::Protected | Standing::Terminating => Vec::new(),
        };
        effects.push(Effect::Lookup(wanted));
    }

    pub(super) fn looked_up_hosts(&self) -> impl Iterator<Item = &HostState> {
        self.hosts.iter().filter(|host| host.is_looked_up())
    }

    /// Every lookup of every host has completed at least once.
    pub(super) fn all_settled(&self) -> bool {
        self.looked_up_hosts().all(|host| self.families().all(|family| host.family(family).settled))
    }

    /// Every host has had a successful answer in each family.
    pub(super) fn all_answered(&self) -> bool {
        self.looked_up_hosts().all(|host| self.families().all(|family| host.family(family).succeeded.is_some()))
    }

    pub(super) fn resolution(&mut self, resolution: &Resolution, now: Now, effects: &mut Vec<Effect>) {
        let Resolution { host, family, outcome, settled } = resolution;
        let Ok(at) = self.hosts.binary_search_by(|state| state.name.cmp(host)) else { return };
        let Some(state) = self.hosts.get_mut(at) else { return };
        let state = state.family_mut(*family);
        if *settled && !state.settled {
            state.settled = true;
            self.status.touch();
        }
        match outcome {
            Outcome::OneServerFailed => {}
            Outcome::Failure(failure) => self.failed(at, *family, *failure, now),
            Outcome::Answer { kind, addresses, elsewhere } => {
                self.first_answer.get_or_insert(now.instant);
                self.answered(at, *family, *kind, addresses, elsewhere, now, effects);
            }
        }
    }

    /// A failure changes what is said, never what is allowed (I3), unless staleness was told to.
    fn failed(&mut self, at: usize, family: Family, failure: LookupFailure, now: Now) {
        let Some(host) = self.hosts.get_mut(at) else { return };
        let state = host.family_mut(family);
        let last = Some(LastLookup::Failed(failure));
        if state.last != last {
            state.last = last;
            self.status.touch();
        }
        state.failing_since.get_or_insert(now.unix);
        let name = host.name.clone();
        if self.context.settings.stale_action == StaleAction::Drop && self.is_stale(at, now.unix) {
            let gone = self.book.retain(|host, _| *host != name);
            if gone > 0 {
                self.touch(Lane::Expired);
                self.status.touch();
            }
        }
    }

    /// No family of the host has had a successful answer for `--max-stale`, though it is asked for.
    pub(super) fn is_stale(&self, at: usize, now: UnixTime) -> bool {
        let Some(host) = self.hosts.get(at) else { return false };
        let succeeded = self.families().filter_map(|family| host.family(family).succeeded);
        let last = succeeded.chain(self.book.host_last_seen(&host.name)).max().unwrap_or(host.since);
        self.standing == Standing::Normal && host.is_looked_up() && now.since(last) > self.context.settings.max_stale
    }

    /// Whether one of these addresses was missing from the answers for so long that what is stored of it is old.
    fn any_returned(&self, name: &Fqdn, addresses: &[IpAddr], now: UnixTime) -> bool {
        let Some(interval) = Settings::checkpoint_interval(self.policy.retention) else { return false };
        let mut seen = addresses.iter().filter_map(|address| self.book.last_seen(name, address));
        seen.any(|seen| now.since(seen) > interval)
    }

    #[allow(clippy::too_many_arguments)]
    fn answered(
        &mut self,
        at: usize,
        family: Family,
        kind: AnswerKind,
        addresses: &[IpAddr],
        elsewhere: &[IpAddr],
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get(at) else { return };
        let name = host.name.clone();
        let before = *host.family(family);
        let mut state = FamilyState { last: Some(LastLookup::Answered(kind)), dropped: None, ..before };
        state.cluster_local = false;
        state.failing_since = None;
        state.succeeded = Some(now.unix);

        let mut fine = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.context.cluster.guard.judge(*address) {
                Verdict::Fine => fine.push(*address),
                Verdict::ClusterLocal => state.cluster_local = true,
                Verdict::Guarded => state.dropped = Some(DroppedReason::GuardRail),
            }
        }
        // A frozen policy expires nothing; its book only reports.
        let frozen = self.is_frozen();
        if self.any_returned(&name, &fine, now.unix) {
            self.checkpoint_soon(now);
        }
        let learned = self.book.learn(&name, &fine, now.unix, self.caps());
        let held: HashSet<&IpAddr> = addresses.iter().chain(elsewhere).collect();
        let present = |address: &IpAddr| held.contains(address);
        let expired =
            if frozen { 0 } else { self.book.expire(&name, family, present, now.unix, self.policy.retention) };

        if learned.host_cap {
            state.dropped.get_or_insert(DroppedReason::HostCap);
        } else if learned.policy_cap {
            state.dropped.get_or_insert(DroppedReason::PolicyCap);
        }
        self.capped |= learned.evicted > 0;
        if learned.added > learned.evicted {
            self.touch(Lane::Added);
        }
        if expired > 0 {
            self.touch(Lane::Expired);
        }
        let said = |s: &FamilyState| (s.last, s.dropped, s.cluster_local, s.failing_since.is_some());
        if learned.added + learned.evicted + expired > 0 || said(&before) != said(&state) {
            self.status.touch();
        }
        if state.dropped == Some(DroppedReason::GuardRail) && before.dropped != state.dropped {
            let guarded = addresses.iter().filter(|a| self.context.cluster.guard.judge(**a) == Verdict::Guarded);
            let list = guarded.map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let note =
                format!("{name} answered {list}: addresses of the cluster, a node or the platform stay forbidden");
            self.event("GuardRail", true, note, now.instant, effects);
        }
        if let Some(host) = self.hosts.get_mut(at) {
            *host.family_mut(family) = state;
        }
    }

    /// Removes from the book what the guard rail forbids now (I5).
    pub(super) fn drop_guarded(&mut self) {
        let cluster = Arc::clone(&self.context.cluster);
        let gone = self.book.retain(|_, address| cluster.guard.judge(address) == Verdict::Fine);
        if gone > 0 {
            self.touch(Lane::Spec);
            self.status.touch();
        }
    }
}
