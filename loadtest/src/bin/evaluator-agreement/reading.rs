//! How cyclonus v0.5.6 reads a case otherwise than Kubernetes does; docs/evaluator.md says why.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::case::{Case, Outcome};

/// One deviation, as a change of the case after which a right evaluator says what cyclonus says of the unchanged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    /// `NotIn` is not met by an object without the label.
    NotInNeedsTheLabel,
    /// A value `""` in `matchLabels` is met by an object without the label.
    EmptyValueMatchesAbsence,
    /// An IPv4-mapped IPv6 address is the IPv4 address.
    MappedIsIpv4,
}

impl Reading {
    /// All, in the order in which [`Reading::apply`] has to go.
    pub const ALL: [Self; 3] = [Self::NotInNeedsTheLabel, Self::EmptyValueMatchesAbsence, Self::MappedIsIpv4];

    fn apply(self, policies: &mut [NetworkPolicy], case: &mut Case) {
        match self {
            Self::NotInNeedsTheLabel => selectors(policies).for_each(also_require_the_label),
            Self::EmptyValueMatchesAbsence => {
                let others = other_values(case);
                selectors(policies).for_each(|selector| forbid_instead(selector, &others));
            }
            Self::MappedIsIpv4 => case.ip = case.ip.to_canonical(),
        }
    }
}

/// The smallest set of readings under which both evaluators agree; empty where they agree as it is. None when cyclonus
/// says something else than all its readings together would have it say.
pub fn explain(policies: &[NetworkPolicy], case: &Case, theirs: Outcome) -> Option<Vec<Reading>> {
    let agrees = |readings: &[Reading]| {
        let (mut policies, mut case) = (policies.to_vec(), case.clone());
        readings.iter().for_each(|reading| reading.apply(&mut policies, &mut case));
        case.outcome(&policies) == theirs
    };
    if !agrees(&Reading::ALL) {
        return None;
    }
    let mut subsets: Vec<_> = (0..1 << Reading::ALL.len()).map(subset).collect();
    subsets.sort_by_key(Vec::len);
    subsets.into_iter().find(|subset| agrees(subset))
}

/// The names of these readings, for people.
pub fn names(readings: &[Reading]) -> String {
    readings.iter().map(|reading| format!("{reading:?}")).collect::<Vec<_>>().join(" + ")
}

fn subset(bits: usize) -> Vec<Reading> {
    let chosen = Reading::ALL.into_iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
    chosen.map(|(_, reading)| reading).collect()
}

fn selectors(policies: &mut [NetworkPolicy]) -> impl Iterator<Item = &mut LabelSelector> {
    policies.iter_mut().filter_map(|policy| policy.spec.as_mut()).flat_map(|spec| {
        let rules = spec.egress.iter_mut().flatten();
        let peers = rules.flat_map(|rule| rule.to.iter_mut().flatten());
        let of_peers = peers.flat_map(|peer| peer.pod_selector.iter_mut().chain(&mut peer.namespace_selector));
        spec.pod_selector.iter_mut().chain(of_peers)
    })
}

fn also_require_the_label(selector: &mut LabelSelector) {
    let Some(requirements) = &mut selector.match_expressions else { return };
    let keys = requirements.iter().filter(|requirement| requirement.operator == "NotIn").map(|r| r.key.clone());
    let exists = |key| LabelSelectorRequirement { key, operator: "Exists".to_owned(), values: None };
    let more: Vec<_> = keys.map(exists).collect();
    requirements.extend(more);
}

/// "Empty or absent" is "none of the other values".
fn forbid_instead(selector: &mut LabelSelector, others: &[String]) {
    let Some(labels) = &mut selector.match_labels else { return };
    let requirements = selector.match_expressions.get_or_insert_default();
    labels.retain(|key, value| {
        let keep = !value.is_empty();
        if !keep {
            let (key, operator) = (key.clone(), "NotIn".to_owned());
            requirements.push(LabelSelectorRequirement { key, operator, values: Some(others.to_vec()) });
        }
        keep
    });
}

/// All label values of the case but the empty one, and one that nobody has, since the list must not be empty.
fn other_values(case: &Case) -> Vec<String> {
    let pods = case.pod.iter().chain([&case.source]);
    let values = pods.flat_map(|pod| pod.labels.values().chain(pod.namespace_labels.values()));
    values.filter(|value| !value.is_empty()).cloned().chain(["nobody-has-this".to_owned()]).collect()
}
