//! The controller's own manifests, and replicas of it: pods that no kubelet runs, with tokens that are bound to them.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};

use super::ControlPlane;

/// Namespace and service account of deploy/.
const NAME: &str = "egress-controller";
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

impl ControlPlane {
    /// Applies deploy/: the resources, the rights and the fence.
    ///
    /// # Errors
    ///
    /// When the API server refuses any of it.
    pub async fn install(&self) -> Result<()> {
        for manifest in MANIFESTS {
            self.apply_manifests(manifest).await?;
        }
        Ok(())
    }

    /// Takes the fence away again.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn remove_fence(&self) -> Result<()> {
        self.delete_manifests(include_str!("../../../../deploy/fence.yaml")).await
    }

    /// A pod of the controller; creates it if absent.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn replica(&self, pod: &str) -> Result<Replica> {
        let token = self.pod_token(NAME, pod, NAME).await?;
        let object = Api::<Pod>::namespaced(self.client(), NAME).get(pod).await?;
        let uid = object.uid().context("a pod without a uid")?;
        Ok(Replica { pod: pod.to_owned(), uid, token })
    }
}
