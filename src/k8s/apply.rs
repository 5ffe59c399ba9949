//! The only place that writes to the API server. Executes one [`WriteRequest`]; queueing and retrying are the writer's.
//!
//! * Every request has a time-out, here and, as `?timeout=`, at the server.
//! * Every request that changes something of a shard asks the gate right before it is sent, with the stamp that it was
//!   decided under. The removal of the kopf marks and Events are idempotent, and need no leave.
//! * Retry-After is read from the header: the server's own 429 is plain text without a Status.

mod body;
mod kopf;
mod reply;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use egress_domain::api::{EgressPolicy, EgressShardTable, FIELD_MANAGER, SHARD_TABLE};
use egress_domain::object::{DEFAULT_DENY, ObjectKey};
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::table::Entry;
use egress_domain::write::{WriteOutcome, WriteRequest};
use egress_domain::writes::{Transient, TransientKind};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::gate::Gate;
use reply::{Method, Reply};

/// Default of `--write-timeout-seconds`: a healthy API server needs milliseconds, one in trouble is not helped by a
/// second request while the first still waits.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the removal of the kopf marks starts again at once when somebody else changed the object meanwhile.
const KOPF_ATTEMPTS: usize = 3;

/// Executes writes. Cheap to clone.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    gate: Gate,
    timeout: RequestTimeout,
    events: body::Reporter,
}

/// A request as it is sent: bodies are JSON, so that thousands may wait.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// Create a NetworkPolicy.
    Create(Arc<[u8]>),
    /// Apply a NetworkPolicy that exists.
    Apply(Arc<[u8]>),
    /// Merge into a NetworkPolicy.
    Merge(Arc<[u8]>),
    /// Read a NetworkPolicy.
    Read,
    /// Delete exactly this version of a NetworkPolicy.
    Delete {
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
    },
    /// Patch the status of an EgressPolicy.
    Status(Arc<[u8]>),
    /// Take the Python operator's marks away.
    RemoveKopf,
    /// Create an Event.
    Event(Arc<[u8]>),
    /// A request that must not be sent, and why.
    Misuse(String),
}

/// Why a request has not brought what was wanted.
#[derive(Debug)]
enum Ended {
    /// Trying the same again is pointless.
    Final(WriteOutcome),
    /// It may succeed later.
    ForNow(Transient),
    /// The fence refuses it because the stored object carries a newer epoch than ours.
    Outstamped,
}

impl From<TransientKind> for Ended {
    fn from(kind: TransientKind) -> Self {
        Self::ForNow(kind.into())
    }
}

/// The longest wait for one request, which the lease duration of the shard table bounds. Clones are the same.
#[derive(Clone, Debug)]
pub struct RequestTimeout {
    wanted: Duration,
    millis: Arc<AtomicU64>,
}

impl RequestTimeout {
    /// So long at most.
    pub fn new(wanted: Duration) -> Self {
        let timeout = Self { wanted, millis: Arc::default() };
        timeout.bound(wanted);
        timeout
    }

    /// From now on no longer than this either.
    pub fn bound(&self, longest: Duration) {
        let millis = u64::try_from(self.wanted.min(longest).as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

impl Applier {
    /// `client` must not retry ([`super::client::request_client`]); `instance` names this process in Events.
    pub fn new(client: Client, gate: Gate, timeout: RequestTimeout, instance: &str) -> Self {
        Self { client, gate, timeout, events: body::Reporter::new(instance) }
    }

    /// The bodies of a request, with the stamp that it was decided under.
    pub fn prepare(&self, key: &ObjectKey, request: &WriteRequest, stamp: Option<Stamp>) -> Prepared {
        let text = stamp.map(|stamp| stamp.to_string());
        match (key, request) {
            (ObjectKey::NetworkPolicy(_) | ObjectKey::DefaultDeny(_), request) => match request {
                WriteRequest::Create(object) => Prepared::Create(json(&body::create(object, text))),
                // Without a uid an apply would create the object where it is absent.
                WriteRequest::Apply(object) if object.metadata.uid.is_none() => {
                    Prepared::Misuse("an apply needs metadata.uid".to_owned())
                }
                WriteRequest::Apply(object) => Prepared::Apply(json(&body::apply(object, text))),
                WriteRequest::RepairOwners(object) => Prepared::Merge(json(&body::owners(object, text))),
                WriteRequest::Read => Prepared::Read,
                WriteRequest::Delete { uid, resource_version } => {
                    Prepared::Delete { uid: uid.clone(), resource_version: resource_version.clone() }
                }
                request => Prepared::Misuse(format!("{request:?} is no request for a NetworkPolicy")),
            },
            (ObjectKey::Status(_), WriteRequest::Status { uid, status }) => {
                Prepared::Status(json(&body::status(uid, status, text)))
            }
            (ObjectKey::Metadata(_), WriteRequest::RemoveKopf) => Prepared::RemoveKopf,
            (ObjectKey::Event(policy, number), WriteRequest::Event(event)) => {
                Prepared::Event(json(&self.events.event(policy, *number, event)))
            }
            (key, request) => Prepared::Misuse(format!("{request:?} is no request for {key:?}")),
        }
    }

    /// Executes what was prepared, under the same stamp.
    ///
    /// # Errors
    /// A failure for the moment: the same request may be sent again, also when it may have been committed.
    pub async fn execute(
        &self,
        key: &ObjectKey,
        prepared: &Prepared,
        stamp: Option<Stamp>,
    ) -> Result<WriteOutcome, Transient> {
        let mut ended = self.perform(key, prepared, stamp).await;
        if let Err(Ended::Outstamped) = ended {
            ended = match self.restamp(key, stamp).await {
                Ok(()) => self.perform(key, prepared, stamp).await,
                Err(failed) => Err(failed),
            };
        }
        match ended {
            Ok(outcome) | Err(Ended::Final(outcome)) => Ok(outcome),
            Err(Ended::ForNow(transient)) => Err(transient),
            Err(Ended::Outstamped) => Err(TransientKind::Fenced.into()),
        }
    }

    async fn perform(&self, key: &ObjectKey, prepared: &Prepared, stamp: Option<Stamp>) -> Result<WriteOutcome, Ended> {
        match prepared {
            Prepared::Create(body) => self.change(key, Method::Create(body.clone()), stamp).await,
            Prepared::Apply(body) => self.change(key, Method::Apply(body.clone()), stamp).await,
            Prepared::Merge(body) => self.change(key, Method::Merge(body.clone()), stamp).await,
            Prepared::Read => match self.send::<NetworkPolicy>(key, Method::Read).await {
                Ok(found) => Ok(WriteOutcome::Read(Some(Box::new(parse(&found)?)))),
                Err(Ended::Final(WriteOutcome::Stale)) => Ok(WriteOutcome::Read(None)),
                Err(ended) => Err(ended),
            },
            Prepared::Delete { uid, resource_version } => self.delete(key, uid, resource_version, stamp).await,
            Prepared::Status(patch) => {
                self.permit(key, stamp)?;
                self.send::<EgressPolicy>(key, Method::StatusJson(patch.clone())).await?;
                Ok(WriteOutcome::Written(None))
            }
            Prepared::RemoveKopf => self.remove_kopf(key).await.map_err(given_up_without_rights),
            Prepared::Event(event) => match self.send::<Event>(key, Method::Create(event.clone())).await {
                // Its name is ours alone: an earlier attempt was committed.
                Ok(_) | Err(Ended::Final(WriteOutcome::AlreadyExists)) => Ok(WriteOutcome::Written(None)),
                Err(ended) => Err(given_up_without_rights(ended)),
            },
            Prepared::Misuse(message) => Err(misuse(message)),
        }
    }

    /// Changes a NetworkPolicy; gives what is stored afterwards.
    async fn change(&self, key: &ObjectKey, method: Method, stamp: Option<Stamp>) -> Result<WriteOutcome, Ended> {
        self.permit(key, stamp)?;
        decode(&self.send::<NetworkPolicy>(key, method).await?)
    }

    /// A delete carries no object, so the stamp goes into the stored one first.
    async fn delete(
        &self,
        key: &ObjectKey,
        uid: &str,
        resource_version: &str,
        stamp: Option<Stamp>,
    ) -> Result<WriteOutcome, Ended> {
        let mut resource_version = resource_version.to_owned();
        if let Some(text) = self.permit(key, stamp)? {
            let patch = body::stamp(uid, &resource_version, &text);
            let stamped = self.send::<NetworkPolicy>(key, Method::Merge(json(&patch))).await?;
            let stamped: NetworkPolicy = parse(&stamped)?;
            resource_version = stamped.metadata.resource_version.unwrap_or(resource_version);
            self.permit(key, stamp)?;
        }
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: Some(resource_version) };
        self.send::<NetworkPolicy>(key, Method::Delete(preconditions)).await?;
        Ok(WriteOutcome::Written(None))
    }

    /// Somebody wrote a stamp into the object that is newer than ours, or an earlier table's did. The object is read as
    /// it is, a consistent read of the table confirms that the epoch is the present one, and the stamp alone is replaced:
    /// the fence lets that pass.
    async fn restamp(&self, key: &ObjectKey, stamp: Option<Stamp>) -> Result<(), Ended> {
        let stored: NetworkPolicy = parse(&self.send::<NetworkPolicy>(key, Method::Read).await?)?;
        let (Some(uid), Some(version)) = (&stored.metadata.uid, &stored.metadata.resource_version) else {
            return Err(TransientKind::Interrupted.into());
        };
        // Else the newer stamp may be a new holder's, of whom neither gate nor this API server knows yet.
        self.confirm(stamp).await?;
        let Some(text) = self.permit(key, stamp)? else { return Err(TransientKind::Fenced.into()) };
        let patch = body::stamp(uid, version, &text);
        self.send::<NetworkPolicy>(key, Method::Merge(json(&patch))).await?;
        Ok(())
    }

    /// An epoch is given once, so one that is in the stored table is that of the gate's holder.
    async fn confirm(&self, stamp: Option<Stamp>) -> Result<(), Ended> {
        let read = Request::new(EgressShardTable::url_path(&(), None)).get(SHARD_TABLE, &GetParams::default());
        let table: EgressShardTable = match self.exchange(&Method::Read, read).await {
            Ok(found) => parse(&found)?,
            // There is no table any more.
            Err(Ended::Final(WriteOutcome::Stale)) => return Err(TransientKind::Fenced.into()),
            // It says nothing of the object.
            Err(Ended::Final(_)) => return Err(TransientKind::ServerError.into()),
            Err(ended) => return Err(ended),
        };
        let holds =
            |stamp: Stamp| Some(Entry::from(table.spec.shards.get(&stamp.shard.to_string())?).epoch == stamp.epoch);
        match stamp.and_then(holds) {
            Some(true) => Ok(()),
            _ => Err(TransientKind::Fenced.into()),
        }
    }

    async fn remove_kopf(&self, key: &ObjectKey) -> Result<WriteOutcome, Ended> {
        for _ in 0..KOPF_ATTEMPTS {
            let found = match self.send::<EgressPolicy>(key, Method::ReadMetadata).await {
                Ok(found) => parse::<PartialObjectMeta<EgressPolicy>>(&found)?,
                Err(Ended::Final(WriteOutcome::Stale)) => return Ok(WriteOutcome::Written(None)),
                Err(ended) => return Err(ended),
            };
            let Some(patch) = kopf::removal(&found.metadata) else { return Ok(WriteOutcome::Written(None)) };
            match self.send::<EgressPolicy>(key, Method::Merge(json(&patch))).await {
                Ok(_) => return Ok(WriteOutcome::Written(None)),
                // Somebody changed it, or it has gone: look again.
                Err(Ended::Final(WriteOutcome::Stale)) => {}
                Err(ended) => return Err(ended),
            }
        }
        Err(TransientKind::Conflict.into())
    }

    /// Leave to send the next request; gives the text of the stamp that it must carry.
    fn permit(&self, key: &ObjectKey, stamp: Option<Stamp>) -> Result<Option<String>, Ended> {
        match self.gate.permit(key, stamp) {
            Ok(()) => Ok(stamp.map(|stamp| stamp.to_string())),
            Err(_) => Err(Ended::Final(WriteOutcome::Fenced)),
        }
    }

    /// Sends one request about an object of kind `K`; gives the body of a success.
    async fn send<K: Resource<DynamicType = ()>>(&self, key: &ObjectKey, method: Method) -> Result<Vec<u8>, Ended> {
        let resource = Request::new(K::url_path(&(), Some(key.namespace())));
        let name = stored_name(key);
        let manager = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        // kube builds the head of a patch; its body is there already.
        let with = |built: Result<http::Request<Vec<u8>>, _>, body: &Arc<[u8]>| {
            built.map(|request| request.map(|_| body.to_vec()))
        };
        let built = match &method {
            Method::Create(body) => {
                let manager = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                resource.create(&manager, body.to_vec())
            }
            Method::Apply(body) => with(resource.patch(&name, &manager.force(), &Patch::Apply(())), body),
            Method::Merge(body) => with(resource.patch(&name, &manager, &Patch::Merge(())), body),
            Method::StatusJson(body) => {
                let empty = Patch::Json::<()>(serde_json::from_str("[]").map_err(|error| misuse(&error.to_string()))?);
                with(resource.patch_subresource("status", &name, &manager, &empty), body)
            }
            Method::Read => resource.get(&name, &GetParams::default()),
            Method::ReadMetadata => resource.get_metadata(&name, &GetParams::default()),
            Method::Delete(preconditions) => {
                let params = DeleteParams { preconditions: Some(preconditions.clone()), ..DeleteParams::default() };
                resource.delete(&name, &params)
            }
        };
        self.exchange(&method, built).await
    }

    /// Sends a request within the time-out, which the server is told as well; gives the body of a success.
    async fn exchange<E: std::fmt::Display>(
        &self,
        method: &Method,
        built: Result<http::Request<Vec<u8>>, E>,
    ) -> Result<Vec<u8>, Ended> {
        let mut request = built.map_err(|error| misuse(&error.to_string()))?;
        let timeout = self.timeout.get();
        let uri = with_timeout(&request.uri().to_string(), timeout);
        *request.uri_mut() = uri.parse().map_err(|error| misuse(&format!("{uri}: {error}")))?;

        let exchange = async {
            let response = self.client.send(request.map(Into::into)).await?;
            let code = response.status().as_u16();
            let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
            let body = response.into_body().collect_bytes().await?.to_vec();
            kube::Result::Ok(Reply { code, retry_after, body })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Err(_) => Err(TransientKind::Timeout.into()),
            Ok(Err(error)) => Err(reply::no_answer(&error).into()),
            Ok(Ok(reply)) => reply::judge(method, reply),
        }
    }
}

/// The server gives up when we do, so that nothing is committed long after we have stopped waiting.
fn with_timeout(uri: &str, timeout: Duration) -> String {
    let separator = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{uri}{separator}timeout={}ms", timeout.as_millis())
}

/// Name of the object in the API; an Event's own name is in its body.
fn stored_name(key: &ObjectKey) -> String {
    match key {
        ObjectKey::NetworkPolicy(policy) => policy.network_policy_name(),
        ObjectKey::DefaultDeny(_) => DEFAULT_DENY.to_owned(),
        ObjectKey::Status(policy) | ObjectKey::Metadata(policy) | ObjectKey::Event(policy, _) => {
            policy.name.to_string()
        }
    }
}

fn decode(body: &[u8]) -> Result<WriteOutcome, Ended> {
    Ok(WriteOutcome::Written(Some(Box::new(parse(body)?))))
}

/// A success that does not parse is a proxy's page or was cut short: what was committed is unknown.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Ended> {
    serde_json::from_slice(body).map_err(|_| TransientKind::Interrupted.into())
}

/// A request that must not be sent: a defect of ours, told to the policy rather than tried for ever.
fn misuse(message: &str) -> Ended {
    Ended::Final(WriteOutcome::Rejected(message.to_owned()))
}

/// What only tells or tidies up is not worth waiting for rights: thousands of Events would be asked for again and again.
fn given_up_without_rights(ended: Ended) -> Ended {
    match ended {
        Ended::ForNow(Transient { kind: TransientKind::Unauthorized, .. }) => {
            Ended::Final(WriteOutcome::Rejected("no right to do that".to_owned()))
        }
        ended => ended,
    }
}

/// JSON of one of our bodies, whose keys are all strings.
fn json(body: &impl Serialize) -> Arc<[u8]> {
    serde_json::to_vec(body).unwrap_or_default().into()
}
