//! What the Python operator left on its objects: one finalizer, and annotations under one prefix. Nothing else is touched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

/// Held every EgressPolicy until the operator had cleaned up.
const FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
/// Of all annotations of the framework.
const ANNOTATION_PREFIX: &str = "kopf.zalando.org/";

/// The merge patch that removes the marks from an object as it was read; none where there are none.
pub(super) fn removal(metadata: &ObjectMeta) -> Option<Value> {
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let kept: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    let annotations = metadata.annotations.iter().flatten().map(|(name, _)| name);
    let removed: Map<String, Value> = annotations
        .filter(|name| name.starts_with(ANNOTATION_PREFIX))
        .map(|name| (name.clone(), Value::Null))
        .collect();
    if kept.len() == finalizers.len() && removed.is_empty() {
        return None;
    }
    // The list is replaced whole, so it must be the one that was read.
    let mut patch = json!({"uid": metadata.uid, "resourceVersion": metadata.resource_version});
    if kept.len() < finalizers.len() {
        patch["finalizers"] = json!(kept);
    }
    if !removed.is_empty() {
        patch["annotations"] = Value::Object(removed);
    }
    Some(json!({"metadata": patch}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(finalizers: &[&str], annotations: &[&str], expected: Option<Value>) {
        let metadata = ObjectMeta {
            uid: Some("u".to_owned()),
            resource_version: Some("7".to_owned()),
            finalizers: Some(finalizers.iter().map(ToString::to_string).collect()),
            annotations: Some(annotations.iter().map(|name| (name.to_string(), "x".to_owned())).collect()),
            ..ObjectMeta::default()
        };
        assert_eq!(removal(&metadata).map(|patch| patch["metadata"].clone()), expected);
    }

    #[test]
    fn an_object_without_marks_is_left_alone() {
        check(&[], &[], None);
        check(&["example.com/kopf.zalando.org"], &["kopf", "example.com/kopf.zalando.org"], None);
    }

    #[test]
    fn exactly_the_marks_go() {
        check(
            &["example.com/keep", FINALIZER],
            &["kopf.zalando.org/last-handled-configuration", "keep"],
            Some(json!({
                "uid": "u", "resourceVersion": "7", "finalizers": ["example.com/keep"],
                "annotations": {"kopf.zalando.org/last-handled-configuration": null},
            })),
        );
        check(&[FINALIZER], &["keep"], Some(json!({"uid": "u", "resourceVersion": "7", "finalizers": []})));
    }
}
