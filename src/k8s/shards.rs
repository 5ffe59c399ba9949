//! Leases and the shard table: the requests of the shards actor, on a client of its own.
//!
//! * Every request has a time-out; a connection whose request timed out is not used again.
//! * Every read is consistent (no resourceVersion): what it says was true after it was sent.
//! * A Lease is renewed by a merge patch without a version, which undoes whatever somebody wrote into it. The API server
//!   refuses a PUT without one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use egress_domain::api::{
    EgressShardTable, FENCE_ANNOTATION, FIELD_MANAGER, MANAGED_BY_LABEL, SHARD_TABLE, is_fence_refusal,
};
use egress_domain::shard::member::{CasAnswer, ProbeAnswer, TableRead};
use egress_domain::shard::observe::Renewal;
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::table::{Incarnation, Snapshot, Table};
use egress_domain::shard::timing::{DEFAULT_LEASE, Timing};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

/// Value of the label that all our Leases carry, for the watch and for people.
pub const COMPONENT: &str = "egress-controller-member";
/// Label of our Leases.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Name of the NetworkPolicy of dry runs; it is never stored.
const PROBE_NAME: &str = "egress-fence-probe";
/// What the API server says when the parameter of an admission policy is missing.
const NO_TABLE: &str = "no params found";
/// A stamp that no table names: shard 0 at epoch 0 is nobody's.
const WRONG_STAMP: &str = "0/0";

/// Who we are to the API server.
#[derive(Clone, Debug)]
pub struct Place {
    /// Namespace of the Leases: the controller's own.
    pub namespace: String,
    /// Installation that the table must belong to.
    pub installation: String,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Uid of the pod, which owns the Lease; empty outside a pod.
    pub uid: Arc<str>,
}

/// Talks to the API server about shards. Cheap to clone.
#[derive(Clone)]
pub struct ShardClient {
    client: Client,
    place: Arc<Place>,
    /// The life that wrote the Lease last, and the Lease's uid.
    written: Arc<Mutex<Option<(u32, String)>>>,
    /// Lease duration of the table, in milliseconds; 0 until it is known.
    lease_millis: Arc<AtomicU64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The API server said no, or could not be reached.
    #[error(transparent)]
    Failed(#[from] kube::Error),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The Lease that this life wrote before has gone, or it is not known whether its first one was stored.
    #[error("the Lease of this replica is not there")]
    LeaseLost,
}

impl ShardClient {
    /// `client` must not retry, and must not be used for anything else.
    pub fn new(client: Client, place: Place) -> Self {
        Self { client, place: Arc::new(place), written: Arc::default(), lease_millis: Arc::default() }
    }

    /// The watch of our Leases must not be silent for longer: it shows the renewals of this replica, too.
    pub fn longest_silence(&self) -> Duration {
        let lease = Duration::from_millis(self.lease_millis.load(Ordering::Relaxed));
        let known = (!lease.is_zero()).then_some(lease);
        Timing { lease: known.unwrap_or(DEFAULT_LEASE) }.longest_silence()
    }

    /// A renewal: writes the Lease, then reads the table. The first of a life makes the Lease where there is none; the
    /// others carry its uid, so that one that was deleted is not made again.
    ///
    /// # Errors
    /// When either fails; the Lease may have been written.
    pub async fn renew(&self, incarnation: &Incarnation, timing: Timing) -> Result<TableRead, NoAnswer> {
        let mut lease = self.lease(incarnation, timing);
        let name = lease.name_any();
        let known = self.written().clone().filter(|(life, _)| *life == incarnation.life);
        lease.metadata.uid = known.as_ref().map(|(_, uid)| uid.clone());
        let (leases, patch) = (self.leases(), Patch::Merge(&lease));
        let manager = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = within(timing.renew_timeout(), leases.patch(&name, &manager, &patch)).await;
        let written = match written {
            // Absent, or another one of this name.
            Err(NoAnswer::Failed(kube::Error::Api(status))) if [404, 409, 422].contains(&status.code) => match known {
                Some(_) => return Err(NoAnswer::LeaseLost),
                None => {
                    let created = within(timing.renew_timeout(), leases.create(&params(), &lease)).await;
                    created.map_err(|_| NoAnswer::LeaseLost)?
                }
            },
            // Whether it was stored is not known: a second attempt could make one that was deleted meanwhile.
            Err(_) if known.is_none() => return Err(NoAnswer::LeaseLost),
            written => written?,
        };
        *self.written() = Some((incarnation.life, written.uid().unwrap_or_default()));
        let read = self.read_table(timing.renew_timeout()).await?;
        if let TableRead::Found(Snapshot { table, .. }) = &read {
            self.lease_millis.store(table.lease.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        Ok(read)
    }

    fn written(&self) -> MutexGuard<'_, Option<(u32, String)>> {
        // Nothing panics while it holds the lock.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the table.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn read_table(&self, limit: Duration) -> Result<TableRead, NoAnswer> {
        let found = within(limit, self.tables().get_opt(SHARD_TABLE)).await?;
        Ok(found.map_or(TableRead::Missing, |object| self.table_of(&object)))
    }

    /// Makes the table.
    pub async fn create_table(&self, table: &Table, limit: Duration) -> CasAnswer {
        let object = EgressShardTable::new(SHARD_TABLE, table.to_spec());
        self.stored(within(limit, self.tables().create(&params(), &object)).await)
    }

    /// Replaces the table if it is still the one that was read.
    pub async fn replace_table(&self, version: u64, uid: &str, table: &Table, limit: Duration) -> CasAnswer {
        let mut object = EgressShardTable::new(SHARD_TABLE, table.to_spec());
        object.metadata.resource_version = Some(version.to_string());
        object.metadata.uid = Some(uid.to_owned());
        self.stored(within(limit, self.tables().replace(SHARD_TABLE, &params(), &object)).await)
    }

    /// Reads a Lease; none where it does not exist.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn read_lease(&self, name: &str, limit: Duration) -> Result<Option<Renewal>, NoAnswer> {
        Ok(within(limit, self.leases().get_opt(name)).await?.as_ref().map(renewal_of))
    }

    /// Deletes our Lease; one that has gone is fine, and one that stays is collected with its pod.
    pub async fn delete_lease(&self, name: &str, limit: Duration) {
        if let Err(error) = within(limit, self.leases().delete(name, &DeleteParams::default())).await {
            tracing::debug!(%error, lease = name, "the Lease was not deleted");
        }
    }

    /// Asks whether the fence takes this stamp, by a dry run.
    pub async fn probe(&self, stamp: Stamp, limit: Duration) -> ProbeAnswer {
        match self.dry_run(&stamp.to_string(), limit).await {
            Ok(()) => ProbeAnswer::Accepted,
            Err(NoAnswer::Failed(kube::Error::Api(status))) if is_fence(&status.message) => ProbeAnswer::Fenced,
            Err(NoAnswer::Failed(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                // It never came to the fence: that is not the fence's answer, and no reason to stand still.
                tracing::warn!(message = status.message, "the dry run that probes the fence is refused");
                ProbeAnswer::Accepted
            }
            Err(_) => ProbeAnswer::Unknown,
        }
    }

    /// Whether the API server refuses a wrong stamp; none when it cannot be told.
    pub async fn is_fenced(&self, limit: Duration) -> Option<bool> {
        match self.dry_run(WRONG_STAMP, limit).await {
            Ok(()) => Some(false),
            // Without a table every write is refused, also those of accounts that the fence does not look at.
            Err(NoAnswer::Failed(kube::Error::Api(status))) if status.message.contains(NO_TABLE) => None,
            Err(NoAnswer::Failed(kube::Error::Api(status))) => is_fence(&status.message).then_some(true),
            Err(_) => None,
        }
    }

    /// Tells about something that happened to this replica.
    pub async fn publish(&self, reason: &str, note: String, limit: Duration) {
        let Place { namespace, pod, uid, .. } = &*self.place;
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{pod}-")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Shards".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note),
            reason: Some(reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.to_string()),
                namespace: Some(namespace.clone()),
                uid: Some(uid.to_string()).filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(format!("platform.example.com/{FIELD_MANAGER}")),
            reporting_instance: Some(pod.chars().take(128).collect()),
            type_: Some("Normal".to_owned()),
            ..Event::default()
        };
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        if let Err(error) = within(limit, events.create(&params(), &event)).await {
            tracing::debug!(%error, reason, "an Event was not published");
        }
    }

    /// The Leases of all replicas.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.place.namespace)
    }

    fn tables(&self) -> Api<EgressShardTable> {
        Api::all(self.client.clone())
    }

    fn stored(&self, answer: Result<EgressShardTable, NoAnswer>) -> CasAnswer {
        match answer {
            Ok(object) => match self.table_of(&object) {
                TableRead::Found(snapshot) => CasAnswer::Stored(snapshot),
                // What was stored cannot be unusable: it was ours.
                TableRead::Missing | TableRead::Unusable(_) => CasAnswer::Unknown,
            },
            Err(NoAnswer::Failed(kube::Error::Api(status))) => match status.code {
                404 | 409 => CasAnswer::Conflict,
                429 | 500.. => CasAnswer::Unknown,
                _ => CasAnswer::Refused(status.message.clone()),
            },
            Err(_) => CasAnswer::Unknown,
        }
    }

    fn table_of(&self, object: &EgressShardTable) -> TableRead {
        let version = object.resource_version().and_then(|version| version.parse().ok());
        let Some(version) = version else {
            return TableRead::Unusable("the API server's resourceVersions are no numbers".to_owned());
        };
        match Table::parse(&object.spec, &self.place.installation) {
            Ok(table) => {
                let uid = object.uid().unwrap_or_default().into();
                TableRead::Found(Snapshot { uid, version, table: Arc::new(table) })
            }
            Err(why) => TableRead::Unusable(why.to_string()),
        }
    }

    fn lease(&self, incarnation: &Incarnation, timing: Timing) -> Lease {
        let Place { namespace, pod, uid, .. } = &*self.place;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.to_string(),
            uid: uid.to_string(),
            ..OwnerReference::default()
        };
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Lease {
            metadata: ObjectMeta {
                name: Some(incarnation.lease_name(pod)),
                namespace: Some(namespace.clone()),
                labels: Some([label(MANAGED_BY_LABEL, FIELD_MANAGER), label(COMPONENT_LABEL, COMPONENT)].into()),
                owner_references: (!uid.is_empty()).then(|| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(incarnation.to_string()),
                lease_duration_seconds: i32::try_from(timing.lease.as_secs()).ok(),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn dry_run(&self, stamp: &str, limit: Duration) -> Result<(), NoAnswer> {
        let namespace = &self.place.namespace;
        let object = NetworkPolicy {
            metadata: ObjectMeta {
                name: Some(PROBE_NAME.to_owned()),
                namespace: Some(namespace.clone()),
                // The fence looks at objects of ours only.
                labels: Some([(MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned())].into()),
                annotations: Some([(FENCE_ANNOTATION.to_owned(), stamp.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(NetworkPolicySpec {
                policy_types: Some(vec!["Egress".to_owned()]),
                ..NetworkPolicySpec::default()
            }),
        };
        let policies = Api::<NetworkPolicy>::namespaced(self.client.clone(), namespace);
        within(limit, policies.create(&PostParams { dry_run: true, ..params() }, &object)).await?;
        Ok(())
    }
}

/// The state of a Lease, for comparison.
pub fn renewal_of(lease: &Lease) -> Renewal {
    Renewal {
        uid: lease.uid().unwrap_or_default().into(),
        version: lease.resource_version().unwrap_or_default().into(),
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

async fn within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, NoAnswer> {
    Ok(timeout(limit, request).await.map_err(|_| NoAnswer::Timeout)??)
}

/// Whether a refusal is the fence's, by the name of its policy.
fn is_fence(message: &str) -> bool {
    is_fence_refusal(message).is_some()
}
