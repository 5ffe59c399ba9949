//! Label selectors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::Labels;

/// Whether `selector` selects an object with these labels. An empty selector selects every object.
pub(super) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|requirement| satisfies(labels, requirement))
}

fn satisfies(labels: &Labels, requirement: &LabelSelectorRequirement) -> bool {
    let value = labels.get(&requirement.key);
    let listed = requirement.values.as_deref().unwrap_or_default();
    match (requirement.operator.as_str(), listed) {
        ("In", [_, ..]) => value.is_some_and(|value| listed.contains(value)),
        // A label that is absent has none of the values.
        ("NotIn", [_, ..]) => value.is_none_or(|value| !listed.contains(value)),
        ("Exists", []) => value.is_some(),
        ("DoesNotExist", []) => value.is_none(),
        _ => false,
    }
}
