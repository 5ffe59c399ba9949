//! The watches that feed the router.

use std::future::Future;
use std::time::Duration;

use egress_domain::api::{EgressPolicy, FIELD_MANAGER, MANAGED_BY_LABEL};
use egress_domain::object::DEFAULT_DENY;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client};
use ractor::RpcReplyPort;
use tokio_util::task::AbortOnDropHandle;

use crate::actors::router::{RouterMsg, RouterRef};
use crate::k8s::watch::{WatchEvent, Watched, watch};
use crate::telemetry::metrics::watches::WatchMetrics;

/// Objects of one page of a list: what is not ours is dropped page by page.
const PAGE: u32 = 250;

/// Starts every watch; dropping what is returned ends them.
pub(super) fn start(client: &Client, router: &RouterRef, metrics: &WatchMetrics) -> Vec<AbortOnDropHandle<()>> {
    let paged = watcher::Config::default().page_size(PAGE);
    let ours = paged.clone().labels(&format!("{MANAGED_BY_LABEL}={FIELD_MANAGER}"));
    let denies = paged.clone().fields(&format!("metadata.name={DEFAULT_DENY}"));
    let all = paged;
    let spawn = |task| AbortOnDropHandle::new(task);
    vec![
        spawn(tokio::spawn(one(
            Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
            all.clone(),
            "namespaces",
            router,
            metrics,
            RouterMsg::Namespaces,
        ))),
        spawn(tokio::spawn(one(
            Api::<PartialObjectMeta<NetworkPolicy>>::all(client.clone()),
            denies,
            "default-denies",
            router,
            metrics,
            RouterMsg::DefaultDenies,
        ))),
        spawn(tokio::spawn(one(
            Api::<NetworkPolicy>::all(client.clone()),
            ours,
            "networkpolicies",
            router,
            metrics,
            RouterMsg::NetworkPolicies,
        ))),
        spawn(tokio::spawn(one(
            Api::<DeserializeGuard<EgressPolicy>>::all(client.clone()),
            all,
            "egresspolicies",
            router,
            metrics,
            RouterMsg::Policies,
        ))),
    ]
}

/// One watch, which waits for the router after each event: at most one is outstanding.
fn one<K: Watched<Object: Send>>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    router: &RouterRef,
    metrics: &WatchMetrics,
    message: fn(WatchEvent<K::Object>, RpcReplyPort<()>) -> RouterMsg,
) -> impl Future<Output = ()> + Send + use<K> {
    let (router, metrics) = (router.clone(), metrics.clone());
    async move {
        let deliver = |event| {
            let router = router.clone();
            async move { router.call(|reply| message(event, reply), None).await.is_ok_and(|answer| answer.is_success()) }
        };
        // Nothing may ever change; the client gives up a connection without a byte after five minutes.
        watch(api, config, what, metrics, || Duration::MAX, deliver).await;
    }
}
