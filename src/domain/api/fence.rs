//! The fence in the API server: admission policies that refuse what a replica writes for a shard that is not its own.
//!
//! A write carries a stamp, `shard/epoch`: NetworkPolicies in [`FENCE_ANNOTATION`], the status of an EgressPolicy in
//! `status.fence`. The policies compare it with the [`SHARD_TABLE`], their parameter, and with the pod name that the
//! token of the request carries. They concern the controller's service account and nobody else.
//!
//! * A missing parameter is judged before the user is looked at, so a policy that matched every NetworkPolicy would close
//!   all of them to everybody while there is no table. The label of ours keeps that to our own objects; and those can
//!   still be deleted then, or no namespace that has one could go.
//! * The user is asked for in the rules and not in matchConditions: these would convert both objects once more for each
//!   write, which is a quarter of what the fence costs. The expressions themselves cost next to nothing.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, PolicyRulesWithSubjects, PriorityLevelConfigurationReference, ResourcePolicyRule,
    ServiceAccountSubject, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use serde_json::json;

use super::{EgressShardTable, FENCE_ANNOTATION, FIELD_MANAGER, GROUP, MANAGED_BY_LABEL, SHARD_TABLE, VERSION};

/// Name of the policy for NetworkPolicies, and of its binding for creates and updates.
pub const FENCE_POLICY: &str = "egress-controller-fence";
/// Name of the binding for deletes.
pub const FENCE_DELETE_BINDING: &str = "egress-controller-fence-delete";
/// Name of the policy for the status of EgressPolicies, and of its binding.
pub const FENCE_STATUS_POLICY: &str = "egress-controller-fence-status";
/// Name of the FlowSchema that keeps the signs of life of replicas out of the queue of their writes.
pub const LEASES_FLOW_SCHEMA: &str = "egress-controller-leases";

/// Before the FlowSchema for service accounts (9000), behind those of the system's own leader elections (100, 200).
const FLOW_SCHEMA_PRECEDENCE: i32 = 210;
/// What bound tokens say of the pod they were made for.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// How the message of the second rule starts.
const NEWER: &str = "newer epoch: ";

/// The stamp is the entry that the table gives to the requesting pod. The table's schema does the rest: an entry is
/// `pod/epoch` and nothing else, no pod is called `-`, and a stamp of more or fewer than two parts fits no entry.
const PRESENT_ENTRY: &str = "variables.other || params.spec.?shards[?variables.stamp.split('/')[0]].orValue('') == \
                             variables.pod + '/' + variables.stamp.split('/', 2)[?1].orValue('')";

/// Why the fence refused a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FenceRefusal {
    /// The stamp is not the present entry of the requesting pod, or there is no table.
    Stale,
    /// The stored object has a newer epoch, and the write would change its spec.
    NewerEpoch,
}

/// What the message of a refusal says; nothing where the fence did not refuse. Where several admission policies refuse a
/// write, the API server tells the first only.
pub fn is_fence_refusal(message: &str) -> Option<FenceRefusal> {
    let is_of = |policy: &str| message.contains(&format!("ValidatingAdmissionPolicy '{policy}' "));
    if !is_of(FENCE_POLICY) && !is_of(FENCE_STATUS_POLICY) {
        return None;
    }
    let newer = message.contains(&format!("denied request: {NEWER}"));
    Some(if newer { FenceRefusal::NewerEpoch } else { FenceRefusal::Stale })
}

/// The service account that the controller runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceAccountRef {
    fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// The policy for NetworkPolicies.
pub fn fence_policy(account: &ServiceAccountRef) -> ValidatingAdmissionPolicy {
    let ours = LabelSelector {
        match_labels: Some([(MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned())].into()),
        ..LabelSelector::default()
    };
    let matches = MatchResources {
        object_selector: Some(ours),
        ..on("networking.k8s.io", "v1", "networkpolicies", &["CREATE", "UPDATE", "DELETE"])
    };
    let stamp = |object: &str| format!("{object}.metadata.?annotations[?'{FENCE_ANNOTATION}'].orValue('')");
    let variables = vec![
        variable("stamp", &stamp("(object == null ? oldObject : object)")),
        variable("old", &format!("oldObject == null ? '' : {}", stamp("oldObject"))),
    ];
    let present = validation(
        PRESENT_ENTRY,
        &format!(
            "stale: annotation {FENCE_ANNOTATION} is not SHARD/EPOCH of a shard that EgressShardTable {SHARD_TABLE} gives to the requesting pod"
        ),
    );
    // What is no stamp has no epoch. A tenant may write a high one, which must not pin the object: hence the leave to
    // change anything but the spec.
    let is_stamp = |variable: &str| format!("variables.{variable}.matches('^[0-9]{{1,5}}/[0-9]{{1,18}}$')");
    let not_older = validation(
        &format!(
            "variables.other || variables.old == variables.stamp || !{} || !{} || \
             int(variables.old.split('/')[1]) <= int(variables.stamp.split('/')[1]) || object.spec == oldObject.spec",
            is_stamp("old"),
            is_stamp("stamp"),
        ),
        &format!(
            "{NEWER}the stored NetworkPolicy has a higher epoch in annotation {FENCE_ANNOTATION}; only a write that leaves spec unchanged may lower it"
        ),
    );
    policy(FENCE_POLICY, account, matches, variables, vec![present, not_older])
}

/// The policy for the status of EgressPolicies, whose metadata an update of the status cannot change.
pub fn fence_status_policy(account: &ServiceAccountRef) -> ValidatingAdmissionPolicy {
    let matches = on(GROUP, VERSION, "egresspolicies/status", &["UPDATE"]);
    let present = validation(
        PRESENT_ENTRY,
        &format!(
            "stale: status.fence is not SHARD/EPOCH of a shard that EgressShardTable {SHARD_TABLE} gives to the requesting pod"
        ),
    );
    let variables = vec![variable("stamp", "object.?status.fence.orValue('')")];
    policy(FENCE_STATUS_POLICY, account, matches, variables, vec![present])
}

/// What puts the policies into force.
pub fn fence_bindings() -> [ValidatingAdmissionPolicyBinding; 3] {
    let only = |operations: &[&str]| Some(on("networking.k8s.io", "v1", "networkpolicies", operations));
    [
        binding(FENCE_POLICY, FENCE_POLICY, only(&["CREATE", "UPDATE"]), "Deny"),
        binding(FENCE_DELETE_BINDING, FENCE_POLICY, only(&["DELETE"]), "Allow"),
        binding(FENCE_STATUS_POLICY, FENCE_STATUS_POLICY, None, "Deny"),
    ]
}

/// Puts the signs of life of the replicas, and their table, into the priority level of leader elections.
pub fn leases_flow_schema(account: &ServiceAccountRef) -> FlowSchema {
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        service_account: Some(ServiceAccountSubject {
            namespace: account.namespace.clone(),
            name: account.name.clone(),
        }),
        ..Subject::default()
    };
    let rule = |group: &str, resource: &str| ResourcePolicyRule {
        verbs: vec!["*".to_owned()],
        api_groups: vec![group.to_owned()],
        resources: vec![resource.to_owned()],
        ..ResourcePolicyRule::default()
    };
    let leases = ResourcePolicyRule {
        namespaces: Some(vec![account.namespace.clone()]),
        ..rule("coordination.k8s.io", "leases")
    };
    let table = ResourcePolicyRule { cluster_scope: Some(true), ..rule(GROUP, "egressshardtables") };
    let spec = FlowSchemaSpec {
        matching_precedence: Some(FLOW_SCHEMA_PRECEDENCE),
        priority_level_configuration: PriorityLevelConfigurationReference { name: "leader-election".to_owned() },
        rules: Some(vec![PolicyRulesWithSubjects {
            resource_rules: Some(vec![leases, table]),
            subjects: vec![subject],
            ..PolicyRulesWithSubjects::default()
        }]),
        ..FlowSchemaSpec::default()
    };
    FlowSchema { metadata: named(LEASES_FLOW_SCHEMA), spec: Some(spec), status: None }
}

fn policy(
    name: &str,
    account: &ServiceAccountRef,
    matches: MatchResources,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
) -> ValidatingAdmissionPolicy {
    // A string of JSON is one of CEL.
    let other = variable("other", &format!("request.userInfo.username != {}", json!(account.username())));
    let pod = variable("pod", &format!("request.userInfo.?extra[?'{POD_NAME}'][?0].orValue('-')"));
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        param_kind: Some(ParamKind {
            api_version: Some(EgressShardTable::api_version(&()).into_owned()),
            kind: Some(EgressShardTable::kind(&()).into_owned()),
        }),
        match_constraints: Some(matches),
        variables: Some([other, pod].into_iter().chain(variables).collect()),
        validations: Some(validations),
        ..ValidatingAdmissionPolicySpec::default()
    };
    ValidatingAdmissionPolicy { metadata: named(name), spec: Some(spec), status: None }
}

fn binding(
    name: &str,
    policy: &str,
    matches: Option<MatchResources>,
    without_table: &str,
) -> ValidatingAdmissionPolicyBinding {
    let spec = ValidatingAdmissionPolicyBindingSpec {
        policy_name: Some(policy.to_owned()),
        match_resources: matches,
        param_ref: Some(ParamRef {
            name: Some(SHARD_TABLE.to_owned()),
            parameter_not_found_action: Some(without_table.to_owned()),
            ..ParamRef::default()
        }),
        validation_actions: Some(vec!["Deny".to_owned()]),
    };
    ValidatingAdmissionPolicyBinding { metadata: named(name), spec: Some(spec) }
}

fn variable(name: &str, expression: &str) -> Variable {
    Variable { name: name.to_owned(), expression: expression.to_owned() }
}

fn validation(expression: &str, message: &str) -> Validation {
    Validation {
        expression: expression.to_owned(),
        message: Some(message.to_owned()),
        // 403 instead of 422: the object is good, the writer is not.
        reason: Some("Forbidden".to_owned()),
        ..Validation::default()
    }
}

fn on(group: &str, version: &str, resource: &str, operations: &[&str]) -> MatchResources {
    let rule = NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        operations: Some(operations.iter().map(|&operation| operation.to_owned()).collect()),
        ..NamedRuleWithOperations::default()
    };
    MatchResources { resource_rules: Some(vec![rule]), ..MatchResources::default() }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: Option<FenceRefusal>) {
        assert_eq!(is_fence_refusal(message), expected, "{message}");
    }

    #[test]
    fn a_refusal_of_the_fence_is_told_from_any_other() {
        let of = |policy: &str, text: &str| {
            format!(
                "networkpolicies.networking.k8s.io \"egress-web\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding 'x' denied request: {text}"
            )
        };
        check(&of("egress-controller-fence", "stale: …"), Some(FenceRefusal::Stale));
        check(&of("egress-controller-fence-status", "stale: …"), Some(FenceRefusal::Stale));
        check(
            &of("egress-controller-fence", "failed to configure binding: no params found"),
            Some(FenceRefusal::Stale),
        );
        check(&of("egress-controller-fence", "newer epoch: …"), Some(FenceRefusal::NewerEpoch));
        check(&of("other", "newer epoch: egress-controller-fence"), None);
        check(
            "networkpolicies.networking.k8s.io is forbidden: User \"egress-controller-fence\" cannot create resource",
            None,
        );
    }

    #[test]
    fn the_policies_concern_the_given_account_only() {
        let account = ServiceAccountRef { namespace: "system".into(), name: "a\"b".into() };
        let other = "request.userInfo.username != \"system:serviceaccount:system:a\\\"b\"";
        for policy in [fence_policy(&account), fence_status_policy(&account)] {
            let spec = policy.spec.unwrap();
            assert_eq!(spec.variables.iter().flatten().next(), Some(&variable("other", other)));
            let rules = spec.validations.unwrap();
            assert!(rules.iter().all(|rule| rule.expression.starts_with("variables.other || ")), "{rules:?}");
        }
    }
}
