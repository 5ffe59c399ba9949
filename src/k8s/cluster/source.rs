//! Where facts about the cluster come from: one watch per resource and namespace.

use std::fmt::Debug;

use egress_domain::cluster::facts::{Fact, KUBE_SYSTEM, OPENSHIFT_DNS};
use egress_domain::cluster::objects;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::k8s::backoff::watch_backoff;
use crate::telemetry::metrics::watches::WatchMetrics;

/// Status codes that last until an administrator acts: not permitted, and not served (by a server before 1.33).
const UNAVAILABLE: [u16; 2] = [403, 404];

/// One watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    ServiceCidrs,
    Nodes,
    Services,
    Slices,
    OpenshiftNamespace,
    OpenshiftServices,
    OpenshiftSlices,
}

impl Source {
    /// Those that every cluster has.
    pub(super) const AT_START: [Self; 5] =
        [Self::ServiceCidrs, Self::Nodes, Self::Services, Self::Slices, Self::OpenshiftNamespace];
    /// Those that begin when the namespace is seen: elsewhere nobody grants access to it.
    pub(super) const OF_OPENSHIFT: [Self; 2] = [Self::OpenshiftServices, Self::OpenshiftSlices];

    /// Its label in metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ServiceCidrs => "servicecidrs",
            Self::Nodes => "nodes",
            Self::Services => "kube-system/services",
            Self::Slices => "kube-system/endpointslices",
            Self::OpenshiftNamespace => "namespaces",
            Self::OpenshiftServices => "openshift-dns/services",
            Self::OpenshiftSlices => "openshift-dns/endpointslices",
        }
    }
}

/// What a source tells; objects go by their names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A complete list begins.
    Listing,
    /// The object tells this, or nothing that matters.
    Says(String, Option<Fact>),
    /// The object is there but cannot be read: what it said before holds.
    Unreadable(String),
    /// The object is gone.
    Gone(String),
    /// The list is complete.
    Listed,
    /// Forbidden, or not served.
    Unavailable(String),
    /// The connection, or the server, failed; the watch goes on by itself.
    Lost(String),
}

/// The changes of one or more sources, for ever.
pub(super) type Changes = BoxStream<'static, (Source, Change)>;

/// Opens the watch of a source.
pub(super) fn open(client: &Client, source: Source, metrics: &WatchMetrics) -> Changes {
    let (client, all) = (client.clone(), watcher::Config::default());
    let of_services = all.clone().labels(objects::SERVICE_NAME_LABEL);
    let metrics = metrics.clone();
    match source {
        Source::ServiceCidrs => changes(source, Api::all(client), all, objects::service_cidr, metrics),
        Source::Nodes => changes(source, Api::all(client), all, objects::node, metrics),
        Source::Services => changes(source, Api::namespaced(client, KUBE_SYSTEM), all, objects::dns_service, metrics),
        Source::Slices => changes(source, Api::namespaced(client, KUBE_SYSTEM), of_services, objects::slice, metrics),
        Source::OpenshiftNamespace => {
            let one = all.fields(&format!("metadata.name={OPENSHIFT_DNS}"));
            changes(source, Api::all(client), one, |_: &Namespace| Some(Fact::OpenshiftDns), metrics)
        }
        Source::OpenshiftServices => {
            changes(source, Api::namespaced(client, OPENSHIFT_DNS), all, objects::dns_service, metrics)
        }
        Source::OpenshiftSlices => {
            changes(source, Api::namespaced(client, OPENSHIFT_DNS), of_services, objects::slice, metrics)
        }
    }
}

/// Objects are reduced to facts as they come off the wire, so that thousands of Nodes with their images are never held.
fn changes<K>(
    source: Source,
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    read: fn(&K) -> Option<Fact>,
    metrics: WatchMetrics,
) -> Changes
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let changes = watcher(api, config).backoff(watch_backoff()).map(move |event| {
        let change = change(event, read);
        match &change {
            Change::Unavailable(_) | Change::Lost(_) => metrics.error(source.name()),
            Change::Unreadable(_) => metrics.undecodable(source.name()),
            _ => metrics.event(source.name()),
        }
        (source, change)
    });
    changes.boxed()
}

fn change<K>(event: Result<watcher::Event<DeserializeGuard<K>>, watcher::Error>, read: fn(&K) -> Option<Fact>) -> Change
where
    K: Resource<DynamicType = ()>,
{
    match event {
        Ok(watcher::Event::Init) => Change::Listing,
        Ok(watcher::Event::InitDone) => Change::Listed,
        Ok(watcher::Event::Delete(object)) => Change::Gone(object.name_any()),
        Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
            let name = object.name_any();
            match &object.0 {
                Ok(object) => Change::Says(name, read(object)),
                Err(_) => Change::Unreadable(name),
            }
        }
        Err(error) => match status(&error) {
            Some(status) if UNAVAILABLE.contains(&status.code) => Change::Unavailable(error.to_string()),
            _ => Change::Lost(error.to_string()),
        },
    }
}

fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    use kube::Error::Api;
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(Api(status))
        | WatchStartFailed(Api(status))
        | WatchFailed(Api(status))
        | WatchError(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::networking::v1::ServiceCIDR;
    use kube::core::Status;
    use serde_json::{Value, json};

    #[track_caller]
    fn check_error(code: u16, is_unavailable: bool) {
        let status = || Status::failure("no", "Reason").with_code(code).boxed();
        let listed = watcher::Error::InitialListFailed(kube::Error::Api(status()));
        let opened = watcher::Error::WatchStartFailed(kube::Error::Api(status()));
        for error in [listed, opened, watcher::Error::WatchError(status())] {
            let told = error.to_string();
            let change = change(Err(error), objects::service_cidr);
            assert_eq!(change, if is_unavailable { Change::Unavailable(told) } else { Change::Lost(told) }, "{code}");
        }
    }

    fn guarded(object: Value) -> DeserializeGuard<ServiceCIDR> {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn forbidden_and_not_served_is_unavailable_and_everything_else_is_lost() {
        check_error(403, true);
        check_error(404, true);
        for code in [401, 410, 429, 500, 503] {
            check_error(code, false);
        }
    }

    #[test]
    fn an_object_says_its_fact_and_an_undecodable_one_is_told_apart() {
        let good = guarded(json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.0/16"]}}));
        let bad = guarded(json!({"metadata": {"name": "b"}, "spec": {"cidrs": 7}}));
        let said = Fact::ServiceCidr(vec!["10.96.0.0/16".parse().unwrap()]);
        let read = objects::service_cidr;
        assert_eq!(change(Ok(watcher::Event::Apply(good.clone())), read), Change::Says("a".to_owned(), Some(said)));
        assert_eq!(change(Ok(watcher::Event::InitApply(bad.clone())), read), Change::Unreadable("b".to_owned()));
        assert_eq!(change(Ok(watcher::Event::Delete(bad)), read), Change::Gone("b".to_owned()));
        assert_eq!(change(Ok(watcher::Event::Delete(good)), read), Change::Gone("a".to_owned()));
    }
}
