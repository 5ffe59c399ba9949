//! Whose an object is, and what we put around a spec.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::settings::Settings;

const UID: &str = "8c1f";

fn key() -> PolicyKey {
    PolicyKey::new("n", "p")
}

fn object(value: Value) -> NetworkPolicy {
    serde_json::from_value(value).unwrap()
}

fn owner_of(kind: &str, name: &str, uid: &str) -> Value {
    let group = if kind == KIND { "platform.example.com/v1alpha1" } else { "apps/v1" };
    json!({"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": kind == KIND})
}

fn owned_by(owners: Value) -> Value {
    json!({"metadata": {"name": "egress-p", "namespace": "n", "ownerReferences": owners}, "spec": {"podSelector": {}}})
}

/// What the Python operator writes, as the API server returns it.
fn of_seed() -> Value {
    let namespace = |name: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]);
    json!({
        "metadata": {"name": "egress-p", "namespace": "n", "uid": "x", "resourceVersion": "7"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": namespace("kube-system"), "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {
                "to": [{"ipBlock": {"cidr": "140.82.121.6/32"}}, {"ipBlock": {"cidr": "172.16.0.10/32"}}],
                "ports": [{"protocol": "TCP", "port": 443}],
            },
            {"to": namespace("backup-tools")},
            {"to": namespace("shared-services")},
        ]},
    })
}

fn seed_with(path: &str, value: Value) -> Value {
    let mut changed = of_seed();
    *changed.pointer_mut(path).unwrap() = value;
    changed
}

#[track_caller]
fn check(value: &Value, expected: Ownership) {
    assert_eq!(ownership(&object(value.clone()), &key(), UID, Adoption::Seed), expected, "{value}");
}

#[test]
fn an_object_is_ours_by_its_owner_reference() {
    check(&owned_by(json!([owner_of(KIND, "p", UID)])), Ownership::Ours);
    check(&owned_by(json!([owner_of("Deployment", "p", "d"), owner_of(KIND, "p", UID)])), Ownership::Ours);
    check(&owned_by(json!([owner_of(KIND, "q", "7"), owner_of(KIND, "p", UID)])), Ownership::Ours);
}

#[test]
fn an_older_uid_or_a_second_reference_is_ours_to_repair() {
    check(&owned_by(json!([owner_of(KIND, "p", "older")])), Ownership::OursStaleOwner);
    check(&owned_by(json!([owner_of(KIND, "p", "older"), owner_of(KIND, "p", UID)])), Ownership::OursStaleOwner);
}

#[test]
fn another_version_of_our_api_is_ours_as_well() {
    let mut owner = owner_of(KIND, "p", UID);
    owner["apiVersion"] = json!("platform.example.com/v1");
    check(&owned_by(json!([owner])), Ownership::Ours);
}

#[test]
fn anything_else_is_foreign() {
    check(&owned_by(json!(null)), Ownership::Foreign);
    check(&owned_by(json!([])), Ownership::Foreign);
    check(&owned_by(json!([owner_of("Deployment", "p", UID)])), Ownership::Foreign);
    check(&owned_by(json!([owner_of(KIND, "q", UID)])), Ownership::Foreign);
    let mut owner = owner_of(KIND, "p", UID);
    owner["apiVersion"] = json!("platform.example.org/v1alpha1");
    check(&owned_by(json!([owner])), Ownership::Foreign);
}

#[test]
fn the_adopt_annotation_allows_adoption_when_it_is_exactly_true() {
    for (value, expected) in [("true", Ownership::Adoptable), ("True", Ownership::Foreign), ("", Ownership::Foreign)] {
        let mut foreign = owned_by(json!([owner_of("Deployment", "d", "d")]));
        foreign["metadata"]["annotations"] = json!({"platform.example.com/adopt": value});
        check(&foreign, expected);
        let never = ownership(&object(foreign), &key(), UID, Adoption::Never);
        assert_eq!(never, expected, "the flag speaks of the seed's objects only");
    }
}

#[test]
fn the_seeds_exact_shape_may_be_adopted_unless_the_flag_says_never() {
    check(&of_seed(), Ownership::Adoptable);
    assert_eq!(ownership(&object(of_seed()), &key(), UID, Adoption::Never), Ownership::Foreign);
    let without_namespaces = json!([of_seed()["spec"]["egress"][0], of_seed()["spec"]["egress"][1]]);
    check(&seed_with("/spec/egress", without_namespaces), Ownership::Adoptable);
    let reordered = json!([{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}]);
    check(&seed_with("/spec/egress/0/ports", reordered), Ownership::Adoptable);
}

#[test]
fn metadata_of_somebody_makes_it_foreign() {
    for (field, value) in [
        ("labels", json!({"app.kubernetes.io/managed-by": "Helm"})),
        ("annotations", json!({"note": "mine"})),
        ("ownerReferences", json!([owner_of("Deployment", "d", "d")])),
    ] {
        let mut near = of_seed();
        near["metadata"][field] = value;
        check(&near, Ownership::Foreign);
    }
}

#[test]
fn everything_near_the_seeds_shape_is_foreign() {
    let named = |name: &str| json!({"kubernetes.io/metadata.name": name});
    let exists = json!([{"key": "tier", "operator": "Exists"}]);
    for (path, value) in [
        ("/spec", json!(null)),
        ("/spec/podSelector", json!({"matchLabels": {"app": "web"}})),
        ("/spec/policyTypes", json!(["Egress", "Ingress"])),
        ("/spec/policyTypes", json!(null)),
        ("/spec/egress", json!([])),
        ("/spec/egress", json!([of_seed()["spec"]["egress"][0]])),
        ("/spec/egress/0/to/0/namespaceSelector/matchLabels", named("kube-public")),
        ("/spec/egress/0/to/0", json!({"namespaceSelector": {"matchLabels": named("kube-system")}, "podSelector": {}})),
        ("/spec/egress/0/ports", json!([{"protocol": "UDP", "port": 53}])),
        ("/spec/egress/0/ports/0/port", json!(54)),
        ("/spec/egress/0/ports/0/port", json!("dns")),
        ("/spec/egress/1/to", json!([])),
        ("/spec/egress/1/to/0/ipBlock/cidr", json!("140.82.121.0/24")),
        ("/spec/egress/1/to/0/ipBlock", json!({"cidr": "140.82.121.6/32", "except": ["140.82.121.6/32"]})),
        ("/spec/egress/1/to/0", json!({"podSelector": {}})),
        ("/spec/egress/1/ports/0", json!({"protocol": "TCP", "port": 80})),
        ("/spec/egress/1/ports/0", json!({"protocol": "TCP", "port": 443, "endPort": 444})),
        ("/spec/egress/1/ports", json!([{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 80}])),
        ("/spec/egress/1/ports", json!(null)),
        ("/spec/egress/2", json!({"to": of_seed()["spec"]["egress"][2]["to"], "ports": [{"port": 80}]})),
        ("/spec/egress/2/to", json!([{"namespaceSelector": {}}])),
        ("/spec/egress/2/to/0/namespaceSelector/matchLabels", json!({"team": "a"})),
        ("/spec/egress/2/to/0/namespaceSelector", json!({"matchLabels": named("a"), "matchExpressions": exists})),
        (
            "/spec/egress/2/to",
            json!([of_seed()["spec"]["egress"][2]["to"][0], of_seed()["spec"]["egress"][3]["to"][0]]),
        ),
    ] {
        check(&seed_with(path, value), Ownership::Foreign);
    }
    let mut ingress = of_seed();
    ingress["spec"]["ingress"] = json!([{}]);
    check(&ingress, Ownership::Foreign);
}

fn policy(uid: &str) -> ValidatedPolicy {
    let value = json!({
        "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {},
    });
    ValidatedPolicy::parse(&serde_json::from_value(value).unwrap(), &Settings::default())
}

#[test]
fn what_is_written_is_marked_ours_and_carries_the_book() {
    let written = owned(&policy(UID), NetworkPolicySpec::default(), &AddressBook::default(), Some("np"));
    assert_eq!(
        serde_json::to_value(&written.metadata).unwrap(),
        json!({
            "name": "egress-p", "namespace": "n", "uid": "np",
            "labels": {"app.kubernetes.io/managed-by": "egress-controller"},
            "annotations": {"platform.example.com/book": r#"{"v":1,"hosts":{}}"#},
            "ownerReferences": [{
                "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "name": "p", "uid": UID,
                "controller": true,
            }],
        }),
    );
    assert_eq!(ownership(&written, &key(), UID, Adoption::Never), Ownership::Ours);
    assert!(is_marked(&written, &key()));
    assert_eq!(book_text(&written), Some(r#"{"v":1,"hosts":{}}"#));
}

#[test]
fn a_policy_from_a_file_has_neither_owner_nor_book() {
    let written = owned(&policy(""), NetworkPolicySpec::default(), &AddressBook::default(), None);
    assert_eq!((&written.metadata.owner_references, &written.metadata.annotations), (&None, &None));
}

#[test]
fn the_default_deny_closes_all_pods_and_has_no_egress_field() {
    assert_eq!(
        serde_json::to_value(default_deny("n")).unwrap(),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {
                "name": "default-deny-egress", "namespace": "n",
                "labels": {"app.kubernetes.io/managed-by": "egress-controller"},
            },
            "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
        }),
    );
}

#[test]
fn an_object_without_our_label_or_owner_is_not_marked() {
    let mut written = owned(&policy(UID), NetworkPolicySpec::default(), &AddressBook::default(), None);
    written.metadata.labels = Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), "Helm".to_owned())]));
    assert!(!is_marked(&written, &key()));
    written.metadata.labels = Some(managed_by());
    assert!(is_marked(&written, &key()));
    assert!(!is_marked(&written, &PolicyKey::new("n", "q")));
    written.metadata.owner_references = None;
    assert!(!is_marked(&written, &key()));
}

#[test]
fn the_owner_is_the_policy_that_the_objects_name_says() {
    let found = |owners| owner(&object(owned_by(owners))).map(|(key, uid)| (key.to_string(), uid.to_owned()));
    let ours = Some(("n/p".to_owned(), UID.to_owned()));
    assert_eq!(found(json!([owner_of(KIND, "p", UID)])), ours);
    assert_eq!(found(json!([owner_of("Deployment", "p", "d"), owner_of(KIND, "p", UID)])), ours);
    assert_eq!(found(json!([owner_of(KIND, "q", "7"), owner_of(KIND, "p", UID)])), ours);
    assert_eq!(found(json!([owner_of(KIND, "q", "7")])), None);
    assert_eq!(found(json!([owner_of("Deployment", "p", UID)])), None);
    assert_eq!(found(json!(null)), None);
}

#[test]
fn repaired_owners_keep_foreign_references_and_have_the_present_owner_once() {
    let before = json!([
        owner_of("Deployment", "p", "d"),
        owner_of(KIND, "p", "older"),
        owner_of(KIND, "q", "7"),
        owner_of(KIND, "p", UID),
    ]);
    let after = repaired_owners(&object(owned_by(before)), &policy(UID));
    let uids: Vec<&str> = after.iter().map(|owner| owner.uid.as_str()).collect();
    assert_eq!(uids, ["d", "7", UID]);
    let repaired = owned_by(serde_json::to_value(after).unwrap());
    check(&repaired, Ownership::Ours);
    assert_eq!(repaired_owners(&object(owned_by(json!(null))), &policy(UID)).len(), 1);
}

#[test]
fn other_managers_are_named_once_and_sorted_without_ours() {
    let entries = ["kubectl", "egress-controller", "helm", "kubectl"].map(|manager| json!({"manager": manager}));
    let managed = object(json!({"metadata": {"managedFields": entries}}));
    assert_eq!(other_managers(&managed), ["helm", "kubectl"]);
    assert_eq!(other_managers(&NetworkPolicy::default()), [""; 0]);
}

#[test]
fn a_spec_allows_by_its_blocks_less_their_holes() {
    let spec = serde_json::from_value(json!({"egress": [
        {"to": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}}, {"podSelector": {}}]},
        {"to": [{"ipBlock": {"cidr": "2001:db8::1/128"}}, {"ipBlock": {"cidr": "nonsense"}}]}, {},
    ]}));
    let blocks: Vec<_> = blocks(&spec.unwrap()).collect();
    for (address, expected) in
        [("192.0.2.1", true), ("192.0.2.9", false), ("192.0.3.1", false), ("2001:db8::1", true), ("2001:db8::2", false)]
    {
        assert_eq!(allows(&blocks, address.parse().unwrap()), expected, "{address}");
    }
}

proptest! {
    #[test]
    fn after_a_repair_every_object_is_ours(
        owners in prop::collection::vec((prop::sample::select(&[KIND, "Deployment"][..]), 0..3_usize, 0..3_usize), 0..5),
    ) {
        let (names, uids) = (["p", "q", "r"], [UID, "older", "other"]);
        let owners: Vec<Value> = owners.iter().map(|(kind, name, uid)| owner_of(kind, names[*name], uids[*uid])).collect();
        let mut stored = object(owned_by(json!(owners)));
        stored.metadata.owner_references = Some(repaired_owners(&stored, &policy(UID)));
        prop_assert_eq!(ownership(&stored, &key(), UID, Adoption::Never), Ownership::Ours);
        prop_assert_eq!(owner(&stored).map(|(key, uid)| (key, uid.to_owned())), Some((key(), UID.to_owned())));
        prop_assert_eq!(repaired_owners(&stored, &policy(UID)), stored.metadata.owner_references.unwrap());
    }
}
