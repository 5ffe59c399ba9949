//! The watch of the cluster, against a real API server.
//!
//! The facts are of the whole cluster, and the tests share one: each looks only at what it changes itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use egress_controller::k8s::cluster::{Args, ClusterWatch, DEFAULT_UNAVAILABLE_GRACE, watch_cluster};
use egress_controller::server::{Liveness, Readiness};
use egress_controller::telemetry::metrics::cluster::ClusterMetrics;
use egress_controller::telemetry::metrics::watches::WatchMetrics;
use egress_domain::cluster::facts::ClusterFlags;
use egress_domain::cluster::{Cluster, dns_ports};
use egress_domain::fqdn::Fqdn;
use egress_domain::guard::Verdict;
use egress_testbed::ControlPlane;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Bounds what takes a fraction of a second on an idle machine.
const SOON: Duration = Duration::from_secs(30);
/// A loop may be silent for so long on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
/// Of the DNS Service, inside the testbed's Service CIDR.
const CLUSTER_IP: &str = "10.96.0.10";

struct Watched {
    watch: ClusterWatch,
    readiness: Readiness,
    registry: Registry,
}

async fn watched(client: Client, unavailable_grace: Duration) -> Result<Watched> {
    let (readiness, mut registry) = (Readiness::default(), Registry::default());
    let args = Args {
        client,
        flags: ClusterFlags {
            dns_egress: "auto".parse()?,
            ip_families: "auto".parse()?,
            deny_answer_cidrs: Vec::new(),
            cluster_domain: Fqdn::parse("cluster.local")?,
        },
        nameservers: vec!["169.254.20.10".parse()?],
        unavailable_grace,
        ready: readiness.handle("cluster"),
        heartbeat: Liveness::default().heartbeat("cluster", BOUND),
        metrics: ClusterMetrics::register(&mut registry),
        watch_metrics: WatchMetrics::register(&mut registry),
    };
    let watch = timeout(SOON, watch_cluster(args)).await.context("the cluster is not known in time")??;
    Ok(Watched { watch, readiness, registry })
}

async fn watched_by_admin() -> Result<(Client, Watched)> {
    let client = ControlPlane::shared().await.client();
    let watched = watched(client.clone(), DEFAULT_UNAVAILABLE_GRACE).await?;
    Ok((client, watched))
}

impl Watched {
    async fn until_cluster(&mut self, what: &str, holds: impl Fn(&Cluster) -> bool) -> Result<Arc<Cluster>> {
        let cluster = timeout(SOON, self.watch.cluster.wait_for(|cluster| holds(cluster))).await;
        Ok(cluster.with_context(|| what.to_owned())??.clone())
    }

    async fn until_servers(&mut self, expected: &[&str]) -> Result<()> {
        let expected: Vec<SocketAddr> = expected.iter().map(|server| server.parse()).collect::<Result<_, _>>()?;
        let servers = timeout(SOON, self.watch.servers.wait_for(|servers| *servers == expected)).await;
        servers.with_context(|| format!("the servers are not {expected:?}"))??;
        Ok(())
    }

    async fn until_verdict(&mut self, address: &str, verdict: Verdict) -> Result<()> {
        let address = address.parse()?;
        self.until_cluster(&format!("{address} is not {verdict:?}"), |cluster| cluster.guard.judge(address) == verdict)
            .await
            .map(drop)
    }

    /// Which ports are open towards the DNS namespaces.
    async fn until_target_ports(&mut self, ports: &[u16]) -> Result<()> {
        let expected = dns_ports(ports.iter().copied());
        self.until_cluster(&format!("target ports are not {ports:?}"), |cluster| {
            Some(&cluster.dns[0].ports) == expected.as_ref()
        })
        .await
        .map(drop)
    }
}

fn blocks(cluster: &Cluster) -> Vec<String> {
    cluster.dns.iter().flat_map(|rule| &rule.blocks).map(ToString::to_string).collect()
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// A slice of kube-dns: one endpoint per address, ready or not.
fn slice(name: &str, port: u16, endpoints: &[(&str, bool)]) -> Value {
    let endpoints: Vec<Value> =
        endpoints.iter().map(|(ip, ready)| json!({"addresses": [ip], "conditions": {"ready": ready}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "dns", "port": port, "protocol": "UDP"}, {"name": "dns-tcp", "port": port, "protocol": "TCP"}],
    })
}

#[tokio::test]
async fn service_cidrs_are_known_from_the_start_and_new_ones_are_seen() -> Result<()> {
    let (client, mut watched) = watched_by_admin().await?;
    assert!(watched.readiness.missing().is_empty());
    let first = watched.watch.cluster.borrow_and_update().clone();
    assert_eq!(first.guard.judge("10.96.0.1".parse()?), Verdict::ClusterLocal);
    assert_eq!(first.guard.judge("10.200.0.1".parse()?), Verdict::Fine);
    let added = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}});
    create::<ServiceCIDR>(&Api::all(client), added).await?;
    watched.until_verdict("10.200.0.1", Verdict::ClusterLocal).await
}

#[tokio::test]
async fn a_node_guards_its_addresses_and_pods_for_as_long_as_it_exists() -> Result<()> {
    let (client, mut watched) = watched_by_admin().await?;
    let nodes = Api::<Node>::all(client);
    create(
        &nodes,
        json!({"metadata": {"name": "worker"}, "spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}}),
    )
    .await?;
    watched.until_verdict("10.244.7.9", Verdict::Guarded).await?;
    let status = json!({"status": {"addresses": [
        {"type": "InternalIP", "address": "192.0.2.10"}, {"type": "ExternalIP", "address": "203.0.113.10"},
        {"type": "Hostname", "address": "worker"},
    ]}});
    nodes.patch_status("worker", &PatchParams::default(), &Patch::Merge(&status)).await?;
    watched.until_verdict("192.0.2.10", Verdict::Guarded).await?;
    watched.until_verdict("203.0.113.10", Verdict::Guarded).await?;
    nodes.delete("worker", &DeleteParams::default()).await?;
    watched.until_verdict("192.0.2.10", Verdict::Fine).await?;
    watched.until_verdict("10.244.7.9", Verdict::Fine).await
}

#[tokio::test]
async fn endpoint_slices_of_the_dns_service_are_the_servers_and_the_target_ports() -> Result<()> {
    let (client, mut watched) = watched_by_admin().await?;
    let services = Api::<Service>::namespaced(client.clone(), "kube-system");
    let slices = Api::<EndpointSlice>::namespaced(client, "kube-system");
    // The slice may come before its Service.
    create(&slices, slice("kube-dns-a", 5353, &[("192.0.2.53", true), ("192.0.2.54", false)])).await?;
    let ports =
        json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
    let service = json!({
        "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": CLUSTER_IP, "ports": ports},
    });
    create(&services, service).await?;
    watched.until_servers(&["192.0.2.53:5353"]).await?;
    watched.until_target_ports(&[53, 5353]).await?;
    let cluster = watched.watch.cluster.borrow_and_update().clone();
    assert_eq!(blocks(&cluster), ["10.96.0.10/32", "169.254.20.10/32"]);

    create(&slices, slice("kube-dns-b", 1053, &[("192.0.2.55", true)])).await?;
    watched.until_servers(&["192.0.2.53:5353", "192.0.2.55:1053"]).await?;
    let ready = slice("kube-dns-a", 5353, &[("192.0.2.53", true), ("192.0.2.54", true)]);
    slices.patch("kube-dns-a", &PatchParams::apply("test").force(), &Patch::Apply(&ready)).await?;
    watched.until_servers(&["192.0.2.53:5353", "192.0.2.54:5353", "192.0.2.55:1053"]).await?;

    slices.delete("kube-dns-a", &DeleteParams::default()).await?;
    watched.until_servers(&["192.0.2.55:1053"]).await?;
    watched.until_target_ports(&[53, 1053]).await?;
    services.delete("kube-dns", &DeleteParams::default()).await?;
    watched.until_servers(&[]).await?;
    watched.until_target_ports(&[53]).await?;
    watched.until_cluster("the ClusterIP is still open", |cluster| blocks(cluster) == ["169.254.20.10/32"]).await?;
    Ok(())
}

#[tokio::test]
async fn the_namespace_of_openshift_is_opened_when_it_appears() -> Result<()> {
    let (_, mut watched) = watched_by_admin().await?;
    assert_eq!(watched.watch.cluster.borrow().dns[0].namespaces, ["kube-system"]);
    ControlPlane::shared().await.create_namespace("openshift-dns").await?;
    let namespaces = ["kube-system", "openshift-dns"];
    watched.until_cluster("not opened", |cluster| cluster.dns[0].namespaces == namespaces).await?;
    Ok(())
}

#[tokio::test]
async fn without_any_access_the_watch_begins_after_the_grace_and_says_so() -> Result<()> {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.unique_namespace("forbidden").await?;
    let token = control_plane.pod_token(&namespace, "replica", "nobody").await?;
    let watched = watched(control_plane.client_for_token(&token), Duration::ZERO).await?;
    let cluster = watched.watch.cluster.borrow().clone();
    assert_eq!(cluster.guard.judge("10.96.0.1".parse()?), Verdict::Fine);
    assert_eq!(cluster.dns[0], Cluster::seed_dns_rule());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &watched.registry)?;
    for resource in ["servicecidrs", "nodes", "kube-system/services", "kube-system/endpointslices", "namespaces"] {
        let line = format!("cluster_source_unavailable{{resource=\"{resource}\"}} 1");
        assert!(text.contains(&line), "{line} in {text}");
    }
    Ok(())
}
