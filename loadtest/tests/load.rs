//! Scenarios of the load test as a user starts them, small: the report, the exit code, another controller.

use std::path::Path;
use std::process::{Command, Output};

use egress_testbed::control_plane::ControlPlane;
use loadtest_report::Report;

const PROGRAM: &str = env!("CARGO_BIN_EXE_loadtest");
const SIZE: [&str; 3] = ["--policies=30", "--namespaces=6", "--hosts=20"];

/// Goals that hold on any machine: 30 NetworkPolicies and 6 default denies.
const HELD: &str = "goals:
  - {figure: converge.network_policy_writes, at_most: 36, why: Nothing is written twice}
  - {figure: converge.network_policy_writes, at_least: 36, why: Everything is written}
  - {figure: converge.unchanged, at_most: 0, why: Nothing is written twice}
";
/// One that no run can hold.
const MISSED: &str = "goals: [{figure: converge.seconds, at_most: 0, why: Nothing takes no time}]";

/// Our own controller in the place of another one: it is told what any would be.
const OTHER: &str = "replica run --own-namespace=egress-controller --pod-name=other --pod-uid=other --listen=127.0.0.1:0 \
                     --kubeconfig=$KUBECONFIG --dns-servers=$DNS_HOST:$DNS_PORT";
const TEMPLATE: &str = "apiVersion: platform.example.com/v1alpha1
kind: EgressPolicy
metadata: {name: '{{name}}', namespace: '{{namespace}}'}
spec:
  destinations:
  - hostname: '{{host}}'
";

fn converge(folder: &Path, goals: &str, flags: &[&str]) -> (Output, Report) {
    let slo = folder.join("slo.yaml");
    std::fs::write(&slo, goals).unwrap();
    let out = folder.join("out");
    let mut command = Command::new(PROGRAM);
    command.arg("converge").args(SIZE).arg("--slo").arg(slo).arg("--out").arg(&out).args(flags);
    let output = command.output().unwrap();
    let json = std::fs::read_to_string(out.join("converge.json"));
    let json = json.unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
    let page = std::fs::read_to_string(out.join("converge.html")).unwrap();
    assert!(page.contains("<svg"), "a page with plots");
    (output, Report::from_json(&json).unwrap())
}

fn figure(report: &Report, id: &str) -> f64 {
    report.figures.iter().find(|figure| figure.id == id).unwrap_or_else(|| panic!("no {id}")).value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goals_decide_the_exit_code_and_another_controller_is_compared_with_an_earlier_report() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ControlPlane::builder().start().await.unwrap();
    let (output, ours) = converge(folder.path(), HELD, &["--kubeconfig", cluster.kubeconfig_file().to_str().unwrap()]);
    drop(cluster);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(figure(&ours, "converge.seconds") > 0.0);

    let earlier = folder.path().join("earlier.json");
    std::fs::rename(folder.path().join("out/converge.json"), &earlier).unwrap();
    let template = folder.path().join("template.yaml");
    std::fs::write(&template, TEMPLATE).unwrap();
    let other = format!("{PROGRAM} {OTHER}");
    let flags =
        ["--controller", &other, "--template", template.to_str().unwrap(), "--compare", earlier.to_str().unwrap()];
    let (output, others) = converge(folder.path(), MISSED, &flags);
    assert_eq!(output.status.code(), Some(1), "its goal is missed");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("COMPARED"), "{told}");
    assert_eq!(others.setup["controller"], other.as_str());
    assert!(figure(&others, "converge.seconds") > 0.0);
}
