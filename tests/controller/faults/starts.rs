//! Starts that cannot succeed are refused at once, with the reason.

use std::process::{Command, Output};

/// Runs until it ends by itself.
async fn start(flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-controller"));
    command.arg("run").args(flags);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
}

/// A kubeconfig of a cluster that is not there: what is wrong must be found before the cluster is asked.
fn kubeconfig() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n";
    std::fs::write(&file, text).unwrap();
    let flag = format!("--kubeconfig={}", file.display());
    (folder, flag)
}

#[tokio::test]
async fn a_kubeconfig_that_does_not_exist_is_an_error_that_names_it() {
    let output = start(&["--kubeconfig=/nonexistent/kubeconfig", "--listen=127.0.0.1:0"]).await;
    assert_refused(&output, &["--kubeconfig /nonexistent/kubeconfig", "No such file or directory"]);
}

#[tokio::test]
async fn a_cap_whose_address_book_does_not_fit_is_an_error_that_says_so() {
    let (_folder, kubeconfig) = kubeconfig();
    let output = start(&[&kubeconfig, "--listen=127.0.0.1:0", "--max-addresses-per-policy=100000"]).await;
    assert_refused(&output, &["--max-addresses-per-policy 100000", "address book", "204800"]);
}

#[tokio::test]
async fn dns_servers_that_are_none_are_an_error_that_quotes_them() {
    let (_folder, kubeconfig) = kubeconfig();
    let output = start(&[&kubeconfig, "--listen=127.0.0.1:0", "--dns-servers=10.0.0.10,dns.example"]).await;
    assert_refused(&output, &["--dns-servers", "\"dns.example\" is neither"]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let (_folder, kubeconfig) = kubeconfig();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = start(&[&kubeconfig, &format!("--listen={address}")]).await;
    assert_refused(&output, &[&format!("--listen {address}"), "Address already in use"]);
}
