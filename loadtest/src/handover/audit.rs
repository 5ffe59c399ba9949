//! Who wrote each revision: the API server's audit log has the pod that the token of a request was bound to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
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
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

/// The pod that wrote each revision of a NetworkPolicy as the controller, by resourceVersion. Of several answers with one
/// version the first counts: the others changed nothing.
///
/// # Errors
/// When the log cannot be read.
pub fn writers(file: &Path) -> Result<BTreeMap<u64, String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut writers = BTreeMap::new();
    // The last line may be half written.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let is_policy = line.object_ref.is_some_and(|of| of.resource.as_deref() == Some("networkpolicies"));
        let accepted = line.response_status.is_some_and(|status| (200..300).contains(&status.code));
        if !is_policy || !accepted || line.user.username != ACCOUNT {
            continue;
        }
        let version = line.response_object.unwrap_or_default().metadata.resource_version.parse();
        let pod = line.user.extra.get(POD_NAME).and_then(|pods| pods.first());
        if let (Ok(version), Some(pod)) = (version, pod) {
            writers.entry(version).or_insert_with(|| pod.clone());
        }
    }
    Ok(writers)
}
