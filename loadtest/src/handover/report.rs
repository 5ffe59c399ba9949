//! What a run showed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use egress_domain::network_policy::{allows, blocks};
use egress_domain::shard::shard_of;
use egress_testbed::eventually;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::bed::{Bed, Measured};
use super::fault::Fault;
use super::judge::version;
use super::work::{self, Changed};
use super::{Options, audit};

/// Everything written after the last fault.
const PATIENCE: Duration = Duration::from_secs(120);

/// From this lease on, in seconds, times are judged too: with shorter ones they are a busy machine's.
pub(super) const TIMED_LEASE: f64 = 15.0;
/// Longest takeover, in leases.
const TAKEOVER_LEASES: f64 = 1.2;
/// Longest planned handover, in seconds.
const PLANNED: f64 = 1.0;

/// What a run showed. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Lease duration.
    pub lease: f64,
    /// Whether fence and deadline were on.
    pub fenced: bool,
    /// Replicas.
    pub replicas: usize,
    /// Policies.
    pub policies: usize,
    /// Faults of each kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Revisions of NetworkPolicies that were judged.
    pub judged: usize,
    /// Revisions that the table at that moment did not allow.
    pub stale: Vec<String>,
    /// The same within a second of a hand edit of the table: the API server had admitted them before it.
    pub overlaps: usize,
    /// The longest such time.
    pub longest_overlap: f64,
    /// Revisions of which the audit log names the pod that wrote them.
    pub audited: usize,
    /// Those that were written by another pod than the holder of the shard at that moment.
    pub by_strangers: Vec<String>,
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
            policies: options.size.policies,
            faults: BTreeMap::new(),
            judged: 0,
            stale: Vec::new(),
            overlaps: 0,
            longest_overlap: 0.0,
            audited: 0,
            by_strangers: Vec::new(),
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
        let newest = converged(bed).await?;
        self.version = newest;
        let shown = async || {
            let shown = bed.judge.version();
            ensure!(shown >= newest, "the judge has seen version {shown}, not yet {newest}");
            Ok(())
        };
        eventually(PATIENCE, shown).await
    }

    pub(super) fn suffered(&mut self, fault: &Fault, measured: &Measured) {
        *self.faults.entry(fault.kind()).or_default() += 1;
        self.takeovers.extend(measured.takeover.map(|time| time.as_secs_f64()));
        self.handovers.extend(measured.handover.map(|time| time.as_secs_f64()));
        self.whole_handovers.extend(measured.whole_handover.map(|time| time.as_secs_f64()));
    }

    /// Waits until everything is right, then judges.
    pub(super) async fn settled(&mut self, bed: &mut Bed, changed: Changed) -> Result<()> {
        if let Err(error) = eventually(PATIENCE, async || right(bed, &changed).await.map(drop)).await {
            self.wrong = vec![format!("{error:#}")];
        }
        self.judged = bed.judge.judged();
        let (overlapping, stale): (Vec<_>, Vec<_>) =
            bed.judge.stale().into_iter().partition(|violation| violation.after_edit.is_some());
        self.stale = stale.into_iter().map(|violation| violation.told).collect();
        self.overlaps = overlapping.len();
        let overlaps = overlapping.iter().filter_map(|violation| violation.after_edit);
        self.longest_overlap = overlaps.max().map_or(0.0, |longest| longest.as_secs_f64());
        let writers = audit::writers(&bed.audit_log)?;
        self.audited = writers.len();
        let strangers = bed.judge.by_strangers(&writers).into_iter();
        self.by_strangers =
            strangers.filter(|violation| violation.after_edit.is_none()).map(|violation| violation.told).collect();
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
            ensure!(
                !self.stale.is_empty(),
                "the control run shows no stale write: the judge or the faults are too weak"
            );
            return Ok(());
        }
        let first = self.stale.first();
        ensure!(self.stale.is_empty(), "{} stale writes were accepted, the first: {first:?}", self.stale.len());
        let (strangers, first) = (self.by_strangers.len(), self.by_strangers.first());
        ensure!(strangers == 0, "{strangers} writes by a pod that did not hold the shard, the first: {first:?}");
        let judged = (self.judged, self.audited);
        ensure!(self.audited * 10 >= self.judged * 9, "the audit log knows too few of the revisions: {judged:?}");
        let unchanged = (self.unchanged.len(), self.unchanged.first());
        ensure!(self.extra_writes == 0 && unchanged.0 == 0, "written twice: {}, {unchanged:?}", self.extra_writes);
        ensure!(self.writes_by_moves == 0, "{} writes only because a shard moved", self.writes_by_moves);
        ensure!(self.wrong.is_empty(), "not right in the end: {:?}", self.wrong);
        ensure!(self.judged > self.policies, "too few revisions to judge: {}", self.judged);
        if self.lease >= TIMED_LEASE {
            let (takeover, planned) = (p99(&self.takeovers), p99(&self.handovers));
            let most = TAKEOVER_LEASES * self.lease;
            ensure!(takeover <= most, "p99 of {} takeovers: {takeover:.2} s of {most:.2} s", self.takeovers.len());
            ensure!(planned <= PLANNED, "p99 of {} planned handovers: {planned:.2} s", self.handovers.len());
        }
        Ok(())
    }
}

/// The 99th percentile of sorted values; 0 of none.
fn p99(sorted: &[f64]) -> f64 {
    let rank = (sorted.len() as f64 * 0.99).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Waits until every policy has its NetworkPolicy; gives the highest version among them.
pub(crate) async fn converged(bed: &Bed) -> Result<u64> {
    let newest = eventually(PATIENCE, async || right(bed, &Changed::default()).await).await?;
    eprintln!("{} policies have their NetworkPolicies", bed.policies);
    Ok(newest)
}

/// Every NetworkPolicy allows the present address of its host, and the block of its spec; gives the highest version.
async fn right(bed: &Bed, changed: &Changed) -> Result<u64> {
    let all = Api::<NetworkPolicy>::all(bed.client.clone()).list(&ListParams::default()).await?.items;
    let newest = all.iter().map(version).max().unwrap_or_default();
    let mut found = 0;
    for object in all {
        let name = object.name_any();
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
    Ok(newest)
}
