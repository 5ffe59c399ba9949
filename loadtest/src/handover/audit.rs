//! Who wrote each revision: the API server's audit log has the pod that the token of a request was bound to.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result};
use egress_domain::api::{FenceRefusal, is_fence_refusal};
use serde::Deserialize;

/// The extra of a user whose token is bound to a pod.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Whose writes are judged.
const ACCOUNT: &str = "system:serviceaccount:egress-controller:egress-controller";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    response_object: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct ObjectRef {
    resource: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
    details: Details,
}

/// What a delete answers of the object.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

/// What the controller wrote, as the API server noted it.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// The pod that wrote each revision of a NetworkPolicy, by resourceVersion.
    pub writers: BTreeMap<u64, String>,
    /// The pod that deleted each NetworkPolicy, by its uid.
    pub deleters: HashMap<String, String>,
    /// NetworkPolicies that the fence refused to change because they carried a newer epoch, once for each refusal.
    pub outstamped: Vec<String>,
}

/// Reads the log. Of several answers with one version the first counts: the others changed nothing.
///
/// # Errors
/// When the log cannot be read.
pub fn read(file: &Path) -> Result<Audit> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut audit = Audit::default();
    // The last line may be half written.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let (Some(of), Some(status)) = (line.object_ref, line.response_status) else { continue };
        if of.resource.as_deref() != Some("networkpolicies") || line.user.username != ACCOUNT {
            continue;
        }
        if is_fence_refusal(&status.message) == Some(FenceRefusal::NewerEpoch) {
            audit.outstamped.extend(of.name);
            continue;
        }
        let Some(pod) = line.user.extra.get(POD_NAME).and_then(|pods| pods.first()) else { continue };
        if !(200..300).contains(&status.code) {
            continue;
        }
        let Object { metadata, details } = line.response_object.unwrap_or_default();
        if let Ok(version) = metadata.resource_version.parse() {
            audit.writers.entry(version).or_insert_with(|| pod.clone());
        } else if !details.uid.is_empty() {
            audit.deleters.entry(details.uid).or_insert_with(|| pod.clone());
        }
    }
    Ok(audit)
}
