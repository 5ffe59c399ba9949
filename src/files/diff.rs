//! What is rendered against NetworkPolicies that exist somewhere: in files, or in what `kubectl get -o yaml` printed.

use std::path::PathBuf;

use anyhow::Result;
use egress_domain::fingerprint::Fingerprint;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;
use similar::TextDiff;
use std::collections::BTreeMap;

use super::document;
use super::finding::{BadInput, Finding, Place};
use super::input::Inputs;
use super::output::{is_managed, network_policy, to_yaml};
use super::session::Objects;

/// Namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// NetworkPolicies of files, by namespace and name, each with where it was read.
pub type Found = BTreeMap<(String, String), (Place, NetworkPolicy)>;

/// Reads every NetworkPolicy of files and folders; documents of other kinds are left out.
///
/// # Errors
/// When a file cannot be read, or one object stands in two places.
pub fn read(paths: &[PathBuf]) -> Result<Found, BadInput> {
    let texts = Inputs::find(paths).and_then(|inputs| inputs.read_objects()).map_err(BadInput)?;
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for text in &texts {
        let (parsed, bad) = document::parse(&text.file, &text.text);
        documents.extend(parsed);
        errors.extend(bad);
    }
    match collect(&documents) {
        Ok(found) if errors.is_empty() => Ok(found),
        Ok(_) => Err(BadInput(errors)),
        Err(more) => Err(BadInput([errors, more].concat())),
    }
}

/// The NetworkPolicies among documents.
///
/// # Errors
/// When one object stands in two places.
pub fn collect(documents: &[document::Document]) -> Result<Found, Vec<Finding>> {
    let mut found = Found::new();
    let mut errors = Vec::new();
    for document in documents {
        let Some(mut object) = network_policy(&document.value) else { continue };
        let namespace = object.metadata.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned()).clone();
        let key = (namespace, object.metadata.name.clone().unwrap_or_default());
        let place = document.place.clone();
        if let Some((first, _)) = found.get(&key) {
            let message = format!("NetworkPolicy {}/{} stands here a second time; the first is {first}", key.0, key.1);
            errors.push(Finding::of_field(&place, "metadata.name", message));
        } else {
            found.insert(key, (place, object));
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// The text of all differences, empty when there are none. Order and what the API server fills in are no differences;
/// an object that is not rendered is one only if it carries our label.
///
/// # Errors
/// When an object cannot be printed, which is a defect.
pub fn differences(rendered: &Objects, found: &Found) -> Result<String> {
    let mut text = String::new();
    for (key, wanted) in rendered {
        match found.get(key) {
            None => text.push_str(&unified(None, Some(wanted), "missing", key)?),
            Some((place, present)) if !is_same(present, wanted) => {
                text.push_str(&unified(Some(present), Some(wanted), &place.to_string(), key)?);
            }
            Some(_) => {}
        }
    }
    for (key, (place, present)) in found {
        if !rendered.contains_key(key) && is_managed(present) {
            text.push_str(&unified(Some(present), None, &place.to_string(), key)?);
        }
    }
    Ok(text)
}

fn is_same(one: &NetworkPolicy, other: &NetworkPolicy) -> bool {
    let of = |object: &NetworkPolicy| Fingerprint::of(object.spec.as_ref().unwrap_or(&Default::default()));
    of(one) == of(other)
}

fn unified(
    present: Option<&NetworkPolicy>,
    wanted: Option<&NetworkPolicy>,
    from: &str,
    key: &(String, String),
) -> Result<String> {
    let text = |object: Option<&NetworkPolicy>| object.map_or(Ok(String::new()), canonical);
    let (old, new) = (text(present)?, text(wanted)?);
    let name = format!("{}/{}", key.0, key.1);
    let new_name = if wanted.is_some() { format!("{name} (rendered)") } else { format!("{name} (not rendered)") };
    let diff = TextDiff::from_lines(&old, &new);
    Ok(diff.unified_diff().header(&format!("{name} ({from})"), &new_name).to_string())
}

/// The part that counts, every list sorted: the text differs where the meaning does.
fn canonical(object: &NetworkPolicy) -> Result<String> {
    let mut spec = serde_json::to_value(&object.spec)?;
    fill_in(&mut spec);
    sort(&mut spec);
    let name = (&object.metadata.namespace, &object.metadata.name);
    to_yaml(&serde_json::json!({"metadata": {"namespace": name.0, "name": name.1}, "spec": spec}))
}

/// What the API server would: the protocol of a port, the selector of all pods.
fn fill_in(spec: &mut Value) {
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("podSelector").or_insert_with(|| serde_json::json!({}));
    }
    let rules = spec.get_mut("egress").and_then(Value::as_array_mut);
    let ports = rules.into_iter().flatten().filter_map(|rule| rule.get_mut("ports")?.as_array_mut()).flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        port.entry("protocol").or_insert_with(|| "TCP".into());
    }
}

fn sort(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort);
            items.sort_by_cached_key(ToString::to_string);
        }
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
            fields.values_mut().for_each(sort);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::document::Document;
    use serde_json::json;

    fn found(value: Value) -> Found {
        let place = Place { file: "there.yaml".into(), document: 1, item: None };
        collect(&[Document { place, value }]).unwrap()
    }

    fn object(name: &str, labels: Value, rules: Value) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "a", "labels": labels, "uid": "1"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}})
    }

    #[track_caller]
    fn check(rendered: Value, there: Value, expected: &[&str]) {
        let rendered: Objects = found(rendered).into_iter().map(|(key, (_, object))| (key, object)).collect();
        let text = differences(&rendered, &found(there)).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(['+', '-'])).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn order_and_defaults_of_the_server_are_no_difference() {
        check(
            object(
                "x",
                json!({}),
                json!([{"to": [{"ipBlock": {"cidr": "1.1.1.1/32"}}, {"ipBlock": {"cidr": "2.2.2.2/32"}}],
                "ports": [{"port": 443, "protocol": "TCP"}]}]),
            ),
            object(
                "x",
                json!({"b": "c"}),
                json!([{"ports": [{"port": 443}],
                "to": [{"ipBlock": {"cidr": "2.2.2.2/32"}}, {"ipBlock": {"cidr": "1.1.1.1/32"}}]}]),
            ),
            &[],
        );
    }

    #[test]
    fn only_the_lines_that_mean_something_else_are_shown() {
        let rule = |cidrs: &[&str], port: Value| {
            let to: Vec<Value> = cidrs.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
            json!([{"to": to, "ports": [port]}])
        };
        check(
            object("x", json!({}), rule(&["1.1.1.1/32", "2.2.2.2/32"], json!({"port": 443, "protocol": "TCP"}))),
            object("x", json!({}), rule(&["2.2.2.2/32", "3.3.3.3/32"], json!({"port": 443}))),
            &[
                "--- a/x (there.yaml: document 1)",
                "+++ a/x (rendered)",
                "+        cidr: 1.1.1.1/32",
                "+    - ipBlock:",
                "-    - ipBlock:",
                "-        cidr: 3.3.3.3/32",
            ],
        );
    }

    #[test]
    fn an_object_that_is_not_rendered_counts_only_with_our_label() {
        let ours = json!({"app.kubernetes.io/managed-by": "egress-controller"});
        let same = object("x", json!({}), json!([]));
        let mut rendered = Objects::new();
        rendered.extend(found(same).into_iter().map(|(key, (_, object))| (key, object)));
        let mut there: Found = found(object("x", json!({}), json!([])));
        there.extend(found(object("foreign", json!({}), json!([]))));
        assert_eq!(differences(&rendered, &there).unwrap(), "");
        there.extend(found(object("egress-old", ours, json!([]))));
        let text = differences(&rendered, &there).unwrap();
        assert!(
            text.starts_with("--- a/egress-old (there.yaml: document 1)\n+++ a/egress-old (not rendered)\n"),
            "{text}"
        );
    }
}
