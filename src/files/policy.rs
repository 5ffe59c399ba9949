//! A document that is an EgressPolicy: decoded, judged, parsed.

use std::collections::BTreeMap;
use std::sync::Arc;

use egress_domain::api::{EgressPolicy, GROUP, KIND, Mode, VERSION};
use egress_domain::fqdn::Fqdn;
use egress_domain::object::PolicyKey;
use egress_domain::policy::ValidatedPolicy;
use egress_domain::settings::Settings;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::document::Document;
use super::finding::{Finding, Place, Report};
use super::names::{is_namespace, is_policy_name};
use super::schema::{Offence, unknown, violations_of_spec};

/// Namespace of an object that names none, as with kubectl.
const DEFAULT_NAMESPACE: &str = "default";
/// Stands for the uid that an API server would have given; never printed.
const FILE_UID: &str = "file";

/// An EgressPolicy of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedPolicy {
    /// Where it was read.
    pub place: Place,
    /// The object.
    pub object: EgressPolicy,
    /// The object, parsed.
    pub policy: Arc<ValidatedPolicy>,
    /// For each host the first field that names it.
    pub hosts: BTreeMap<Fqdn, String>,
}

impl LoadedPolicy {
    /// Namespace and name.
    pub fn key(&self) -> &PolicyKey {
        &self.policy.key
    }

    /// Whether NetworkPolicies are to be rendered for it.
    pub fn is_enforcing(&self) -> bool {
        self.policy.mode == Mode::Enforce
    }
}

/// Whether a document claims to be an EgressPolicy, of whatever version.
pub fn is_policy(value: &Value) -> bool {
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default();
    text("kind") == KIND && text("apiVersion").split('/').next() == Some(GROUP)
}

/// Decodes an EgressPolicy, with what is to be said of it. What the API server would refuse but the controller
/// understands (objects stored before the schema) is a warning; what cannot be decoded is an error.
pub fn decode(document: Document, settings: &Settings) -> Result<(LoadedPolicy, Report), Vec<Finding>> {
    let Document { place, value } = document;
    let at = |field: &str, message: String| Finding::of_field(&place, field, message);
    let wanted = format!("{GROUP}/{VERSION}");
    let found = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if found != wanted {
        return Err(vec![at("apiVersion", format!("{found:?} is not known: write {wanted}"))]);
    }
    let violations = violations_of_spec(&value);
    let mut object: EgressPolicy = serde_json::from_value(value.clone()).map_err(|error| {
        let reasons = violations.iter().filter(|violation| violation.offence == Offence::Type);
        let reasons: Vec<Finding> = reasons.map(|v| at(&v.field, v.message.clone())).collect();
        if reasons.is_empty() { vec![at("", error.to_string())] } else { reasons }
    })?;
    check_names(&mut object, &at)?;
    object.metadata.uid = Some(FILE_UID.to_owned());

    let policy = ValidatedPolicy::parse(&object, settings);
    let mut report = Report::default();
    for problem in &policy.problems {
        report.warnings.push(at(&problem.field, problem.message.clone()));
    }
    for violation in violations {
        // A problem says the same in better words.
        if policy.problems.iter().any(|problem| violation.field.starts_with(&problem.field)) {
            continue;
        }
        let refused = match violation.offence {
            Offence::UnknownField => "",
            Offence::Type | Offence::Bound => " (the API server refuses this)",
        };
        report.warnings.push(at(&violation.field, format!("{}{refused}", violation.message)));
    }
    for (field, message) in unknown_metadata(&value, &object.metadata) {
        report.warnings.push(at(&field, message));
    }
    if policy.mode == Mode::DryRun {
        report.notes.push(at("spec.mode", format!("DryRun: nothing is rendered for {}", policy.key)));
    }
    let hosts = host_fields(&object);
    Ok((LoadedPolicy { place, object, policy: Arc::new(policy), hosts }, report))
}

fn check_names(object: &mut EgressPolicy, at: &impl Fn(&str, String) -> Finding) -> Result<(), Vec<Finding>> {
    let namespace = object.metadata.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned());
    if !is_namespace(namespace) {
        return Err(vec![at("metadata.namespace", format!("{namespace:?} is not the name of a namespace"))]);
    }
    match object.metadata.name.as_deref() {
        Some(name) if is_policy_name(name) => Ok(()),
        Some(name) => {
            let message = format!("{name:?} is not a name: lower case letters, digits, '-' and '.', at most 246");
            Err(vec![at("metadata.name", message)])
        }
        None => Err(vec![at("metadata.name", "is missing".to_owned())]),
    }
}

/// Fields of the metadata that decoding has lost: they do not exist.
fn unknown_metadata(value: &Value, metadata: &ObjectMeta) -> Vec<(String, String)> {
    /// Those that people write.
    const WRITTEN: [&str; 4] = ["name", "namespace", "labels", "annotations"];
    let kept = serde_json::to_value(metadata).unwrap_or_default();
    let given = value.get("metadata").and_then(Value::as_object);
    let lost = given.into_iter().flatten().filter(|(key, value)| !value.is_null() && kept.get(key.as_str()).is_none());
    let lost = lost.filter(|(_, value)| !value.as_array().is_some_and(Vec::is_empty));
    lost.map(|(key, _)| (format!("metadata.{key}"), unknown(key, WRITTEN.into_iter()))).collect()
}

fn host_fields(object: &EgressPolicy) -> BTreeMap<Fqdn, String> {
    let mut fields = BTreeMap::new();
    for (index, destination) in object.spec.destinations.iter().enumerate() {
        if let Some(host) = destination.hostname.as_deref().and_then(|text| Fqdn::parse(text).ok()) {
            fields.entry(host).or_insert_with(|| format!("spec.destinations[{index}].hostname"));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(metadata: Value, spec: Value) -> Document {
        let place = Place { file: "f.yaml".into(), document: 2, item: None };
        let value = json!({"apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
            "metadata": metadata, "spec": spec});
        Document { place, value }
    }

    #[track_caller]
    fn check(metadata: Value, spec: Value, expected: Result<&[&str], &[&str]>) {
        let decoded = decode(document(metadata, spec), &Settings::default());
        let texts = |findings: &[Finding]| findings.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = decoded.map(|(_, report)| texts(&report.warnings)).map_err(|errors| texts(&errors));
        let owned = |texts: &[&str]| texts.iter().map(|text| format!("f.yaml: document 2: {text}")).collect::<Vec<_>>();
        assert_eq!(found, expected.map(owned).map_err(owned));
    }

    #[test]
    fn a_bad_entry_is_a_warning_with_file_document_and_field() {
        check(
            json!({"name": "a"}),
            json!({"destinations": [{"ip": "192.0.2.1"}, {"ip": "300.1.1.1"}]}),
            Ok(&["spec.destinations[1].ip: \"300.1.1.1\" is not an IPv4 or IPv6 address"]),
        );
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error_per_field() {
        check(
            json!({"name": "a"}),
            json!({"destinations": [{"ip": 8}, {"ip": "192.0.2.1", "ports": [{"port": "https"}]}]}),
            Err(&[
                "spec.destinations[0].ip: 8 is not a string",
                "spec.destinations[1].ports[0].port: \"https\" is not an integer",
            ]),
        );
    }

    #[test]
    fn names_that_cannot_be_are_errors() {
        check(json!({}), json!({}), Err(&["metadata.name: is missing"]));
        check(
            json!({"name": "a", "namespace": "../b"}),
            json!({}),
            Err(&["metadata.namespace: \"../b\" is not the name of a namespace"]),
        );
    }

    #[test]
    fn typos_of_the_metadata_do_not_pass() {
        check(
            json!({"name": "a", "namspace": "b", "labels": {}, "finalizers": [], "creationTimestamp": null}),
            json!({}),
            Ok(&["metadata.namspace: is an unknown field and ignored; did you mean namespace?"]),
        );
    }

    #[test]
    fn what_the_api_server_refuses_but_the_controller_understands_is_a_warning() {
        check(
            json!({"name": "a"}),
            json!({"refreshIntervalSeconds": 0, "destinations": [{"ip": "192.0.2.1", "ports": [{"port": 70000}]}]}),
            Ok(&[
                "spec.destinations[0].ports[0]: port 70000 to 70000 is no range in 1..65535",
                "spec.refreshIntervalSeconds: 0 is less than 1 (the API server refuses this)",
            ]),
        );
    }
}
