//! The bodies of the requests.

use egress_domain::api::{EgressPolicy, EgressPolicyStatus, FENCE_ANNOTATION, FIELD_MANAGER, MANAGED_BY_LABEL};
use egress_domain::object::PolicyKey;
use egress_domain::write::PolicyEvent;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde_json::{Value, json};

/// Longest note of an Event that the API takes, in bytes.
const MAX_NOTE: usize = 1_024;
/// Longest `reportingInstance` that the API takes.
const MAX_INSTANCE: usize = 128;
/// Longest name of an object.
const MAX_NAME: usize = 253;
/// The API wants to know what was done; we do one thing.
const ACTION: &str = "Reconcile";

/// A new object: the server refuses one that claims to be stored already.
pub(super) fn create(object: &NetworkPolicy, stamp: Option<String>) -> NetworkPolicy {
    let mut object = apply(object, stamp);
    object.metadata.uid = None;
    object.metadata.resource_version = None;
    object
}

/// The whole object, with the stamp of the fence if there is one.
pub(super) fn apply(object: &NetworkPolicy, stamp: Option<String>) -> NetworkPolicy {
    let mut object = object.clone();
    // The server refuses an apply that carries them.
    object.metadata.managed_fields = None;
    if let Some(stamp) = stamp {
        object.metadata.annotations.get_or_insert_default().insert(FENCE_ANNOTATION.to_owned(), stamp);
    }
    object
}

/// Replaces the owner references of exactly this version of the object. A merge patch with uid and resourceVersion is
/// refused like a JSON patch with `test`, but the refusal says which of them differs (tried).
pub(super) fn owners(object: &NetworkPolicy, stamp: Option<String>) -> Value {
    let ObjectMeta { uid, resource_version, owner_references, .. } = &object.metadata;
    let mut metadata = json!({
        "uid": uid,
        "resourceVersion": resource_version,
        "ownerReferences": owner_references.as_deref().unwrap_or_default(),
    });
    if let Some(stamp) = stamp {
        metadata["annotations"] = json!({ FENCE_ANNOTATION: stamp });
        metadata["labels"] = ours();
    }
    json!({ "metadata": metadata })
}

/// The fence judges objects that carry our label, before the write or after it: a label that somebody took away must not
/// let a write pass unjudged.
fn ours() -> Value {
    json!({ MANAGED_BY_LABEL: FIELD_MANAGER })
}

/// Stamps exactly this version of the object, puts our label back, and changes nothing else.
pub(super) fn stamp(uid: &str, resource_version: &str, stamp: &str) -> Value {
    let annotations = json!({ FENCE_ANNOTATION: stamp });
    json!({"metadata": {
        "uid": uid, "resourceVersion": resource_version, "annotations": annotations, "labels": ours(),
    }})
}

/// Replaces the status of the policy with this uid and of no other. A status apply with another uid is taken by the
/// server, which ignores metadata there (tried); a `test` is not.
pub(super) fn status(uid: &str, status: &EgressPolicyStatus, stamp: Option<String>) -> Value {
    let mut value = json!(status);
    if let Some(stamp) = stamp {
        value["fence"] = json!(stamp);
    }
    json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": value},
    ])
}

/// Makes Events in the name of this process.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    instance: String,
    /// Part of each Event's name: no other process, and no earlier one, uses the same.
    process: u64,
}

impl Reporter {
    pub(super) fn new(instance: &str) -> Self {
        let instance = if instance.is_empty() { FIELD_MANAGER } else { instance };
        Self { instance: head(instance, MAX_INSTANCE).to_owned(), process: rand::random() }
    }

    /// The same number gives the same name, so that a repeated create finds the Event that exists.
    pub(super) fn event(&self, policy: &PolicyKey, number: u64, event: &PolicyEvent) -> Event {
        let PolicyEvent { uid, reason, note, warning } = event;
        let suffix = format!(".{:x}.{number:x}", self.process);
        let name = format!("{}{suffix}", head(&policy.name, MAX_NAME - suffix.len()).trim_end_matches(['.', '-']));
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(policy.namespace.to_string()),
                ..ObjectMeta::default()
            },
            regarding: Some(ObjectReference {
                api_version: Some(EgressPolicy::api_version(&()).into_owned()),
                kind: Some(EgressPolicy::kind(&()).into_owned()),
                name: Some(policy.name.to_string()),
                namespace: Some(policy.namespace.to_string()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            }),
            reason: Some((*reason).to_owned()),
            note: Some(head(note, MAX_NOTE).to_owned()),
            type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
            action: Some(ACTION.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// As many whole characters from the start as fit into so many bytes.
fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
