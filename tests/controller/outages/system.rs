//! `--dns-servers system`: whom resolv.conf names is asked.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use egress_testbed::dns::DnsServer;

use super::is_asked_again;
use crate::world::network::{inside_namespace, loopback_with};
use crate::world::{Options, World, hosts, ips};

/// Nobody listens at the first.
const NAMESERVERS: [&str; 2] = ["192.0.2.53", "192.0.2.54"];
const RESOLV_CONF: &str = "search elsewhere.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\noptions ndots:5\n";
/// Set in the process that has it.
const INSIDE: &str = "EGRESS_TEST_WITH_RESOLV_CONF";

/// Whether [`RESOLV_CONF`] is this process's. If not, runs this test (its full name) again where it is, and fails as it
/// fails. For processes inside a namespace of their own, who may mount.
async fn with_resolv_conf(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(RESOLV_CONF.as_bytes()).expect("it is written");
    // `unshare -m` makes every mount private: nobody else sees this one.
    let script = r#"mount --bind "$1" /etc/resolv.conf && exec "$2" "$3" --exact --nocapture"#;
    let mut again = Command::new("unshare");
    again.args(["-m", "sh", "-c", script, "sh"]).arg(file.path()).arg(std::env::current_exe().expect("this program"));
    again.arg(test).env(INSIDE, "1");
    let output = tokio::task::spawn_blocking(move || again.output()).await;
    let output = output.expect("no panic").expect("unshare (util-linux) is there");
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it failed with a resolv.conf of its own: see above");
    assert!(text.contains("1 passed"), "{test} is not the name of this test");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nameserver_of_resolv_conf_stands_in_for_another_and_the_search_list_is_not_used() {
    let name = "outages::system::a_nameserver_of_resolv_conf_stands_in_for_another_and_the_search_list_is_not_used";
    if !inside_namespace(name).await || !with_resolv_conf(name).await {
        return;
    }
    loopback_with(&NAMESERVERS).await;
    let server = DnsServer::start_on(SocketAddr::new(NAMESERVERS[1].parse().unwrap(), 53)).await.unwrap();
    server.set_host("a.example", &ips(&["203.0.113.1", "2001:db8::1"]), 1);
    let world = World::with(Options::default().flag("--dns-servers", "system")).await;
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    world.allows(&namespace, "web", &["203.0.113.1", "2001:db8::1"]).await;

    server.set_host("a.example", &ips(&["203.0.113.2"]), 1);
    world.allows(&namespace, "web", &["203.0.113.1", "203.0.113.2", "2001:db8::1"]).await;

    is_asked_again(&server, "a.example").await;
    assert!(server.counts().keys().all(|(name, _)| name == "a.example"), "{:?}", server.counts());

    // Now none of them answers.
    let before = world.versions(&namespace, "web").await.0;
    server.stop();
    world.controller().metric_is("egress_resolver_servers_down", "", |down| down == 1.0).await;
    assert_eq!(world.versions(&namespace, "web").await.0, before);
}
