//! What a run showed.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use egress_domain::network_policy::{allows, blocks};
use egress_domain::object::DEFAULT_DENY;
use egress_domain::shard::shard_of;
use egress_testbed::eventually;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::bed::{Bed, Measured};
use super::fault::Fault;
use super::judge::{Violation, What, version};
use super::work::{self, Changed};
use super::{Options, audit};

/// Everything written after the last fault.
const PATIENCE: Duration = Duration::from_secs(120);

/// From this lease on, in seconds, times are judged too: with shorter ones they are a busy machine's.
pub(super) const TIMED_LEASE: f64 = 15.0;
/// Longest takeover, in leases.
const TAKEOVER_LEASES: f64 = 1.2;
/// Longest time from SIGTERM until the table is without the replica, in leases: others take it for dead not much later.
const RELEASE_LEASES: f64 = 0.8;
/// Longest planned handover, in seconds.
const PLANNED: f64 = 1.0;
/// So many faults of a kind leave at least one time to tell; each single one may meet replicas that are stopped.
const TELLING: usize = 3;
/// Most namespaces of a replica at rest, relative to the mean.
const FULLEST: f64 = 1.05;
/// With fewer namespaces than shards are many, no share is even.
const EVEN_FROM: usize = 1_000;
/// Requests that the API server may have admitted when a person edited the table: those of a moment, not of the whole second.
const MOST_PER_EDIT: usize = 20;

/// What a run showed. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Lease duration.
    pub lease: f64,
    /// Whether fence and deadline were on.
    pub fenced: bool,
    /// Replicas.
    pub replicas: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Policies.
    pub policies: usize,
    /// Faults of each kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Revisions of NetworkPolicies that were judged.
    pub judged: usize,
    /// Deletions and statuses that were judged.
    pub judged_deletes: usize,
    pub judged_statuses: usize,
    /// Revisions that the table at that moment did not allow.
    pub stale: Vec<String>,
    /// Deletions and statuses that it did not allow.
    pub stale_others: Vec<String>,
    /// All of these within a second of a hand edit of the table: the API server had admitted them before it.
    pub overlaps: usize,
    /// The longest such time.
    pub longest_overlap: f64,
    /// Revisions of which the audit log names the pod that wrote them.
    pub audited: usize,
    /// Those that were written by another pod than the holder of the shard at that moment.
    pub by_strangers: Vec<String>,
    /// The same within a second of a hand edit of the table.
    pub strangers_after_edit: usize,
    /// Revisions that the audit log has and no watch has shown.
    pub unseen: Vec<u64>,
    /// What the watches missed.
    pub gaps: Vec<String>,
    /// Shards that were given to others when a replica went, and those that it held, for each that could be told.
    pub moves: Vec<(usize, usize)>,
    /// From SIGTERM until the table was without the replica, sorted; where times are judged.
    pub releases: Vec<f64>,
    /// Replicas that ended and gave their shards to nobody, so that others took them.
    pub left_free: usize,
    /// From kill -9 until the survivors acted, sorted.
    pub takeovers: Vec<f64>,
    /// From the release of a replica that ended until each of the others acted, sorted.
    pub handovers: Vec<f64>,
    /// From that release until the others acted on all of its shards, sorted.
    pub whole_handovers: Vec<f64>,
    /// Writes to NetworkPolicies of which nothing had changed.
    pub writes_by_moves: usize,
    /// Writes to NetworkPolicies beyond one for each change of an answer or a spec.
    pub extra_writes: usize,
    /// Writes that left the spec as it was.
    pub unchanged: Vec<String>,
    /// Namespaces of the fullest replica, relative to the mean, at the end.
    pub fullest: f64,
    /// NetworkPolicies that lack what they should allow, at the end.
    pub wrong: Vec<String>,
    #[serde(skip)]
    version: u64,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            lease: options.lease_duration_seconds.into(),
            fenced: !options.unfenced,
            replicas: options.size.replicas,
            namespaces: options.size.namespaces,
            policies: options.size.policies,
            faults: BTreeMap::new(),
            judged: 0,
            judged_deletes: 0,
            judged_statuses: 0,
            stale: Vec::new(),
            stale_others: Vec::new(),
            overlaps: 0,
            longest_overlap: 0.0,
            audited: 0,
            by_strangers: Vec::new(),
            strangers_after_edit: 0,
            unseen: Vec::new(),
            gaps: Vec::new(),
            moves: Vec::new(),
            releases: Vec::new(),
            left_free: 0,
            takeovers: Vec::new(),
            handovers: Vec::new(),
            whole_handovers: Vec::new(),
            writes_by_moves: 0,
            extra_writes: 0,
            unchanged: Vec::new(),
            fullest: 0.0,
            wrong: Vec::new(),
            version: 0,
        }
    }

    /// Waits until every policy has its NetworkPolicy; what is written from now on is counted.
    pub(super) async fn converged(&mut self, bed: &mut Bed) -> Result<()> {
        converged(bed).await?;
        self.version = bed.seen().await?;
        Ok(())
    }

    pub(super) fn suffered(&mut self, fault: &Fault, measured: &Measured) {
        *self.faults.entry(fault.kind()).or_default() += 1;
        self.takeovers.extend(measured.takeover.map(|time| time.as_secs_f64()));
        self.handovers.extend(measured.handover.map(|time| time.as_secs_f64()));
        self.whole_handovers.extend(measured.whole_handover.map(|time| time.as_secs_f64()));
        self.moves.extend(measured.moved);
        self.releases.extend(measured.release.map(|time| time.as_secs_f64()));
        self.left_free += usize::from(measured.left_free);
    }

    /// Waits until everything is right, then judges.
    pub(super) async fn settled(&mut self, bed: &mut Bed, changed: Changed) -> Result<()> {
        if let Err(error) = eventually(PATIENCE, async || right(bed, &changed).await.map(drop)).await {
            self.wrong = vec![format!("{error:#}")];
        }
        bed.seen().await?;
        self.judged = bed.judge.count(What::Stored);
        self.judged_deletes = bed.judge.count(What::Deleted);
        self.judged_statuses = bed.judge.count(What::Status);
        let (overlapping, stale) = near_edits(bed.judge.stale());
        let (stored, others): (Vec<_>, Vec<_>) =
            stale.into_iter().partition(|violation| violation.what == What::Stored);
        self.stale = told(stored);
        self.stale_others = told(others);
        self.overlaps = overlapping.len();
        let overlaps = overlapping.iter().filter_map(|violation| violation.after_edit);
        self.longest_overlap = overlaps.max().map_or(0.0, |longest| longest.as_secs_f64());
        let audit = audit::read(&bed.audit_log)?;
        self.audited = audit.writers.len();
        let (overlapping, strangers) = near_edits(bed.judge.by_strangers(&audit));
        self.by_strangers = told(strangers);
        self.strangers_after_edit = overlapping.len();
        self.unseen = bed.judge.unseen(&audit, self.version);
        self.gaps = bed.judge.gaps();
        let writes = bed.judge.writes_since(self.version);
        let quiet = (0..bed.policies).filter(|policy| bed.pace.is_quiet(*policy));
        let keys = quiet.map(|policy| (work::namespace_of(policy, bed.namespaces), format!("egress-policy-{policy}")));
        self.writes_by_moves = keys.filter_map(|key| writes.get(&key)).sum();
        let beyond = |(policy, changes): (&usize, &usize)| {
            let key = (work::namespace_of(*policy, bed.namespaces), format!("egress-policy-{policy}"));
            writes.get(&key).copied().unwrap_or_default().saturating_sub(*changes)
        };
        self.extra_writes = changed.changes.iter().map(beyond).sum();
        self.unchanged = bed.judge.unchanged_since(self.version);
        if let Some(table) = bed.judge.table() {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for number in 0..bed.namespaces {
                let shard = shard_of(&work::namespace(number), table.shard_count());
                if let Some(pod) = table.shards[usize::from(shard.0)].holder.as_deref() {
                    *counts.entry(pod).or_default() += 1;
                }
            }
            let mean = bed.namespaces as f64 / bed.replicas.len() as f64;
            self.fullest = counts.values().max().map_or(0.0, |most| *most as f64 / mean);
        }
        self.releases.sort_by(f64::total_cmp);
        self.takeovers.sort_by(f64::total_cmp);
        self.handovers.sort_by(f64::total_cmp);
        self.whole_handovers.sort_by(f64::total_cmp);
        Ok(())
    }

    /// What the run must show: no stale write, nothing written for a move, everything right in the end.
    ///
    /// # Errors
    /// When it did not.
    pub fn check(&self) -> Result<()> {
        if !self.fenced {
            let weak = "the judge or the faults are too weak";
            ensure!(!self.stale.is_empty(), "the control run shows no stale write: {weak}");
            ensure!(!self.by_strangers.is_empty(), "the control run shows no write by a stranger: {weak}");
            return Ok(());
        }
        let first = self.stale.first();
        ensure!(self.stale.is_empty(), "{} stale writes were accepted, the first: {first:?}", self.stale.len());
        let (others, first) = (self.stale_others.len(), self.stale_others.first());
        ensure!(others == 0, "{others} stale deletes or statuses were accepted, the first: {first:?}");
        let (strangers, first) = (self.by_strangers.len(), self.by_strangers.first());
        ensure!(strangers == 0, "{strangers} writes by a pod that did not hold the shard, the first: {first:?}");
        let judged = (self.judged, self.audited);
        ensure!(self.audited * 10 >= self.judged * 9, "the audit log knows too few of the revisions: {judged:?}");
        ensure!(self.gaps.is_empty(), "the watches lost {:?}", self.gaps);
        let (unseen, first) = (self.unseen.len(), self.unseen.first());
        ensure!(unseen == 0, "{unseen} revisions of the audit log were not shown by the watch, the first: {first:?}");
        let edits = self.asked("edit-table") + self.asked("delete-table");
        for (what, near) in [("overlaps", self.overlaps), ("writes by strangers", self.strangers_after_edit)] {
            let most = MOST_PER_EDIT * edits;
            ensure!(near <= most, "{near} {what} after {edits} hand edits, more than {most}");
        }
        let unneeded = self.moves.iter().find(|(moved, held)| moved != held);
        ensure!(unneeded.is_none(), "(shards moved, shards of the replica that went): {unneeded:?}");
        let unchanged = (self.unchanged.len(), self.unchanged.first());
        ensure!(self.extra_writes == 0 && unchanged.0 == 0, "written twice: {}, {unchanged:?}", self.extra_writes);
        ensure!(self.writes_by_moves == 0, "{} writes only because a shard moved", self.writes_by_moves);
        ensure!(self.wrong.is_empty(), "not right in the end: {:?}", self.wrong);
        let judged = (self.judged, self.judged_statuses);
        ensure!(judged.0 > self.policies && judged.1 > 0, "too few revisions or statuses to judge: {judged:?}");
        if self.namespaces >= EVEN_FROM {
            ensure!(self.fullest <= FULLEST, "the fullest replica has {:.3} of the mean", self.fullest);
        }
        let least = if self.lease >= TIMED_LEASE { 1 } else { TELLING };
        for (kind, times) in [("kill", &self.takeovers), ("terminate", &self.handovers)] {
            let asked = self.asked(kind);
            ensure!(asked < least || !times.is_empty(), "no time of {asked} faults of kind {kind} could be told");
        }
        if self.lease >= TIMED_LEASE {
            let (takeover, planned) = (p99(&self.takeovers), p99(&self.handovers));
            let most = TAKEOVER_LEASES * self.lease;
            ensure!(takeover <= most, "p99 of {} takeovers: {takeover:.2} s of {most:.2} s", self.takeovers.len());
            ensure!(planned <= PLANNED, "p99 of {} planned handovers: {planned:.2} s", self.handovers.len());
            let (release, most) = (self.releases.last().copied().unwrap_or_default(), RELEASE_LEASES * self.lease);
            ensure!(
                release <= most,
                "a replica that ended was in the table for {release:.2} s: was it taken for dead?"
            );
            let (told, gone) = (self.moves.len(), self.asked("kill") + self.asked("terminate"));
            ensure!(told > 0 || gone == 0, "nobody counted the shards that moved when {gone} replicas went");
        }
        Ok(())
    }

    /// Faults of a kind.
    fn asked(&self, kind: &str) -> usize {
        self.faults.get(kind).copied().unwrap_or_default()
    }
}

/// Those a moment after a hand edit, and the others.
fn near_edits(violations: Vec<Violation>) -> (Vec<Violation>, Vec<Violation>) {
    violations.into_iter().partition(|violation| violation.after_edit.is_some())
}

fn told(violations: Vec<Violation>) -> Vec<String> {
    violations.into_iter().map(|violation| violation.told).collect()
}

/// The 99th percentile of sorted values; 0 of none.
fn p99(sorted: &[f64]) -> f64 {
    let rank = (sorted.len() as f64 * 0.99).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Waits until every policy has its NetworkPolicy; gives the highest version among them.
pub async fn converged(bed: &Bed) -> Result<u64> {
    let newest = eventually(PATIENCE, async || right(bed, &Changed::default()).await).await?;
    eprintln!("{} policies have their NetworkPolicies", bed.policies);
    Ok(newest)
}

/// Every NetworkPolicy allows the present address of its host, and the block of its spec, and every namespace is closed; gives
/// the highest version.
pub async fn right(bed: &Bed, changed: &Changed) -> Result<u64> {
    let all = Api::<NetworkPolicy>::all(bed.client.clone()).list(&ListParams::default()).await?.items;
    let newest = all.iter().map(version).max().unwrap_or_default();
    let (mut found, mut closed) = (0, 0);
    for object in all {
        let name = object.name_any();
        closed += usize::from(name == DEFAULT_DENY);
        let Some(number) = name.strip_prefix("egress-policy-").and_then(|number| number.parse::<usize>().ok()) else {
            continue;
        };
        found += 1;
        let allowed: Vec<_> = object.spec.iter().flat_map(blocks).collect();
        let host = bed.pace.host_of(number);
        let address = changed.hosts.get(&host).copied().unwrap_or_else(|| work::address(host, 0));
        ensure!(allows(&allowed, address), "{name} lacks {address}");
        if let Some(block) = changed.blocks.get(&number) {
            let has = allowed.iter().any(|(net, _)| net.to_string() == *block);
            ensure!(has, "{name} lacks {block}");
        }
    }
    ensure!(found == bed.policies, "{found} of {} NetworkPolicies exist", bed.policies);
    // Written after the NetworkPolicy of the namespace's first policy: it is no later write.
    let namespaces = bed.namespaces.min(bed.policies);
    ensure!(closed >= namespaces, "{closed} of {namespaces} namespaces have their default deny");
    Ok(newest)
}
