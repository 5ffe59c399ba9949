//! What the API server can take: a minimal client sends the bodies that the controller would send, under the same fence,
//! with as many requests under way, and does nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use egress_domain::answer::{AnswerKind, Family, Outcome, Resolution};
use egress_domain::api::{EgressPolicy, EgressShardTable, FENCE_ANNOTATION, FIELD_MANAGER, SHARD_TABLE};
use egress_domain::cluster::Cluster as ClusterFacts;
use egress_domain::fqdn::Fqdn;
use egress_domain::guard::GuardRail;
use egress_domain::machine::{Context, Effect, Input, Machine, Standing};
use egress_domain::policy::ValidatedPolicy;
use egress_domain::settings::Settings;
use egress_domain::shard::shard_of;
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::table::{Entry, Table};
use egress_domain::time::{self, Now, UnixTime};
use egress_domain::write::{WriteOutcome, WriteRequest};
use egress_testbed::eventually;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::bed::Bed;
use super::progress::Progress;
use super::workload::Workload;
use crate::fill::{create_namespaces, forget_table};

/// Objects that are written: as many as there are policies, so that a small run stays short, but enough for a figure within
/// a few per cent, and no more than takes seconds.
const OBJECTS: (usize, usize) = (100, 1_000);
/// Requests under way at once: where the controller's own search for a limit ends on a server that queues nothing.
const AT_ONCE: usize = 16;
const NAMESPACE: &str = "ceiling";
const INSTALLATION: &str = "egress-controller";
const SHARDS: u16 = 256;
/// A new table reaches the fence within a second; a loaded machine is given a multiple.
const FENCE_WITHIN: Duration = Duration::from_secs(30);

/// Writes per second that the API server took.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// Creates of NetworkPolicies.
    pub creates: f64,
    /// Server-side applies that change one.
    pub applies: f64,
    /// Writes of the status of policies.
    pub statuses: f64,
}

impl Ceiling {
    /// The lower of two in everything.
    #[must_use]
    pub fn lower(self, other: Self) -> Self {
        Self {
            creates: self.creates.min(other.creates),
            applies: self.applies.min(other.applies),
            statuses: self.statuses.min(other.statuses),
        }
    }

    /// Seconds that so many creates, applies and statuses take at least.
    #[must_use]
    pub fn seconds(&self, creates: u64, applies: u64, statuses: u64) -> f64 {
        creates as f64 / self.creates + applies as f64 / self.applies + statuses as f64 / self.statuses
    }

    /// Writes per second, when every other is an apply and the rest are statuses.
    #[must_use]
    pub fn mixed(&self) -> f64 {
        2.0 / (1.0 / self.applies + 1.0 / self.statuses)
    }
}

/// What is written for one policy.
struct Bodies {
    policy: EgressPolicy,
    create: NetworkPolicy,
    apply: NetworkPolicy,
    status: serde_json::Value,
}

/// Measures, while no controller runs: the shards are the measuring client's own. Leaves nothing behind.
///
/// # Errors
/// When the API server refuses a write.
pub async fn measure(bed: &Bed, number: usize) -> Result<Ceiling> {
    create_namespaces(&bed.client, &[NAMESPACE.to_owned()]).await?;
    forget_table(&bed.client).await?;
    let (replica, kubeconfig) = bed.cluster.replica(&format!("ceiling-{number}")).await?;
    let shard = shard_of(NAMESPACE, SHARDS);
    let mut table = Table::new(SHARDS, Duration::from_secs(15), INSTALLATION.into());
    table.shards[usize::from(shard.0)] = Entry { holder: Some(replica.pod.as_str().into()), epoch: 1 };
    let tables = Api::<EgressShardTable>::all(bed.client.clone());
    tables.create(&PostParams::default(), &EgressShardTable::new(SHARD_TABLE, table.to_spec())).await?;

    let stamp = Stamp { shard, epoch: 1 }.to_string();
    let objects = bed.workload.size.policies.clamp(OBJECTS.0, OBJECTS.1);
    let bodies: Vec<Bodies> =
        (0..objects).map(|policy| bodies(&bed.workload, policy, &stamp)).collect::<Result<_>>()?;
    let ceiling = write(bed, &bed.cluster.client_of(&kubeconfig).await?, bodies).await;

    let (all, everything) = (DeleteParams::default(), ListParams::default());
    drop(Api::<NetworkPolicy>::namespaced(bed.client.clone(), NAMESPACE).delete_collection(&all, &everything).await?);
    drop(Api::<EgressPolicy>::namespaced(bed.client.clone(), NAMESPACE).delete_collection(&all, &everything).await?);
    forget_table(&bed.client).await?;
    ceiling
}

async fn write(bed: &Bed, client: &Client, mut bodies: Vec<Bodies>) -> Result<Ceiling> {
    let policies = Api::<EgressPolicy>::namespaced(bed.client.clone(), NAMESPACE);
    let plain = PostParams::default();
    let created = stream::iter(&bodies).map(|body| policies.create(&plain, &body.policy));
    let created: Vec<EgressPolicy> = created.buffered(AT_ONCE).try_collect().await?;
    for (body, created) in bodies.iter_mut().zip(created) {
        body.policy = created;
    }
    let objects = Api::<NetworkPolicy>::namespaced(client.clone(), NAMESPACE);
    let manager = PatchParams::apply(FIELD_MANAGER).force();
    let posted = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    // The fence has seen the table when it lets a write pass.
    let (first, rest) = bodies.split_first().context("nothing to write")?;
    eventually(FENCE_WITHIN, async || Ok(objects.create(&posted, &first.create).await.map(drop)?)).await?;

    let progress = Progress::new("ceiling of the API server", bodies.len() * 3);
    let count = rest.len() as f64;
    let started = Instant::now();
    let writes = stream::iter(rest).map(async |body| {
        progress.one();
        objects.create(&posted, &body.create).await.map(drop)
    });
    writes.buffer_unordered(AT_ONCE).try_collect::<()>().await.context("a create")?;
    let creates = count / started.elapsed().as_secs_f64();

    let started = Instant::now();
    let writes = stream::iter(rest).map(async |body| {
        progress.one();
        objects.patch(&body.apply.name_any(), &manager, &Patch::Apply(&body.apply)).await.map(drop)
    });
    writes.buffer_unordered(AT_ONCE).try_collect::<()>().await.context("an apply")?;
    let applies = count / started.elapsed().as_secs_f64();

    let policies = Api::<EgressPolicy>::namespaced(client.clone(), NAMESPACE);
    let started = Instant::now();
    let writes = stream::iter(rest).map(async |body| {
        progress.one();
        let uid = json!({"op": "test", "path": "/metadata/uid", "value": body.policy.uid()});
        let patch = json!([uid, {"op": "add", "path": "/status", "value": body.status}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).map_err(kube::Error::SerdeError)?);
        policies.patch_status(&body.policy.name_any(), &PatchParams::default(), &patch).await.map(drop)
    });
    writes.buffer_unordered(AT_ONCE).try_collect::<()>().await.context("a status")?;
    let statuses = count / started.elapsed().as_secs_f64();
    progress.done();
    eprintln!("the API server takes {creates:.0} creates, {applies:.0} applies, {statuses:.0} statuses a second");
    Ok(Ceiling { creates, applies, statuses })
}

/// What the controller would send for a policy of this size: its own core decides.
fn bodies(workload: &Workload, number: usize, stamp: &str) -> Result<Bodies> {
    let mut policy = workload.egress_policy(number % workload.size.policies);
    policy.metadata.name = Some(format!("policy-of-ceiling-{number}"));
    policy.metadata.namespace = Some(NAMESPACE.to_owned());
    let mut known = policy.clone();
    known.metadata.uid = Some(format!("00000000-0000-0000-0000-{number:012}"));
    known.metadata.generation = Some(1);

    let settings = Arc::new(Settings::default());
    let guard = GuardRail::default();
    let families = egress_domain::answer::Families { v4: true, v6: false };
    let dns = vec![ClusterFacts::seed_dns_rule()];
    let cluster = Arc::new(ClusterFacts { dns, guard, families, domain: "cluster.local".parse()? });
    let validated = Arc::new(ValidatedPolicy::parse(&known, &settings));
    let mut now = Now { instant: time::Instant(1_000), unix: UnixTime(1_763_700_000) };
    let context = Context { settings, cluster };
    let (mut machine, mut effects) = Machine::new(context, validated, None, &known, Standing::Normal, usize::MAX, now);
    let hosts = workload.hosts_of(number % workload.size.policies);
    let mut objects = Vec::new();
    let mut status = None;
    for changes in 0..2 {
        for host in hosts {
            let addresses = workload.answer(*host, changes).into();
            let outcome = Outcome::Answer { kind: AnswerKind::Positive, addresses, elsewhere: Arc::new([]) };
            let host: Fqdn = Workload::host(*host).parse()?;
            let answer = Resolution { host, family: Family::V4, outcome, settled: true };
            effects.extend(machine.step(Input::Resolution(answer), now));
        }
        now = now + Duration::from_secs(60);
        effects.extend(machine.step(Input::Tick, now));
        // Every write is answered as by an API server that takes it.
        let mut last = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Write { seq, request: WriteRequest::Create(object) | WriteRequest::Apply(object), .. } => {
                    last = Some((seq, object));
                }
                Effect::Status(wanted) => status = Some(wanted),
                _ => {}
            }
        }
        let (seq, mut object) = last.context("the core asks for no write")?;
        objects.push((*object).clone());
        object.metadata.uid.get_or_insert_with(|| format!("np-{number}"));
        object.metadata.resource_version = Some((changes + 1).to_string());
        effects.extend(machine.step(Input::Outcome { seq, outcome: WriteOutcome::Written(Some(object)) }, now));
        now = now + Duration::from_secs(60);
        effects.extend(machine.step(Input::Tick, now));
    }
    for effect in effects {
        if let Effect::Status(wanted) = effect {
            status = Some(wanted);
        }
    }
    let mut status = json!(status.context("the core asks for no status")?);
    status["fence"] = json!(stamp);
    let mut objects = objects.into_iter().map(|mut object| {
        object.metadata.annotations.get_or_insert_default().insert(FENCE_ANNOTATION.to_owned(), stamp.to_owned());
        object.metadata.uid = None;
        object.metadata.resource_version = None;
        object
    });
    let (create, apply) = (objects.next().context("a create")?, objects.next().context("an apply")?);
    Ok(Bodies { policy, create, apply, status })
}
