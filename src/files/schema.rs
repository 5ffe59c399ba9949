//! An object against the schema that the API server would hold it to: unknown fields, types, bounds.
//!
//! The rules that need CEL are the API server's; of them only "exactly one kind of destination" is checked here, because
//! breaking it changes what is rendered.

use std::sync::LazyLock;

use egress_domain::api::custom_resource_definition;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// What kind of offence it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// The schema has no such field: a typo, most of the time.
    UnknownField,
    /// Of another type than the schema says, or not one of the words it lists.
    Type,
    /// Out of the schema's bounds.
    Bound,
}

/// One offence against the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as `spec.destinations[2].hostname`.
    pub field: String,
    /// What kind it is.
    pub offence: Offence,
    /// What is wrong.
    pub message: String,
}

/// Schema of the whole EgressPolicy.
static SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
    let mut versions = custom_resource_definition().spec.versions.into_iter();
    versions.find_map(|version| version.schema?.open_api_v3_schema).unwrap_or_default()
});

/// Fields of a destination of which it has exactly one.
const KINDS: [&str; 4] = ["hostname", "ip", "cidr", "namespace"];
/// A typo is so many insertions, deletions or replacements away from what was meant.
const MAX_TYPO: usize = 2;

/// Everything in which the spec of an object offends against the schema, in the order of the fields.
pub fn violations_of_spec(object: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let spec = SCHEMA.properties.as_ref().and_then(|properties| properties.get("spec"));
    match (spec, object.get("spec")) {
        (Some(schema), Some(spec)) => check(schema, spec, "spec", &mut violations),
        (Some(_), None) => push(&mut violations, "spec", Offence::Type, "is missing"),
        (None, _) => {}
    }
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for key in object.as_object().into_iter().flat_map(|object| object.keys()) {
        if !known.contains(&key.as_str()) {
            push(&mut violations, key, Offence::UnknownField, unknown(key, known.into_iter()));
        }
    }
    let destinations = object.pointer("/spec/destinations").and_then(Value::as_array);
    for (index, destination) in destinations.into_iter().flatten().enumerate() {
        let present = |kind: &&str| destination.get(*kind).is_some_and(|value| !value.is_null());
        let present: Vec<&str> = KINDS.into_iter().filter(present).collect();
        if let [first, _, ..] = present[..] {
            let all = present.join(" and ");
            let message = format!("has {all}: exactly one is allowed, and {first} counts");
            push(&mut violations, &format!("spec.destinations[{index}]"), Offence::Bound, message);
        }
    }
    violations
}

fn push(violations: &mut Vec<Violation>, field: &str, offence: Offence, message: impl Into<String>) {
    violations.push(Violation { field: field.to_owned(), offence, message: message.into() });
}

fn check(schema: &JSONSchemaProps, value: &Value, path: &str, out: &mut Vec<Violation>) {
    // Absent and null are the same: objects stored before the schema have nulls.
    if value.is_null() {
        return;
    }
    let fits = match schema.type_.as_deref() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !fits {
        let wanted = schema.type_.as_deref().unwrap_or_default();
        let article = if wanted.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        return push(out, path, Offence::Type, format!("{value} is not {article} {wanted}"));
    }
    if let Some(words) = &schema.enum_
        && !words.iter().any(|word| word.0 == *value)
    {
        let words: Vec<String> = words.iter().map(|word| word.0.to_string()).collect();
        return push(out, path, Offence::Type, format!("{value} is not one of {}", words.join(", ")));
    }
    match value {
        Value::Object(fields) => {
            for name in schema.required.iter().flatten().filter(|name| !fields.contains_key(*name)) {
                push(out, &format!("{path}.{name}"), Offence::Type, "is missing");
            }
            for (name, value) in fields {
                field(schema, name, value, path, out);
            }
        }
        Value::Array(items) => {
            length(items.len(), "entries", schema.min_items, schema.max_items, path, out);
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(schema, item, &format!("{path}[{index}]"), out);
                }
            }
        }
        Value::String(text) => {
            length(text.chars().count(), "characters", schema.min_length, schema.max_length, path, out);
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema.minimum.is_some_and(|least| number < least) {
                let least = schema.minimum.unwrap_or_default();
                push(out, path, Offence::Bound, format!("{value} is less than {least}"));
            }
            if schema.maximum.is_some_and(|most| number > most) {
                let most = schema.maximum.unwrap_or_default();
                push(out, path, Offence::Bound, format!("{value} is more than {most}"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn field(schema: &JSONSchemaProps, name: &str, value: &Value, path: &str, out: &mut Vec<Violation>) {
    let known = schema.properties.as_ref().and_then(|properties| properties.get(name));
    let additional = schema.additional_properties.as_ref();
    match (known, additional) {
        (Some(known), _) => check(known, value, &format!("{path}.{name}"), out),
        (None, Some(JSONSchemaPropsOrBool::Schema(any))) => check(any, value, &format!("{path}.{name}"), out),
        (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
        (None, Some(JSONSchemaPropsOrBool::Bool(false)) | None) => {
            let names = schema.properties.iter().flat_map(|properties| properties.keys().map(String::as_str));
            push(out, &format!("{path}.{name}"), Offence::UnknownField, unknown(name, names));
        }
    }
}

fn length(n: usize, what: &str, min: Option<i64>, max: Option<i64>, path: &str, out: &mut Vec<Violation>) {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    if let Some(max) = max.filter(|max| n > *max) {
        push(out, path, Offence::Bound, format!("has {n} {what}, at most {max} are allowed"));
    }
    if let Some(min) = min.filter(|min| n < *min) {
        push(out, path, Offence::Bound, format!("has {n} {what}, at least {min} are needed"));
    }
}

/// What to say of a field that does not exist.
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.map(|known| (distance(name, known), known)).filter(|(distance, _)| *distance <= MAX_TYPO);
    match near.min() {
        Some((_, known)) => format!("is an unknown field and ignored; did you mean {known}?"),
        None => "is an unknown field and ignored".to_owned(),
    }
}

/// Insertions, deletions and replacements between two words, case not counted (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (*cell + 1).min(left + 1).min(diagonal + usize::from(from != to));
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_spec(spec: Value, expected: &[(&str, Offence, &str)]) {
        let found = violations_of_spec(&json!({"apiVersion": "v", "kind": "k", "metadata": {}, "spec": spec.clone()}));
        let found: Vec<_> = found.iter().map(|v| (v.field.as_str(), v.offence, v.message.as_str())).collect();
        assert_eq!(found, expected, "{spec}");
    }

    #[test]
    fn what_the_schema_allows_is_no_violation() {
        check_spec(
            json!({"refreshIntervalSeconds": 60, "mode": "DryRun", "namespaces": ["a"], "destinations": [
                {"hostname": "a.example", "ports": [{"port": 443, "endPort": 444, "protocol": "UDP"}]},
                {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]},
                {"namespace": {"name": "b", "podSelector": {"matchLabels": {"anything": "goes"}}}}],
                "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}),
            &[],
        );
        check_spec(json!({"destinations": null}), &[]);
    }

    #[test]
    fn a_typo_is_named_with_what_was_probably_meant() {
        let meant = |name: &str| format!("is an unknown field and ignored; did you mean {name}?");
        check_spec(
            json!({"destinations": [{"hostnames": "a"}]}),
            &[("spec.destinations[0].hostnames", Offence::UnknownField, &meant("hostname"))],
        );
        check_spec(json!({"Mode": "x"}), &[("spec.Mode", Offence::UnknownField, &meant("mode"))]);
        check_spec(json!({"egress": []}), &[("spec.egress", Offence::UnknownField, "is an unknown field and ignored")]);
    }

    #[test]
    fn wrong_types_and_words_are_named_with_the_value() {
        check_spec(
            json!({"destinations": [{"ip": 8, "ports": [{"port": "https"}, {}]}], "mode": "enforce"}),
            &[
                ("spec.destinations[0].ip", Offence::Type, "8 is not a string"),
                ("spec.destinations[0].ports[0].port", Offence::Type, "\"https\" is not an integer"),
                ("spec.destinations[0].ports[1].port", Offence::Type, "is missing"),
                ("spec.mode", Offence::Type, "\"enforce\" is not one of \"Enforce\", \"DryRun\""),
            ],
        );
    }

    #[test]
    fn bounds_are_checked() {
        check_spec(
            json!({"refreshIntervalSeconds": 0, "retentionSeconds": 2_592_001, "destinations": [
                {"hostname": "a".repeat(255)}, {"ip": "192.0.2.1", "ports": []}]}),
            &[
                ("spec.destinations[0].hostname", Offence::Bound, "has 255 characters, at most 254 are allowed"),
                ("spec.destinations[1].ports", Offence::Bound, "has 0 entries, at least 1 are needed"),
                ("spec.refreshIntervalSeconds", Offence::Bound, "0 is less than 1"),
                ("spec.retentionSeconds", Offence::Bound, "2592001 is more than 2592000"),
            ],
        );
    }

    #[test]
    fn two_kinds_of_destination_at_once_are_named_with_the_one_that_counts() {
        check_spec(
            json!({"destinations": [{"ip": "192.0.2.1", "hostname": "a.example", "cidr": null}]}),
            &[(
                "spec.destinations[0]",
                Offence::Bound,
                "has hostname and ip: exactly one is allowed, and hostname counts",
            )],
        );
    }
}
