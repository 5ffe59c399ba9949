//! Somebody who may do in one namespace what tenants do there, and nothing elsewhere.

use anyhow::Result;
use egress_testbed::eventually;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client};
use loadtest::handover::bed::Bed;

/// A client with the token of a tenant's pod in this namespace, once its rights are in force.
pub async fn tenant(bed: &Bed, namespace: &str) -> Result<Client> {
    let rights = format!(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: tenant, namespace: {namespace}}}
rules:
- {{apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: ["*"]}}
- {{apiGroups: [platform.example.com], resources: [egresspolicies], verbs: ["*"]}}
- {{apiGroups: [coordination.k8s.io], resources: [leases], verbs: ["*"]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: tenant, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}}
subjects:
- {{kind: ServiceAccount, name: tenant, namespace: {namespace}}}
"#
    );
    bed.control_plane.apply_manifests(&rights).await?;
    let token = bed.control_plane.pod_token(namespace, "shell", "tenant").await?;
    let client = bed.control_plane.client_for_token(&token);
    eventually(bed.patience(1), async || {
        Api::<NetworkPolicy>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
        Api::<Lease>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
        Ok(())
    })
    .await?;
    Ok(client)
}
