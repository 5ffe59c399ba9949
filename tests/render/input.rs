//! What is read, and what is said of it.

use std::io::Write as _;
use std::process::Stdio;

use crate::folder::{Folder, policy};

#[track_caller]
fn check(files: &[(&str, &str)], code: i32, stderr: &[&str]) {
    Folder::new(files).render(&["--strict"]).expect(code, stderr);
}

#[test]
fn an_error_names_file_document_and_field() {
    let good = policy("a", "{destinations: [{ip: 192.0.2.1}]}");
    let bad = policy("b", "{destinations: [{ip: 192.0.2.1}, {ip: 192.0.2.2, ports: [{port: https}]}]}");
    check(
        &[("a.yaml", &format!("{good}---\n{bad}"))],
        2,
        &["error: a.yaml: document 2: spec.destinations[1].ports[0].port: \"https\" is not an integer"],
    );
}

#[test]
fn all_errors_are_told_at_once() {
    let twice = policy("a", "{}");
    check(
        &[("a.yaml", &twice), ("b.yaml", &format!("x: [1\n---\n{twice}")), ("hosts", "a b\n")],
        2,
        &[
            "error: hosts: line 1: \"a b\" is not HOST=IP",
            "error: b.yaml: document 1: unclosed bracket '[' at line 1, column 4",
            "error: b.yaml: document 2: metadata.name: EgressPolicy team/a stands here a second time; the first is a.yaml: document 1",
        ],
    );
}

#[test]
fn a_bad_entry_is_a_warning_and_stops_nothing() {
    let text = policy("a", "{destinations: [{ip: 192.0.2.1}, {ip: 300.1.1.1}, {hostname: '*.example'}, {}]}");
    let folder = Folder::new(&[("a.yaml", &text)]);
    let at = "warning: a.yaml: document 1: spec.destinations";
    let told = [
        format!("{at}[1].ip: \"300.1.1.1\" is not an IPv4 or IPv6 address"),
        format!("{at}[2].hostname: wildcards cannot be resolved to addresses: name each host, or use a cidr"),
        format!("{at}[3]: a destination has one of hostname, ip, cidr and namespace; this has none"),
    ];
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let printed = folder.render(&[]).expect(0, &told);
    assert!(printed.contains("192.0.2.1/32"), "{printed}");
    folder.render(&["--strict"]).expect(3, &told);
}

#[test]
fn a_typo_does_not_pass_silently() {
    let meant = "is an unknown field and ignored; did you mean";
    check(
        &[("a.yaml", &policy("a", "{destinations: [{hostnames: a.example, ip: 192.0.2.1}], Mode: DryRun}"))],
        3,
        &[
            &format!("warning: a.yaml: document 1: spec.Mode: {meant} mode?"),
            &format!("warning: a.yaml: document 1: spec.destinations[0].hostnames: {meant} hostname?"),
        ],
    );
}

#[test]
fn what_kubectl_prints_is_read_from_standard_input() {
    let folder = Folder::new(&[]);
    let mut command = folder.command(&["render", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let list = r#"{"kind": "List", "apiVersion": "v1", "items": [{"apiVersion": "platform.example.com/v1alpha1",
        "kind": "EgressPolicy", "metadata": {"name": "a"}, "spec": {"destinations": [{"ip": "x"}, {"ip": "192.0.2.1"}]}}]}"#;
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told,
        "warning: standard input: document 1: items[0]: spec.destinations[0].ip: \"x\" is not an IPv4 or IPv6 address\n"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("name: egress-a\n  namespace: default\n"), "{printed}");
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let ended = Folder::new(&[]).render(&["nowhere.yaml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.starts_with("error: nowhere.yaml: "), "{}", ended.stderr);
}

#[test]
fn a_hosts_file_beside_the_policies_is_told_and_a_flag_wins_over_it() {
    let folder = Folder::new(&[
        ("in/a.yaml", &policy("a", "{destinations: [{hostname: a.example}, {hostname: b.example}]}")),
        ("in/hosts", "a.example=192.0.2.1\nb.example=192.0.2.2\n"),
        ("hosts", "b.example=192.0.2.9\n"),
    ]);
    let told = "note: in/hosts: gives the addresses of a.example, b.example; DNS is not asked for them";
    let printed = folder.render(&["in", "--resolve", "a.example=[2001:db8::1],198.51.100.1"]).expect(0, &[told]);
    for (part, there) in
        [("198.51.100.1/32", true), ("2001:db8::1/128", true), ("192.0.2.2/32", true), ("192.0.2.1/32", false)]
    {
        assert_eq!(printed.contains(part), there, "{part} in {printed}");
    }
}
