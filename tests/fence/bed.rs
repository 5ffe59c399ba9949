//! A control plane with everything that deploy/ installs, and clients of replicas.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_domain::api::{EgressPolicy, EgressShardTable, FenceRefusal, SHARD_TABLE};
use egress_testbed::control_plane::Trust;
use egress_testbed::{ControlPlane, eventually};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::objects::{network_policy, policy, refusal, table};

/// A policy is in force within a second or two; a loaded machine is given a multiple.
pub const SOON: Duration = Duration::from_secs(30);
/// Namespace and name of the controller's service account.
pub const ACCOUNT: &str = "egress-controller";
/// The stamp that pod `a` may use.
pub const OF_A: &str = "1/10";
/// The stamp that pod `b` may use.
pub const OF_B: &str = "2/20";

/// A control plane with everything that deploy/ installs, a table, and the tokens of two replicas.
pub struct Bed {
    pub control_plane: ControlPlane,
    pub token_a: String,
    pub token_b: String,
}

pub fn manifest(file: &str) -> String {
    let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Bed {
    pub async fn start() -> Result<Self> {
        let control_plane = ControlPlane::builder().start().await?;
        control_plane.apply_manifests(&manifest("crd/egresspolicies.yaml")).await?;
        control_plane.apply_manifests(&manifest("crd/egressshardtables.yaml")).await?;
        control_plane.apply_manifests(&manifest("rbac.yaml")).await?;
        let token_a = control_plane.pod_token(ACCOUNT, "a", ACCOUNT).await?;
        let token_b = control_plane.pod_token(ACCOUNT, "b", ACCOUNT).await?;
        let bed = Self { control_plane, token_a, token_b };
        // The controller's own rights must do.
        tables(bed.a()).create(&PostParams::default(), &EgressShardTable::new(SHARD_TABLE, table())).await?;
        bed.control_plane.create_namespace("probe").await?;
        bed.network_policies("probe").create(&PostParams::default(), &network_policy("stored", 0, None)).await?;
        bed.policies("probe").create(&PostParams::default(), &policy()).await?;
        bed.control_plane.apply_manifests(&manifest("fence.yaml")).await?;
        eventually(SOON, || bed.is_in_force()).await?;
        Ok(bed)
    }

    /// The control plane that the tests share which keep the fence as it is.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Bed> = OnceCell::const_new();
        SHARED.get_or_init(async || Self::start().await.unwrap_or_else(|error| panic!("no fence: {error:#}"))).await
    }

    /// Whether each of the three bindings refuses, and the table has been seen.
    pub async fn is_in_force(&self) -> Result<()> {
        let refused = |refusal: Option<FenceRefusal>| refusal == Some(FenceRefusal::Stale);
        let a = Api::<NetworkPolicy>::namespaced(self.a(), "probe");
        let create = PostParams { dry_run: true, ..PostParams::default() };
        ensure!(refused(refusal(&a.create(&create, &network_policy("new", 0, None)).await)), "creates pass");
        let delete = DeleteParams { dry_run: true, ..DeleteParams::default() };
        ensure!(refused(refusal(&a.delete("stored", &delete).await)), "deletes pass");
        ensure!(refused(refusal(&self.patch_status(self.a(), "probe", None).await)), "statuses pass");
        a.create(&create, &network_policy("new", 0, Some(OF_A))).await?;
        Ok(())
    }

    pub fn a(&self) -> Client {
        self.control_plane.client_for_token(&self.token_a)
    }

    pub fn b(&self) -> Client {
        self.control_plane.client_for_token(&self.token_b)
    }

    /// Those of somebody who is not the controller.
    pub fn network_policies(&self, namespace: &str) -> Api<NetworkPolicy> {
        Api::namespaced(self.control_plane.client(), namespace)
    }

    pub fn policies(&self, namespace: &str) -> Api<EgressPolicy> {
        Api::namespaced(self.control_plane.client(), namespace)
    }

    /// Replaces the status as the controller does.
    pub async fn patch_status(
        &self,
        client: Client,
        namespace: &str,
        stamp: Option<&str>,
    ) -> kube::Result<EgressPolicy> {
        let policies = Api::<EgressPolicy>::namespaced(client, namespace);
        let uid = policies.get("web").await?.uid();
        let mut status = json!({"observedGeneration": 1});
        if let Some(stamp) = stamp {
            status["fence"] = json!(stamp);
        }
        let patch = json!([{"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).expect("a JSON patch"));
        policies.patch_status("web", &PatchParams::default(), &patch).await
    }

    /// A client with a token of the account that is bound to no pod.
    pub async fn unbound(&self) -> Result<Client> {
        let accounts = Api::<ServiceAccount>::namespaced(self.control_plane.client(), ACCOUNT);
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await?;
        Ok(self.control_plane.client_for_token(&answer.status.context("a token")?.token))
    }

    /// A client of the admin in the account's name.
    pub fn impersonating(&self) -> Result<Client> {
        let (url, token) = (self.control_plane.url(), self.control_plane.admin_token());
        let mut config = self.control_plane.config_for(url, token, Trust::ControlPlane)?;
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{ACCOUNT}:{ACCOUNT}"));
        Ok(Client::try_from(config)?)
    }
}

pub fn tables(client: Client) -> Api<EgressShardTable> {
    Api::all(client)
}
