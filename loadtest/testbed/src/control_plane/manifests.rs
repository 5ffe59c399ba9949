//! Objects of any kind, from YAML.

use anyhow::{Context as _, Result};
use kube::api::{DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client};
use serde_json::Value;

use super::ControlPlane;
use super::objects::{FIELD_MANAGER, apply_crd};

/// Applies every document of a YAML text in its order, and returns when the kinds that it defines are served.
///
/// # Errors
///
/// When a document is no object, the API server refuses it, or does not serve a new kind in time.
pub async fn apply_manifests(client: &Client, yaml: &str) -> Result<()> {
    for document in documents(yaml)? {
        match document["kind"].as_str() {
            Some("CustomResourceDefinition") => apply_crd(client, &document.to_string()).await?,
            _ => apply(client, &document).await.with_context(|| format!("applying {document}"))?,
        }
    }
    Ok(())
}

impl ControlPlane {
    /// As [`apply_manifests`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn apply_manifests(&self, yaml: &str) -> Result<()> {
        apply_manifests(&self.client(), yaml).await
    }

    /// Deletes every object of a YAML text.
    ///
    /// # Errors
    ///
    /// When a document is no object, or the API server refuses to delete it.
    pub async fn delete_manifests(&self, yaml: &str) -> Result<()> {
        let client = self.client();
        for document in documents(yaml)? {
            let (api, name) = api_of(&client, &document).await?;
            api.delete(&name, &DeleteParams::default()).await.with_context(|| format!("deleting {name}"))?;
        }
        Ok(())
    }
}

fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("parsing the manifests")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

async fn apply(client: &Client, document: &Value) -> Result<()> {
    let (api, name) = api_of(client, document).await?;
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(document)).await?;
    Ok(())
}

async fn api_of(client: &Client, document: &Value) -> Result<(Api<DynamicObject>, String)> {
    let types: TypeMeta = serde_json::from_value(document.clone())?;
    let (resource, capabilities) = pinned_kind(client, &GroupVersionKind::try_from(types)?).await?;
    let metadata = &document["metadata"];
    let api = match capabilities.scope {
        Scope::Cluster => Api::<DynamicObject>::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = metadata["namespace"].as_str().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let name = metadata["name"].as_str().context("an object without a name")?;
    Ok((api, name.to_owned()))
}
