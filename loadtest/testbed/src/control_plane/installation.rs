//! The controller's own manifests, and replicas of it: pods that no kubelet runs, with tokens that are bound to them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};

use super::ControlPlane;
use super::manifests::apply_manifests;
use super::objects::pod_token;
use crate::eventually;

/// Namespace and service account of deploy/.
const NAME: &str = "egress-controller";
/// It takes a moment; a loaded machine is given a multiple.
const TOKEN_DEADLINE: Duration = Duration::from_secs(90);
/// What an administrator applies, in this order.
const MANIFESTS: [&str; 4] = [
    include_str!("../../../../deploy/crd/egresspolicies.yaml"),
    include_str!("../../../../deploy/crd/egressshardtables.yaml"),
    include_str!("../../../../deploy/rbac.yaml"),
    include_str!("../../../../deploy/fence.yaml"),
];

/// One pod of the controller's Deployment.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Name of the pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// A token of the controller's service account, bound to the pod.
    pub token: String,
}

impl Replica {
    /// The flags that tell a process which replica it is; in a cluster the pod's environment does.
    pub fn flags(&self) -> [String; 3] {
        [format!("--own-namespace={NAME}"), format!("--pod-name={}", self.pod), format!("--pod-uid={}", self.uid)]
    }
}

/// Applies deploy/ to a cluster: the resources, the rights and the fence.
///
/// # Errors
///
/// When the API server refuses any of it.
pub async fn install(client: &Client) -> Result<()> {
    for manifest in MANIFESTS {
        apply_manifests(client, manifest).await?;
    }
    Ok(())
}

/// A pod of the controller; creates it if absent.
///
/// # Errors
///
/// When the API server refuses it.
pub async fn replica(client: &Client, pod: &str) -> Result<Replica> {
    let token = pod_token(client, NAME, pod, NAME).await?;
    let object = Api::<Pod>::namespaced(client.clone(), NAME).get(pod).await?;
    let uid = object.uid().context("a pod without a uid")?;
    Ok(Replica { pod: pod.to_owned(), uid, token })
}

impl ControlPlane {
    /// As [`install`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn install(&self) -> Result<()> {
        install(&self.client()).await
    }

    /// Takes the fence away again.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn remove_fence(&self) -> Result<()> {
        self.delete_manifests(include_str!("../../../../deploy/fence.yaml")).await
    }

    /// As [`replica`]; returns when the API server takes the token, which it may not while it remembers an earlier pod of that name.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn replica(&self, pod: &str) -> Result<Replica> {
        let replica = replica(&self.client(), pod).await?;
        let reviews = Api::<SelfSubjectReview>::all(self.client_for_token(&replica.token));
        let taken =
            async || Ok(reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.map(drop)?);
        eventually(TOKEN_DEADLINE, taken).await.context("a new pod's token")?;
        Ok(replica)
    }
}
