//! What the replies mean, with bodies that kube-apiserver 1.36.3 gave, and what the bodies of requests carry.

use std::collections::BTreeMap;

use egress_domain::api::{EgressPolicyStatus, FENCE_ANNOTATION};
use egress_domain::object::PolicyKey;
use egress_domain::write::PolicyEvent;
use serde_json::{Value, json};

use super::*;

const CREATE: fn() -> Method = || Method::Create([].into());
const APPLY: fn() -> Method = || Method::Apply([].into());

fn status_patch() -> Method {
    Method::StatusJson([].into())
}

/// The Status that comes with a failure.
fn failure(code: u16, reason: &str, message: &str, details: Value) -> Reply {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    });
    Reply { code, retry_after: None, body: body.to_string().into_bytes() }
}

#[track_caller]
fn check(method: Method, reply: Reply, expected: Result<WriteOutcome, TransientKind>) {
    match (reply::judge(&method, reply), expected) {
        (Err(Ended::Final(outcome)), Ok(expected)) => assert_eq!(outcome, expected),
        (Err(Ended::ForNow(transient)), Err(expected)) => assert_eq!(transient.kind, expected),
        (judged, expected) => panic!("{judged:?} is not {expected:?}"),
    }
}

#[test]
fn a_name_that_is_taken_is_told_apart_from_a_quota_that_two_creates_charge() {
    let details = json!({"name": "a", "group": "networking.k8s.io", "kind": "networkpolicies"});
    let taken = "networkpolicies.networking.k8s.io \"a\" already exists";
    check(CREATE(), failure(409, "AlreadyExists", taken, details), Ok(WriteOutcome::AlreadyExists));
    let quota = "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply your \
                 changes to the latest version and try again";
    let details = json!({"name": "q", "kind": "resourcequotas"});
    check(CREATE(), failure(409, "Conflict", quota, details), Err(TransientKind::Conflict));
}

#[test]
fn a_missing_or_terminating_namespace_is_gone() {
    let missing =
        failure(404, "NotFound", "namespaces \"nope\" not found", json!({"name": "nope", "kind": "namespaces"}));
    check(CREATE(), missing, Ok(WriteOutcome::NamespaceGone));
    let details = json!({
        "name": "b", "group": "networking.k8s.io", "kind": "networkpolicies",
        "causes": [{"reason": "NamespaceTerminating", "message": "namespace t2 is being terminated", "field": "metadata.namespace"}],
    });
    let message = "networkpolicies.networking.k8s.io \"b\" is forbidden: unable to create new content in namespace t2 \
                   because it is being terminated";
    check(CREATE(), failure(403, "Forbidden", message, details), Ok(WriteOutcome::NamespaceGone));
}

#[test]
fn an_object_that_is_gone_or_another_is_stale() {
    let named = json!({"name": "a", "group": "networking.k8s.io", "kind": "networkpolicies"});
    let not_found = failure(404, "NotFound", "networkpolicies.networking.k8s.io \"a\" not found", named.clone());
    check(Method::Merge([].into()), not_found, Ok(WriteOutcome::Stale));
    let gone = "Operation cannot be fulfilled on networkpolicies.networking.k8s.io \"a\": uid mismatch: the provided \
                object specified uid 267dfa9c, and no existing object was found";
    check(APPLY(), failure(409, "Conflict", gone, named.clone()), Ok(WriteOutcome::Stale));
    let modified = "Operation cannot be fulfilled on networkpolicies.networking.k8s.io \"a\": the object has been \
                    modified; please apply your changes to the latest version and try again";
    check(Method::Merge([].into()), failure(409, "Conflict", modified, named), Ok(WriteOutcome::Stale));
    let immutable = json!({
        "name": "a", "group": "networking.k8s.io", "kind": "NetworkPolicy",
        "causes": [{"reason": "FieldValueInvalid", "message": "Invalid value: \"x\": field is immutable", "field": "metadata.uid"}],
    });
    check(APPLY(), failure(422, "Invalid", "… field is immutable", immutable), Ok(WriteOutcome::Stale));
    // A page that is no Status: the CRD is not installed.
    let page = Reply { code: 404, body: b"404 page not found\n".to_vec(), ..Reply::default() };
    check(status_patch(), page, Ok(WriteOutcome::Stale));
}

#[test]
fn a_failed_test_of_the_status_patch_is_stale_but_a_refused_status_is_not() {
    let test = "the server rejected our request due to an error in our request";
    check(status_patch(), failure(422, "Invalid", test, json!({})), Ok(WriteOutcome::Stale));
    check(
        Method::Merge([].into()),
        failure(422, "Invalid", test, json!({})),
        Ok(WriteOutcome::Rejected(test.to_owned())),
    );
    let duplicate = "EgressPolicy.platform.example.com \"web\" is invalid: status.conditions[1]: Duplicate value";
    let causes = json!({"causes": [{"reason": "FieldValueDuplicate", "field": "status.conditions[1]"}]});
    let rejected = Ok(WriteOutcome::Rejected(duplicate.to_owned()));
    check(status_patch(), failure(422, "Invalid", duplicate, causes), rejected);
}

#[test]
fn what_the_server_refuses_for_good_is_rejected_with_its_words() {
    let invalid =
        "NetworkPolicy.networking.k8s.io \"bad\" is invalid: spec.egress[0].to[0].ipBlock.cidr: Invalid value";
    let causes = json!({"causes": [{"reason": "FieldValueInvalid", "field": "spec.egress[0].to[0].ipBlock.cidr"}]});
    check(CREATE(), failure(422, "Invalid", invalid, causes), Ok(WriteOutcome::Rejected(invalid.to_owned())));
    let malformed =
        "NetworkPolicy in version \"v1\" cannot be handled as a NetworkPolicy: json: cannot unmarshal string";
    check(
        CREATE(),
        failure(400, "BadRequest", malformed, json!(null)),
        Ok(WriteOutcome::Rejected(malformed.to_owned())),
    );
    let forbidden = "networkpolicies.networking.k8s.io \"egress-web\" is forbidden: no egress in this cluster";
    check(CREATE(), failure(403, "Forbidden", forbidden, json!({})), Ok(WriteOutcome::Rejected(forbidden.to_owned())));
    // Says 500 and gives no reason, but no retry helps.
    let schema = "failed to create typed patch object (t1/web; platform.example.com/v1alpha1, Kind=EgressPolicy): \
                  .status.fence: field not declared in schema";
    check(APPLY(), failure(500, "", schema, json!(null)), Ok(WriteOutcome::Rejected(schema.to_owned())));
    check(CREATE(), Reply { code: 406, ..Reply::default() }, Ok(WriteOutcome::Rejected("HTTP 406".to_owned())));
}

#[test]
fn too_large_is_told_in_four_ways() {
    let request = "Request entity too large: limit is 3145728";
    let etcd = "etcdserver: request is too large";
    let connection =
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2097203 vs. 2097152)";
    let annotations = "NetworkPolicy.networking.k8s.io \"big\" is invalid: metadata.annotations: Too long";
    let causes = json!({"causes": [{"reason": "FieldValueTooLong", "field": "metadata.annotations"}]});
    for (reply, message) in [
        (failure(413, "RequestEntityTooLarge", request, json!(null)), request),
        (failure(500, "", etcd, json!(null)), etcd),
        (failure(500, "", connection, json!(null)), connection),
        (failure(422, "Invalid", annotations, causes), annotations),
    ] {
        check(CREATE(), reply, Ok(WriteOutcome::TooLarge(message.to_owned())));
    }
}

#[test]
fn what_may_succeed_later_is_for_now() {
    for (code, reason, message, expected) in [
        (401, "Unauthorized", "Unauthorized", TransientKind::Unauthorized),
        // RBAC, as an API server says it that has not read the roles yet.
        (
            403,
            "Forbidden",
            "networkpolicies.networking.k8s.io is forbidden: User \"system:serviceaccount:a:b\" cannot create resource",
            TransientKind::Unauthorized,
        ),
        (408, "", "", TransientKind::Timeout),
        (500, "InternalError", "failed calling webhook", TransientKind::ServerError),
        (500, "", "etcdserver: request timed out", TransientKind::ServerError),
        (503, "ServiceUnavailable", "apiserver is shutting down", TransientKind::ServerError),
        (504, "Timeout", "Timeout: request did not complete within the allotted timeout", TransientKind::Timeout),
        (302, "", "", TransientKind::Interrupted),
    ] {
        check(APPLY(), failure(code, reason, message, json!(null)), Err(expected));
    }
}

#[test]
fn a_429_is_plain_text_and_its_header_counts() {
    let retry_after = Some(Duration::from_secs(1));
    let body = b"Too many requests, please try again later.\n".to_vec();
    let judged = reply::judge(&APPLY(), Reply { code: 429, retry_after, body });
    let Err(Ended::ForNow(transient)) = judged else { panic!("{judged:?}") };
    assert_eq!(transient, Transient { kind: TransientKind::Throttled, retry_after });
}

fn policy(annotations: &[(&str, &str)]) -> NetworkPolicy {
    let mut object = NetworkPolicy::default();
    object.metadata.name = Some("egress-web".to_owned());
    object.metadata.uid = Some("u".to_owned());
    object.metadata.resource_version = Some("7".to_owned());
    object.metadata.managed_fields = Some(Vec::new());
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    object.metadata.annotations = Some(annotations.collect::<BTreeMap<_, _>>()).filter(|all| !all.is_empty());
    object
}

#[test]
fn a_stamp_is_written_on_whatever_is_created_applied_or_patched() {
    let stamp = || Some("17/4711".to_owned());
    for object in [policy(&[]), policy(&[("book", "1"), (FENCE_ANNOTATION, "17/3")])] {
        for written in [body::create(&object, stamp()), body::apply(&object, stamp())] {
            assert_eq!(written.metadata.annotations.unwrap_or_default()[FENCE_ANNOTATION], "17/4711");
        }
    }
    let annotation = |patch: Value| patch["metadata"]["annotations"][FENCE_ANNOTATION].clone();
    assert_eq!(annotation(body::owners(&policy(&[]), stamp())), "17/4711");
    assert_eq!(annotation(body::stamp("u", "7", "17/4711")), "17/4711");
    let status = EgressPolicyStatus { observed_generation: Some(3), ..EgressPolicyStatus::default() };
    assert_eq!(body::status("u", &status, stamp())[1]["value"], json!({"observedGeneration": 3, "fence": "17/4711"}));
}

#[test]
fn without_a_stamp_nothing_is_added() {
    assert_eq!(body::apply(&policy(&[]), None).metadata.annotations, None);
    assert_eq!(body::owners(&policy(&[]), None)["metadata"].get("annotations"), None);
    assert_eq!(body::status("u", &EgressPolicyStatus::default(), None)[1]["value"], json!({}));
}

#[test]
fn a_create_claims_no_identity_and_an_apply_carries_it() {
    let created = body::create(&policy(&[]), None).metadata;
    assert_eq!((created.uid, created.resource_version, created.managed_fields), (None, None, None));
    let applied = body::apply(&policy(&[]), None).metadata;
    assert_eq!((applied.uid.as_deref(), applied.managed_fields), (Some("u"), None));
}

#[test]
fn an_event_has_a_legal_name_of_its_own_and_a_note_that_fits() {
    let reporter = body::Reporter::new("pod-1");
    let policy = PolicyKey::new("team", format!("{}.-x", "a".repeat(230)));
    let event = PolicyEvent { uid: "u".to_owned(), reason: "GuardRail", note: "ü".repeat(600), warning: true };
    let (first, second) = (reporter.event(&policy, 1, &event), reporter.event(&policy, u64::MAX, &event));
    assert_ne!(first.metadata.name, second.metadata.name);
    assert_eq!(first.metadata.name, reporter.event(&policy, 1, &event).metadata.name);
    let name = second.metadata.name.unwrap_or_default();
    assert!(name.len() <= 253 && !name.contains("-.") && !name.contains(".."), "{name}");
    assert_eq!(second.note.map(|note| note.len()), Some(1_024));
    assert_eq!(second.type_.as_deref(), Some("Warning"));
}

fn client() -> Client {
    let Ok(url) = "http://127.0.0.1:1".parse() else { panic!("a URL") };
    Client::try_from(kube::Config::new(url)).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_denied_write_is_fenced_and_never_sent() {
    let gate = Gate::new(|_, _| Err(super::super::gate::Denied));
    let applier = Applier::new(client(), gate, RequestTimeout::new(DEFAULT_WRITE_TIMEOUT), "pod-1");
    let policy_key = PolicyKey::new("team", "web");
    let object = Box::new(policy(&[]));
    let delete = WriteRequest::Delete { uid: "u".to_owned(), resource_version: "7".to_owned() };
    let status = WriteRequest::Status { uid: "u".to_owned(), status: Box::default() };
    for (key, request) in [
        (ObjectKey::NetworkPolicy(policy_key.clone()), WriteRequest::Create(object.clone())),
        (ObjectKey::NetworkPolicy(policy_key.clone()), WriteRequest::Apply(object.clone())),
        (ObjectKey::NetworkPolicy(policy_key.clone()), WriteRequest::RepairOwners(object.clone())),
        (ObjectKey::DefaultDeny("team".into()), delete),
        (ObjectKey::Status(policy_key.clone()), status),
    ] {
        assert_eq!(
            applier.execute(&key, &applier.prepare(&key, &request, None), None).await,
            Ok(WriteOutcome::Fenced),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn a_request_that_must_not_be_sent_is_rejected() {
    let applier = Applier::new(client(), Gate::open(), RequestTimeout::new(DEFAULT_WRITE_TIMEOUT), "pod-1");
    let policy_key = PolicyKey::new("team", "web");
    let mut without_uid = policy(&[]);
    without_uid.metadata.uid = None;
    for (key, request) in [
        (ObjectKey::NetworkPolicy(policy_key.clone()), WriteRequest::Apply(Box::new(without_uid))),
        (ObjectKey::NetworkPolicy(policy_key.clone()), WriteRequest::RemoveKopf),
        (ObjectKey::Status(policy_key), WriteRequest::Read),
    ] {
        let outcome = applier.execute(&key, &applier.prepare(&key, &request, None), None).await;
        assert!(matches!(outcome, Ok(WriteOutcome::Rejected(_))), "{request:?} gave {outcome:?}");
    }
}

#[test]
fn the_server_is_told_our_timeout() {
    let timeout = Duration::from_millis(1_500);
    assert_eq!(with_timeout("/a", timeout), "/a?timeout=1500ms");
    assert_eq!(with_timeout("/a?", timeout), "/a?timeout=1500ms");
    assert_eq!(with_timeout("/a?force=true", timeout), "/a?force=true&timeout=1500ms");
}

#[test]
fn a_time_out_is_never_longer_than_wanted_nor_than_the_lease_allows() {
    let timeout = RequestTimeout::new(Duration::from_secs(10));
    timeout.bound(Duration::from_secs(3));
    assert_eq!(timeout.get(), Duration::from_secs(3));
    timeout.bound(Duration::from_secs(60));
    assert_eq!(timeout.get(), Duration::from_secs(10));
}
