//! Watches that survive: objects that do not decode are counted and skipped, a lost connection resumes, 410 lists
//! anew, errors back off, and one that is silent for longer than it can be is opened again.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use egress_domain::api::{EgressPolicy, EgressShardTable};
use egress_domain::object::PolicyKey;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::backoff::watch_backoff;
use crate::telemetry::metrics::watches::WatchMetrics;

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Namespace, or nothing.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// resourceVersion of what was seen of it, which numbers the revisions of all objects; 0 where it is no number.
    pub version: u64,
}

impl From<ObjectName> for PolicyKey {
    fn from(name: ObjectName) -> Self {
        PolicyKey::new(name.namespace, name.name)
    }
}

/// What a watch saw.
#[derive(Debug)]
pub enum WatchEvent<K> {
    /// A complete list begins: what is not seen until `Listed` has gone.
    Listing,
    /// An object as it is now.
    Seen(Box<K>),
    /// An object that exists but cannot be decoded.
    Undecodable(ObjectName),
    /// An object that was deleted, or left the selection.
    Gone(ObjectName),
    /// The list is complete.
    Listed,
}

/// A resource as it is read from the wire, and what becomes of it.
pub trait Watched: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {
    /// What is delivered.
    type Object;

    /// The object, or why it cannot be decoded.
    fn decode(self) -> Result<Self::Object, String>;
}

/// One bad object must not fail the whole list.
impl Watched for DeserializeGuard<EgressPolicy> {
    type Object = EgressPolicy;

    fn decode(self) -> Result<EgressPolicy, String> {
        self.0.map_err(|invalid| invalid.error)
    }
}

macro_rules! always_decodes {
    ($($type:ty),+) => {
        $(impl Watched for $type {
            type Object = Self;

            fn decode(self) -> Result<Self, String> {
                Ok(self)
            }
        })+
    };
}

// Types of the API server's own: what it stores decodes.
always_decodes!(
    NetworkPolicy,
    PartialObjectMeta<NetworkPolicy>,
    PartialObjectMeta<Namespace>,
    PartialObjectMeta<EgressShardTable>,
    Lease
);

/// Watches `api` for ever, one event outstanding at a time; ends when `deliver` says that nobody listens any more. One that has
/// neither an event nor an error for longer than `longest_silence` lists anew: its connection may be there on this side only.
pub async fn watch<K: Watched, F: Future<Output = bool>>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    metrics: WatchMetrics,
    longest_silence: impl Fn() -> Duration,
    deliver: impl Fn(WatchEvent<K::Object>) -> F,
) {
    loop {
        let stream = watcher(api.clone(), config.clone()).backoff(watch_backoff());
        pin_mut!(stream);
        while let Ok(next) = tokio::time::timeout(longest_silence(), stream.next()).await {
            let event = match next {
                Some(Ok(watcher::Event::Init)) => WatchEvent::Listing,
                Some(Ok(watcher::Event::InitDone)) => WatchEvent::Listed,
                Some(Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => {
                    decode(object, what, &metrics)
                }
                Some(Ok(watcher::Event::Delete(object))) => WatchEvent::Gone(name_of(&object)),
                Some(Err(error)) => {
                    metrics.error(what);
                    report(what, &error);
                    continue;
                }
                None => return,
            };
            metrics.event(what);
            if !deliver(event).await {
                return;
            }
        }
        metrics.error(what);
        tracing::warn!(what, "the watch has been silent for too long; it is opened again");
    }
}

fn decode<K: Watched>(object: K, what: &'static str, metrics: &WatchMetrics) -> WatchEvent<K::Object> {
    let name = name_of(&object);
    match object.decode() {
        Ok(object) => WatchEvent::Seen(Box::new(object)),
        Err(error) => {
            metrics.undecodable(what);
            let (namespace, object) = (&name.namespace, &name.name);
            tracing::warn!(what, namespace, object, error, "an object cannot be decoded; it is skipped");
            WatchEvent::Undecodable(name)
        }
    }
}

/// What it is called, and its version.
pub fn name_of(object: &impl Resource<DynamicType = ()>) -> ObjectName {
    ObjectName {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        version: version_of(object),
    }
}

/// resourceVersion as a number.
pub fn version_of(object: &impl Resource) -> u64 {
    revision(object.meta().resource_version.as_deref())
}

/// A resourceVersion as a number; 0 where it is none, which keeps a replica from joining in the first place.
pub fn revision(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn report(what: &'static str, error: &watcher::Error) {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            tracing::error!(
                what,
                "the API server does not know this resource; for egresspolicies run: egress-controller crd | kubectl apply -f -"
            );
        }
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403 => {
            tracing::error!(
                what,
                error = status.message,
                "the list is forbidden: the service account needs list and watch"
            );
        }
        _ => tracing::warn!(what, %error, "the watch was lost; it is opened again"),
    }
}
