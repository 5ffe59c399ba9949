//! How gained namespaces are read.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use egress_controller::k8s::client::request_client;
use egress_controller::k8s::load::{Floor, Loader, Objects};
use egress_testbed::control_plane::Trust;
use egress_testbed::proxy::{FaultProxy, Rule, Verb};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use crate::crd::served;
use crate::writer::bed::{PATIENT, network_policy};

/// A namespace with one NetworkPolicy, and who reads it.
struct Bed {
    loader: Loader,
    proxy: FaultProxy,
    namespace: Arc<str>,
    /// resourceVersion of the NetworkPolicy.
    version: u64,
}

impl Bed {
    async fn new() -> Result<Self> {
        let plane = served().await;
        let proxy = FaultProxy::before(plane).await?;
        let config = plane.config_for(&proxy.url(), plane.admin_token(), Trust::ControlPlane)?;
        let namespace: Arc<str> = plane.unique_namespace("load").await?.into();
        let api = Api::<NetworkPolicy>::namespaced(plane.client(), &namespace);
        let created = api.create(&PostParams::default(), &network_policy(&namespace, "web")).await?;
        let version = created.resource_version().unwrap_or_default().parse()?;
        Ok(Self { loader: Loader::new(request_client(config, PATIENT)?), proxy, namespace, version })
    }

    async fn read(&self, newest: Floor) -> Result<Objects> {
        let mut loaded = self.loader.load(vec![Arc::clone(&self.namespace)], newest).await?;
        loaded.namespaces.remove(&self.namespace).context("the namespace was read")
    }

    fn expect_read(&self, objects: &Objects) {
        let names: Vec<String> = objects.network_policies.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["egress-web"]);
        assert!(objects.floor.network_policies >= self.version, "{:?}", objects.floor);
    }
}

#[tokio::test]
async fn what_was_stored_before_the_newest_revision_was_asked_for_is_read() -> Result<()> {
    let bed = Bed::new().await?;
    let newest = bed.loader.newest().await?;
    assert!(newest.network_policies >= bed.version, "{newest:?}");
    bed.expect_read(&bed.read(newest).await?);
    Ok(())
}

#[tokio::test]
async fn a_cache_that_is_not_there_yet_is_passed_by() -> Result<()> {
    let bed = Bed::new().await?;
    let newest = bed.loader.newest().await?;
    let behind = Rule::status(504, "Timeout").verb(Verb::List).resource("networkpolicies").namespace(&bed.namespace);
    let behind = bed.proxy.inject(behind.times(1));
    bed.expect_read(&bed.read(newest).await?);
    assert_eq!(bed.proxy.hits(behind), 1);
    Ok(())
}
