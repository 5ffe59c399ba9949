//! A whole world for one test: a real etcd and kube-apiserver, a scripted DNS server, perhaps a fault proxy, and the
//! real binary as a process of its own.

mod controller;
pub mod many;
pub mod network;
mod recorder;
pub mod revisions;
pub mod rules;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use egress_domain::api::EgressPolicy;
use egress_domain::network_policy;
use egress_testbed::control_plane::{ControlPlane, Leased, Replica, Trust};
use egress_testbed::dns::{DnsServer, RecordType};
use egress_testbed::eventually;
use egress_testbed::proxy::FaultProxy;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

pub use controller::Controller;
pub use recorder::Recorder;

/// Long enough for a loaded machine. No test waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// TTL in seconds of what is looked up once: longer than [`PATIENCE`], so that no refresh does what a test waits for.
pub const LASTING_TTL: u32 = 600;

/// What a world is made of.
#[derive(Default)]
pub struct Options {
    /// Of a control plane that no other test has had or gets.
    pub controller_manager: bool,
    pub proxy: bool,
    pub flags: Vec<String>,
    /// Leave the controller to the test.
    pub without_controller: bool,
}

impl Options {
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.flags.push(format!("{name}={}", value.to_string()));
        self
    }
}

pub struct World {
    /// First, so that it ends first.
    pub controller: Option<Controller>,
    pub dns: DnsServer,
    pub proxy: Option<FaultProxy>,
    pub client: Client,
    /// Behind all that uses it: another test may have it next.
    pub control_plane: Leased,
    pub replica: Replica,
    flags: Vec<String>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        Self::start(options).await.expect("the world starts")
    }

    async fn start(options: Options) -> Result<Self> {
        let control_plane = match options.controller_manager {
            true => {
                let control_plane = ControlPlane::builder().controller_manager(true).start().await?;
                control_plane.install().await?;
                Leased::from(control_plane)
            }
            false => ControlPlane::lease().await?,
        };
        let replica = control_plane.replica("egress-controller-0").await?;
        let dns = DnsServer::start().await?;
        let proxy = match options.proxy {
            true => Some(FaultProxy::before(&control_plane).await?),
            false => None,
        };
        let client = control_plane.client();
        let mut world = Self { controller: None, dns, proxy, client, control_plane, replica, flags: options.flags };
        if !options.without_controller {
            world.start_controller().await;
        }
        Ok(world)
    }

    /// Starts the controller and waits until it has read everything.
    pub async fn start_controller(&mut self) {
        self.spawn_controller().await;
        self.controller().ready().await;
    }

    /// Starts the controller without waiting for anything but its listener.
    pub async fn spawn_controller(&mut self) {
        let url = self.proxy.as_ref().map_or(self.control_plane.url().to_owned(), FaultProxy::url);
        let kubeconfig = self.control_plane.kubeconfig_for(&url, &self.replica.token, Trust::ControlPlane);
        let file = self.control_plane.folder().join("controller.kubeconfig");
        std::fs::write(&file, kubeconfig).expect("a kubeconfig");
        let mut flags = vec![
            format!("--kubeconfig={}", file.display()),
            "--listen=127.0.0.1:0".to_owned(),
            "--log-format=json".to_owned(),
            "--fault-injection".to_owned(),
        ];
        flags.extend(self.replica.flags());
        let given = |name: &str| self.flags.iter().any(|flag| flag.starts_with(name));
        if !given("--dns-servers") {
            flags.push(format!("--dns-servers={}", self.dns.addr()));
        }
        if !given("--min-refresh-seconds") {
            flags.push("--min-refresh-seconds=1".to_owned());
        }
        if !given("--ip-families") {
            // The API server's Service CIDR is IPv4, which `auto` would follow.
            flags.push("--ip-families=dual".to_owned());
        }
        flags.extend(self.flags.clone());
        self.controller = Some(Controller::spawn(&flags));
        self.controller().listening().await;
    }

    pub fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("a controller")
    }

    pub fn proxy(&self) -> &FaultProxy {
        self.proxy.as_ref().expect("a proxy")
    }

    /// kill -9, and a new process.
    pub async fn restart_controller(&mut self) {
        self.kill_controller();
        self.start_controller().await;
    }

    pub fn kill_controller(&mut self) {
        self.controller = None;
    }

    /// A namespace of this test's own.
    pub async fn namespace(&self, prefix: &str) -> String {
        self.control_plane.unique_namespace(prefix).await.expect("a namespace")
    }

    pub fn policies(&self, namespace: &str) -> Api<EgressPolicy> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn network_policies(&self, namespace: &str) -> Api<NetworkPolicy> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates an EgressPolicy with this spec.
    pub async fn create_policy(&self, namespace: &str, name: &str, spec: Value) -> EgressPolicy {
        let object = serde_json::from_value(json!({
            "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec
        }));
        let object = object.expect("an EgressPolicy");
        self.policies(namespace).create(&PostParams::default(), &object).await.expect("the policy is accepted")
    }

    /// Replaces the spec of an EgressPolicy.
    pub async fn replace_spec(&self, namespace: &str, name: &str, spec: Value) {
        let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).expect("a patch"));
        self.policies(namespace).patch(name, &PatchParams::default(), &patch).await.expect("the spec is accepted");
    }

    pub async fn delete_policy(&self, namespace: &str, name: &str) {
        self.policies(namespace).delete(name, &DeleteParams::default()).await.expect("the policy is deleted");
    }

    /// `egress-{name}`, which must exist.
    pub async fn network_policy(&self, namespace: &str, name: &str) -> NetworkPolicy {
        self.network_policies(namespace).get(&format!("egress-{name}")).await.expect("the NetworkPolicy exists")
    }

    /// Waits until `egress-{name}` allows exactly these addresses (single addresses and blocks).
    pub async fn allows(&self, namespace: &str, name: &str, expected: &[&str]) {
        self.allows_within(PATIENCE, namespace, name, expected).await;
    }

    pub async fn allows_within(&self, within: Duration, namespace: &str, name: &str, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        let api = self.network_policies(namespace);
        let object = format!("egress-{name}");
        let check = async || {
            let found = api.get_opt(&object).await?.with_context(|| format!("{object} does not exist"))?;
            let allowed = allowed(&found);
            ensure!(allowed == expected, "{object} allows {allowed:?}, not {expected:?}");
            anyhow::Ok(())
        };
        eventually(within, check).await.expect("the NetworkPolicy becomes right");
    }

    /// Waits until a condition has this status and reason.
    pub async fn condition(&self, namespace: &str, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let api = self.policies(namespace);
        let check = async || {
            let object = api.get(name).await?;
            let all = object.status.map(|status| status.conditions).unwrap_or_default();
            let Some(found) = all.iter().find(|condition| condition.type_ == kind) else {
                bail!("no {kind} in {all:?}")
            };
            ensure!((found.status.as_str(), found.reason.as_str()) == (status, reason), "{found:?}");
            Ok(found.message.clone())
        };
        eventually(PATIENCE, check).await.expect("the condition comes")
    }

    /// Records every revision of every NetworkPolicy from now on.
    pub async fn record(&self) -> Recorder {
        Recorder::start(&self.client).await
    }

    /// What somebody else does to a NetworkPolicy: a merge patch under another field manager.
    pub async fn hand_edit(&self, namespace: &str, object: &str, manager: &str, patch: Value) -> NetworkPolicy {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        let edited = self.network_policies(namespace).patch(object, &params, &Patch::Merge(patch)).await;
        edited.expect("the edit is accepted")
    }

    /// Waits for an Event of this reason about this policy; gives its note.
    pub async fn event(&self, namespace: &str, policy: &str, reason: &str) -> String {
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let check = async || {
            let all = api.list(&ListParams::default()).await?.items;
            let about = |event: &&Event| event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(policy);
            let found = all.iter().filter(about).find(|event| event.reason.as_deref() == Some(reason));
            found.and_then(|event| event.note.clone()).with_context(|| format!("no Event {reason} about {policy}"))
        };
        eventually(PATIENCE, check).await.expect("the Event comes")
    }

    /// Waits until an EgressPolicy is really gone.
    pub async fn policy_is_gone(&self, namespace: &str, name: &str) {
        let api = self.policies(namespace);
        let check = async || {
            ensure!(api.get_metadata_opt(name).await?.is_none(), "{name} still exists");
            anyhow::Ok(())
        };
        eventually(PATIENCE, check).await.expect("the policy goes");
    }

    /// Waits until an object of this name is gone.
    pub async fn is_gone(&self, namespace: &str, object: &str) {
        let api = self.network_policies(namespace);
        let check = async || {
            ensure!(api.get_opt(object).await?.is_none(), "{object} still exists");
            anyhow::Ok(())
        };
        eventually(PATIENCE, check).await.expect("the object goes");
    }

    /// Waits until an object of this name is there.
    pub async fn is_there(&self, namespace: &str, object: &str) -> NetworkPolicy {
        let api = self.network_policies(namespace);
        let check = async || api.get_opt(object).await?.with_context(|| format!("{object} does not exist"));
        eventually(PATIENCE, check).await.expect("the object comes")
    }

    /// resourceVersion of `egress-{name}`: every write changes it.
    pub async fn resource_version(&self, namespace: &str, name: &str) -> String {
        self.network_policy(namespace, name).await.metadata.resource_version.expect("a version")
    }

    /// The stored spec of `egress-{name}` as JSON.
    pub async fn spec(&self, namespace: &str, name: &str) -> Value {
        serde_json::to_value(self.network_policy(namespace, name).await.spec.expect("a spec")).expect("JSON")
    }

    /// The status of a policy as JSON.
    pub async fn status(&self, namespace: &str, name: &str) -> Value {
        json!(self.policies(namespace).get(name).await.expect("the policy").status.expect("a status"))
    }

    /// Waits until the DNS server was asked so many more times for the host's A records: a window in which as many
    /// refreshes have happened.
    pub async fn refreshes(&self, host: &str, more: u64) {
        let asked = self.dns.count(host, RecordType::A);
        let within = PATIENCE + Duration::from_secs(more);
        self.dns.wait_for_count(host, RecordType::A, asked + more, within).await.expect("the host is asked for");
    }

    /// (resourceVersion, generation) of `egress-{name}` and resourceVersion of the policy: what no-ops leave alone.
    pub async fn versions(&self, namespace: &str, name: &str) -> (String, Option<i64>, String) {
        let object = self.network_policy(namespace, name).await.metadata;
        let policy = self.policies(namespace).get(name).await.expect("the policy").metadata;
        (object.resource_version.unwrap_or_default(), object.generation, policy.resource_version.unwrap_or_default())
    }
}

/// What an object allows by address: single addresses as such, blocks with their length.
pub fn allowed(object: &NetworkPolicy) -> BTreeSet<String> {
    let blocks = object.spec.iter().flat_map(network_policy::blocks);
    let text = |net: ipnet::IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    blocks.map(|(net, _)| text(net)).collect()
}

/// A spec with these host names.
pub fn hosts(names: &[&str]) -> Value {
    json!({"destinations": names.iter().map(|name| json!({"hostname": name})).collect::<Vec<_>>()})
}

/// Addresses from text.
pub fn ips(texts: &[&str]) -> Vec<std::net::IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}
