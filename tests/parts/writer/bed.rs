//! A writer on the shared API server, behind a fault proxy of its own, in a namespace of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use egress_controller::actors::writer::{DrainReport, Writer, WriterArgs, WriterMsg, WriterRef, WriterSnapshot};
use egress_controller::clock::Clock;
use egress_controller::k8s::apply::{Applier, RequestTimeout};
use egress_controller::k8s::client::request_client;
use egress_controller::k8s::gate::Gate;
use egress_controller::telemetry::metrics::writer::WriterMetrics;
use egress_domain::api::{EgressPolicy, EgressPolicySpec, custom_resource_definition};
use egress_domain::object::{ObjectKey, PolicyKey};
use egress_domain::shard::ShardId;
use egress_domain::shard::stamp::Stamp;
use egress_domain::write::{Lane, WriteOutcome, WriteRequest};
use egress_testbed::ControlPlane;
use egress_testbed::control_plane::Trust;
use egress_testbed::proxy::FaultProxy;
use egress_testbed::relay::TcpRelay;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use ractor::{Actor, RpcReplyPort};
use tokio::sync::{OnceCell, mpsc};

/// Bounds what takes a second at most on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for every healthy answer of a loaded machine.
pub const PATIENT: Duration = Duration::from_secs(10);

/// What every request of these tests is decided under.
pub const STAMP: Option<Stamp> = Some(Stamp { shard: ShardId(17), epoch: 4711 });

/// The parts.
pub struct Bed {
    pub namespace: String,
    pub proxy: FaultProxy,
    pub client: Client,
    pub writer: WriterRef,
    answers: mpsc::UnboundedReceiver<(u32, WriteOutcome)>,
    tell: mpsc::UnboundedSender<(u32, WriteOutcome)>,
}

impl Bed {
    pub async fn new() -> Result<Self> {
        Self::with(Gate::open(), PATIENT).await
    }

    pub async fn with(gate: Gate, timeout: Duration) -> Result<Self> {
        let proxy = FaultProxy::before(ControlPlane::shared().await).await?;
        Self::at(&proxy.url(), proxy, gate, timeout).await
    }

    /// With a relay of TCP connections before the proxy.
    pub async fn with_relay(timeout: Duration) -> Result<(Self, TcpRelay)> {
        let proxy = FaultProxy::before(ControlPlane::shared().await).await?;
        let relay = TcpRelay::start(proxy.address()).await?;
        let url = format!("https://{}", relay.address());
        Ok((Self::at(&url, proxy, Gate::open(), timeout).await?, relay))
    }

    async fn at(url: &str, proxy: FaultProxy, gate: Gate, timeout: Duration) -> Result<Self> {
        let plane = ControlPlane::shared().await;
        let config = plane.config_for(url, plane.admin_token(), Trust::ControlPlane)?;
        let applier = Applier::new(request_client(config, timeout)?, gate, RequestTimeout::new(timeout), "test");
        let metrics = WriterMetrics::register(&mut Registry::default());
        let args = WriterArgs { applier, max_writes_per_second: None, clock: Clock::start(), metrics };
        let (writer, _) = Actor::spawn(None, Writer, args).await?;
        let (tell, answers) = mpsc::unbounded_channel();
        let namespace = plane.unique_namespace("writer").await?;
        Ok(Self { namespace, proxy, client: plane.client(), writer, answers, tell })
    }

    /// The NetworkPolicy `egress-{name}`.
    pub fn object(&self, name: &str) -> ObjectKey {
        ObjectKey::NetworkPolicy(self.policy(name))
    }

    pub fn policy(&self, name: &str) -> PolicyKey {
        PolicyKey::new(self.namespace.as_str(), name)
    }

    /// Submits a request; its answer will carry `number`.
    pub fn submit(&self, number: u32, key: ObjectKey, request: WriteRequest) -> Result<()> {
        self.submit_in(Lane::Spec, number, key, request)
    }

    pub fn submit_in(&self, lane: Lane, number: u32, key: ObjectKey, request: WriteRequest) -> Result<()> {
        let tell = self.tell.clone();
        let sink = move |outcome| drop(tell.send((number, outcome)));
        let submit = WriterMsg::Submit { key, lane, request, stamp: STAMP, sink: Some(Arc::new(sink)) };
        self.writer.cast(submit).context("the writer runs")
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Result<(u32, WriteOutcome)> {
        let answer = tokio::time::timeout(SOON, self.answers.recv()).await;
        answer.context("no answer")?.context("the sender is ours")
    }

    /// Submits one request and waits for its answer.
    pub async fn write(&mut self, key: ObjectKey, request: WriteRequest) -> Result<WriteOutcome> {
        self.submit(0, key, request)?;
        Ok(self.answer().await?.1)
    }

    /// Creates `egress-{name}` as the policy machine would; gives it as stored.
    pub async fn create(&mut self, name: &str) -> Result<NetworkPolicy> {
        let request = WriteRequest::Create(Box::new(network_policy(&self.namespace, name)));
        match self.write(self.object(name), request).await? {
            WriteOutcome::Written(Some(object)) => Ok(*object),
            outcome => anyhow::bail!("{outcome:?}"),
        }
    }

    /// Waits until nothing is pending or in flight.
    pub async fn drain(&self) -> Result<DrainReport> {
        self.call(WriterMsg::Drain).await
    }

    pub async fn snapshot(&self) -> Result<WriterSnapshot> {
        self.call(WriterMsg::Snapshot).await
    }

    async fn call<T: Send + 'static>(&self, message: impl FnOnce(RpcReplyPort<T>) -> WriterMsg) -> Result<T> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.writer.cast(message(send.into())).context("the writer runs")?;
        tokio::time::timeout(SOON, receive).await.context("no reply")?.context("the writer runs")
    }

    pub fn network_policies(&self) -> Api<NetworkPolicy> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn stored(&self, name: &str) -> Result<Option<NetworkPolicy>> {
        Ok(self.network_policies().get_opt(&format!("egress-{name}")).await?)
    }

    pub async fn egress_policies(&self) -> Result<Api<EgressPolicy>> {
        static CRD: OnceCell<()> = OnceCell::const_new();
        let crd = serde_json::to_string(&custom_resource_definition())?;
        // JSON is YAML.
        CRD.get_or_try_init(async || ControlPlane::shared().await.apply_crd(&crd).await).await?;
        Ok(Api::namespaced(self.client.clone(), &self.namespace))
    }

    /// Creates an EgressPolicy with these finalizers and annotations.
    pub async fn egress_policy(&self, name: &str, finalizers: &[&str], annotations: &[&str]) -> Result<EgressPolicy> {
        let mut policy = EgressPolicy::new(name, EgressPolicySpec::default());
        policy.metadata.finalizers = Some(finalizers.iter().map(ToString::to_string).collect());
        let annotations = annotations.iter().map(|name| ((*name).to_owned(), "x".to_owned()));
        policy.metadata.annotations = Some(annotations.collect());
        Ok(self.egress_policies().await?.create(&PostParams::default(), &policy).await?)
    }

    /// Deletes an EgressPolicy; one with finalizers stays until they are gone.
    pub async fn delete_egress_policy(&self, name: &str) -> Result<()> {
        self.egress_policies().await?.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.writer.stop(None);
    }
}

/// `egress-{name}`: all pods, no egress.
pub fn network_policy(namespace: &str, name: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(format!("egress-{name}")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec { policy_types: Some(vec!["Egress".to_owned()]), ..NetworkPolicySpec::default() }),
    }
}

/// An apply of a stored object with one label.
pub fn apply(stored: &NetworkPolicy, label: &str) -> WriteRequest {
    let ObjectMeta { name, namespace, uid, .. } = stored.metadata.clone();
    let labels = Some(BTreeMap::from([("label".to_owned(), label.to_owned())]));
    let metadata = ObjectMeta { name, namespace, uid, labels, ..ObjectMeta::default() };
    WriteRequest::Apply(Box::new(NetworkPolicy { metadata, spec: stored.spec.clone() }))
}

/// The label of [`apply`].
pub fn label(object: &NetworkPolicy) -> Option<&str> {
    object.metadata.labels.as_ref()?.get("label").map(String::as_str)
}

pub fn written(outcome: WriteOutcome) -> Result<NetworkPolicy> {
    match outcome {
        WriteOutcome::Written(Some(object)) => Ok(*object),
        outcome => anyhow::bail!("{outcome:?}"),
    }
}
