//! `egress-controller explain`, the program itself: on files, and on a cluster.

use std::process::Command;

use anyhow::Result;
use egress_controller::cli::crd;
use egress_domain::api::EgressPolicy;
use egress_testbed::ControlPlane;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

/// Two policies of one namespace that overlap, one of another kind each way.
const POLICIES: &str = "\
apiVersion: platform.example.com/v1alpha1
kind: EgressPolicy
metadata: {name: a, namespace: team}
spec:
  destinations:
  - {hostname: api.example.com}
  - {hostname: mail.example.com, ports: [{port: 587}]}
  - {cidr: 203.0.113.0/24, except: [203.0.113.7/32]}
  - namespace: {name: shared, podSelector: {matchLabels: {app: db}}}
    ports: [{port: 5432}]
  namespaces: [backup]
---
apiVersion: platform.example.com/v1alpha1
kind: EgressPolicy
metadata: {name: b, namespace: team}
spec:
  podSelector: {matchLabels: {app: web}}
  destinations:
  - {hostname: api.example.com}
  - {ip: 198.51.100.9}
---
apiVersion: platform.example.com/v1alpha1
kind: EgressPolicy
metadata: {name: c, namespace: team}
spec:
  mode: DryRun
  destinations:
  - {ip: 198.51.100.10}
";
const HOSTS: &str = "api.example.com=192.0.2.1\nmail.example.com=192.0.2.2\n";

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-controller"));
    let output = command.env_clear().arg("explain").args(args).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The exit code, and lines that the explanation has, without file names and times.
#[track_caller]
fn check(question: &[&str], code: i32, lines: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICIES).unwrap();
    std::fs::write(folder.path().join("hosts"), HOSTS).unwrap();
    let path = folder.path().to_str().unwrap();
    let (ended, text, told) = run(&[&[path, "--namespace", "team", "--dns-servers", "127.0.0.1:1"], question].concat());
    let text = text.replace(&format!("{path}/"), "");
    let found: Vec<String> = text.lines().skip(1).map(without_time).collect();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!((ended, found.as_slice()), (Some(code), lines), "{told}");
}

/// The moment of an answer is another in every run.
fn without_time(line: &str) -> String {
    match line.split_once(", last answered ") {
        Some((before, time)) => format!("{before}{}", time.split_once('Z').map_or("", |(_, after)| after)),
        None => line.to_owned(),
    }
}

#[test]
fn an_allowed_host_names_every_policy_and_destination_behind_it() {
    check(
        &["--to", "api.example.com", "--pod-labels", "app=web"],
        0,
        &[
            "192.0.2.1: allowed",
            "  NetworkPolicy egress-a, egress rule 2",
            "    EgressPolicy a (p.yaml: document 1): spec.destinations[0].hostname: api.example.com",
            "  NetworkPolicy egress-b, egress rule 2",
            "    EgressPolicy b (p.yaml: document 2): spec.destinations[0].hostname: api.example.com",
        ],
    );
}

#[test]
fn another_port_is_told() {
    check(
        &["--to", "mail.example.com"],
        1,
        &[
            "192.0.2.2: denied",
            "  restricted by default-deny-egress, egress-a; no rule allows it",
            "  EgressPolicy a (p.yaml: document 1): spec.destinations[1].hostname: mail.example.com: opens TCP 587 only",
        ],
    );
}

#[test]
fn other_pods_a_dry_run_and_an_except_are_told() {
    let denied = "  restricted by default-deny-egress, egress-a; no rule allows it";
    check(
        &["--to", "198.51.100.9"],
        1,
        &[
            "198.51.100.9: denied",
            denied,
            "  EgressPolicy b (p.yaml: document 2): spec.destinations[1]: 198.51.100.9/32: does not select these pods",
        ],
    );
    check(
        &["--to", "198.51.100.10"],
        1,
        &[
            "198.51.100.10: denied",
            denied,
            "  EgressPolicy c (p.yaml: document 3): spec.destinations[0]: 198.51.100.10/32: would allow it, but is a DryRun",
        ],
    );
    check(
        &["--to", "203.0.113.7"],
        1,
        &[
            "203.0.113.7: denied",
            denied,
            "  EgressPolicy a (p.yaml: document 1): spec.destinations[2]: 203.0.113.0/24: an except leaves this address out",
        ],
    );
}

#[test]
fn pods_of_namespaces_are_judged() {
    check(
        &["--to", "pod:backup", "--port", "9000", "--protocol", "udp"],
        0,
        &[
            "pods of backup without labels: allowed",
            "  NetworkPolicy egress-a, egress rule 4",
            "    EgressPolicy a (p.yaml: document 1): spec.namespaces[0]: namespace backup",
        ],
    );
    check(
        &["--to", "pod:shared/app=db", "--port", "5432"],
        0,
        &[
            "pods of shared with app=db: allowed",
            "  NetworkPolicy egress-a, egress rule 5",
            "    EgressPolicy a (p.yaml: document 1): spec.destinations[3]: namespace shared",
        ],
    );
}

#[test]
fn the_dns_rule_is_named_as_such() {
    check(
        &["--to", "pod:kube-system/k8s-app=kube-dns", "--port", "53", "--protocol", "UDP"],
        0,
        &[
            "pods of kube-system with k8s-app=kube-dns: allowed",
            "  NetworkPolicy egress-a, egress rule 1",
            "    no destination of EgressPolicy a (p.yaml: document 1): the DNS rule, or an older spec",
        ],
    );
}

#[test]
fn rendered_files_alone_explain_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("p.yaml"), POLICIES).unwrap();
    std::fs::write(path("hosts"), HOSTS).unwrap();
    let render = Command::new(env!("CARGO_BIN_EXE_egress-controller"))
        .args(["render", &path("p.yaml"), "-o", &path("out")])
        .output();
    assert!(render.unwrap().status.success());
    let (code, text, _) = run(&[&path("out"), "--namespace", "team", "--to", "192.0.2.1"]);
    let expected = "pods of team without labels to 192.0.2.1, TCP 443\n192.0.2.1: allowed\n  NetworkPolicy egress-a, egress rule 2\n";
    assert_eq!((code, text.as_str()), (Some(0), expected));
    let (code, text, _) = run(&[&path("out"), "--namespace", "elsewhere", "--to", "192.0.2.1"]);
    assert_eq!(code, Some(0));
    assert!(text.ends_with("  no NetworkPolicy restricts the egress of these pods\n"), "{text}");
}

#[test]
fn a_question_that_is_none_is_an_error() {
    for question in [["--to", "*.example.com"], ["--to", "pod:A"], ["--port", "0"]] {
        assert_eq!(run(&[&["examples", "--namespace", "team", "--to", "a.b"][..2], &question[..]].concat()).0, Some(2));
    }
}

#[tokio::test]
async fn a_cluster_is_explained_by_the_answers_that_are_stored_there() -> Result<()> {
    let control_plane = ControlPlane::shared().await;
    control_plane.apply_crd(&crd::yaml()?).await?;
    let namespace = control_plane.unique_namespace("explain").await?;
    let create = PostParams::default();
    let policy: EgressPolicy = serde_json::from_value(json!({
        "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": "a"},
        "spec": {"destinations": [{"hostname": "api.example.com"}]}}))?;
    Api::namespaced(control_plane.client(), &namespace).create(&create, &policy).await?;
    // 29,390,400 minutes after the epoch.
    let book = r#"{"v":1,"hosts":{"api.example.com":{"192.0.2.1":29390400}}}"#;
    let stored: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": "egress-a", "annotations": {"platform.example.com/book": book}},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"port": 443, "protocol": "TCP"}]}]}}))?;
    Api::namespaced(control_plane.client(), &namespace).create(&create, &stored).await?;

    let kubeconfig = control_plane.kubeconfig_file();
    let resolve = "api.example.com=192.0.2.1,192.0.2.2";
    let ask = move || {
        run(&[
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--namespace",
            &namespace,
            "--to",
            "api.example.com",
            "--resolve",
            resolve,
        ])
    };
    let (code, text, told) = tokio::task::spawn_blocking(ask).await?;
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let expected = [
        "192.0.2.1: allowed",
        "  NetworkPolicy egress-a, egress rule 1",
        "    EgressPolicy a: spec.destinations[0].hostname: api.example.com, last answered 2025-11-18T00:00:00Z",
        "192.0.2.2: denied",
        "  restricted by egress-a; no rule allows it",
        "  EgressPolicy a: spec.destinations[0].hostname: api.example.com: names the host, but no answer held this address",
    ];
    assert_eq!((code, lines.as_slice()), (Some(1), expected.as_slice()), "{told}");
    Ok(())
}
