//! The objects that most tests need first: namespaces, resource definitions, pods with a token.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodSpec, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::discovery::pinned_kind;
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ControlPlane;
use crate::eventually;

/// A definition is served within a second; a loaded machine is given a multiple.
const ESTABLISHED_DEADLINE: Duration = Duration::from_secs(90);
/// Who makes the testbed's own objects.
pub(super) const FIELD_MANAGER: &str = "egress-testbed";
/// The status code of a create whose name is taken.
const CONFLICT: u16 = 409;

impl ControlPlane {
    /// Creates a namespace.
    ///
    /// # Errors
    ///
    /// When the API server refuses, also because it exists.
    pub async fn create_namespace(&self, name: &str) -> Result<Namespace> {
        let namespace = Namespace { metadata: named(name), ..Namespace::default() };
        let created = Api::all(self.client()).create(&PostParams::default(), &namespace).await;
        created.with_context(|| format!("creating namespace {name}"))
    }

    /// Creates a namespace whose name starts with `prefix` and is no other test's; returns the name.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub async fn unique_namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        self.create_namespace(&name).await?;
        Ok(name)
    }

    /// Applies every CustomResourceDefinition of a YAML text, and returns when their objects can be listed.
    ///
    /// # Errors
    ///
    /// When the text is not that, the API server refuses it, or does not serve it in time.
    pub async fn apply_crd(&self, yaml: &str) -> Result<()> {
        apply_crd(&self.client(), yaml).await
    }

    /// As [`pod_token`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pod_token(&self, namespace: &str, pod_name: &str, service_account: &str) -> Result<String> {
        pod_token(&self.client(), namespace, pod_name, service_account).await
    }
}

pub(super) async fn apply_crd(client: &Client, yaml: &str) -> Result<()> {
    // By way of JSON values, because the types' untagged parts are only defined for JSON.
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml).context("parsing the definitions")?;
    for document in documents {
        let definition: CustomResourceDefinition =
            serde_json::from_value(document).context("not a CustomResourceDefinition")?;
        let name = definition.name_any();
        let applied = Api::<CustomResourceDefinition>::all(client.clone())
            .patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&definition))
            .await
            .with_context(|| format!("applying {name}"))?;
        eventually(ESTABLISHED_DEADLINE, || is_served(client, &applied))
            .await
            .with_context(|| format!("{name} is not served"))?;
    }
    Ok(())
}

/// A token of a ServiceAccount that is bound to a pod, as the kubelet would mount it; creates the ServiceAccount and the Pod if absent.
///
/// # Errors
///
/// When the API server refuses one of the three.
pub async fn pod_token(client: &Client, namespace: &str, pod_name: &str, service_account: &str) -> Result<String> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let account = ServiceAccount { metadata: named(service_account), ..ServiceAccount::default() };
    get_or_create(&accounts, &account).await?;
    let pod = get_or_create(&Api::namespaced(client.clone(), namespace), &pod(pod_name, service_account)).await?;

    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod_name.to_owned()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts
        .create_token_request(service_account, &PostParams::default(), &request)
        .await
        .context("requesting a token")?;
    Ok(answer.status.context("a token request without a status")?.token)
}

/// The condition comes a moment before the objects can be reached, so both are asked for.
async fn is_served(client: &Client, definition: &CustomResourceDefinition) -> Result<()> {
    let now = Api::<CustomResourceDefinition>::all(client.clone()).get(&definition.name_any()).await?;
    let conditions = now.status.and_then(|status| status.conditions).unwrap_or_default();
    let established = conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
    anyhow::ensure!(established, "not established: {conditions:?}");
    let (spec, names) = (&definition.spec, &definition.spec.names);
    for version in spec.versions.iter().filter(|version| version.served) {
        let (resource, _) =
            pinned_kind(client, &GroupVersionKind::gvk(&spec.group, &version.name, &names.kind)).await?;
        Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default().limit(1)).await?;
    }
    Ok(())
}

async fn get_or_create<K>(api: &Api<K>, object: &K) -> Result<K>
where
    K: kube::Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(api.get(&object.name_any()).await?),
        outcome => outcome.with_context(|| format!("creating {}", object.name_any())),
    }
}

/// No image is ever pulled: there is no kubelet.
fn pod(name: &str, service_account: &str) -> Pod {
    let container = Container { name: "main".to_owned(), image: Some("none".to_owned()), ..Container::default() };
    let spec = PodSpec {
        containers: vec![container],
        service_account_name: Some(service_account.to_owned()),
        ..PodSpec::default()
    };
    Pod { metadata: named(name), spec: Some(spec), status: None }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}
