//! Hosts that are looked up, with the controller's resolver and a scripted server.

use std::net::IpAddr;
use std::time::Duration;

use egress_testbed::dns::{DnsServer, RecordType, Script};

use crate::folder::{Ended, Folder, policy};

/// Seconds that the hosts are waited for; answers come at once, also on a loaded machine.
const PATIENCE: &str = "30";

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn render(dns: &DnsServer, hosts: &[&str], more: &'static [&'static str]) -> Ended {
    render_within(PATIENCE, dns, hosts, more).await
}

/// Renders in a thread of its own: the server needs this one.
async fn render_within(seconds: &'static str, dns: &DnsServer, hosts: &[&str], more: &'static [&'static str]) -> Ended {
    let list: Vec<String> = hosts.iter().map(|host| format!("{{hostname: {host}}}")).collect();
    let folder = Folder::new(&[("a.yaml", &policy("a", &format!("{{destinations: [{}]}}", list.join(", "))))]);
    let server = dns.addr().to_string();
    let run = move || {
        let args = ["--dns-servers", &server, "--first-sight-deadline-seconds", seconds];
        folder.render(&[&args, more].concat())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn both_families_are_looked_up() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_host("a.example", &addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]), 60);
    let printed = render(&dns, &["a.example"], &[]).await.expect(0, &[]);
    for part in ["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let printed = render(&dns, &["a.example"], &["--ip-families", "ipv6"]).await.expect(0, &[]);
    assert!(printed.contains("2001:db8::1/128") && !printed.contains("192.0.2.1"), "{printed}");
    assert_eq!(dns.count("a.example", RecordType::A), 1);
}

#[tokio::test]
async fn given_hosts_cause_no_question() {
    let dns = DnsServer::start().await.unwrap();
    render(&dns, &["a.example"], &["--resolve", "a.example=192.0.2.1"]).await.expect(0, &[]);
    assert_eq!(dns.total(), 0);
}

#[tokio::test]
async fn a_host_without_an_answer_is_a_warning_and_the_rest_is_printed() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_host("good.example", &addresses(&["192.0.2.1"]), 60);
    dns.set("bad.example", RecordType::A, Script::ServFail);
    dns.set("bad.example", RecordType::AAAA, Script::ServFail);
    let hosts = ["good.example", "none.example", "bad.example"];
    let told = [
        "warning: a.yaml: document 1: spec.destinations[1].hostname: none.example has no address (NXDOMAIN): nothing is allowed for it",
        "warning: a.yaml: document 1: spec.destinations[2].hostname: bad.example has no address (SERVFAIL): nothing is allowed for it",
    ];
    let printed = render(&dns, &hosts, &[]).await.expect(0, &told);
    assert!(printed.contains("192.0.2.1/32"), "{printed}");
    render(&dns, &hosts, &["--strict"]).await.expect(3, &told);
}

#[tokio::test]
async fn a_lost_family_is_a_warning() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_host("a.example", &addresses(&["192.0.2.1"]), 60);
    dns.set("a.example", RecordType::AAAA, Script::Refused);
    let told = "warning: a.yaml: document 1: spec.destinations[0].hostname: a.example: one address family has no answer (REFUSED)";
    let printed = render(&dns, &["a.example"], &[]).await.expect(0, &[told]);
    assert!(printed.contains("192.0.2.1/32"), "{printed}");
}

#[tokio::test]
async fn a_silent_server_is_waited_for_until_the_deadline() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_all(Some(Script::Silence));
    let told = "warning: a.yaml: document 1: spec.destinations[0].hostname: a.example has no address (no answer within 0.5 s): nothing is allowed for it";
    render_within("0.5", &dns, &["a.example"], &[]).await.expect(0, &[told]);
}

#[tokio::test]
async fn an_answer_slower_than_others_is_waited_for() {
    let dns = DnsServer::start().await.unwrap();
    let slow = Script::answer(addresses(&["192.0.2.1"]), 60).delayed(Duration::from_millis(400));
    dns.set("a.example", RecordType::A, slow);
    let printed = render(&dns, &["a.example"], &[]).await.expect(0, &[]);
    assert!(printed.contains("192.0.2.1/32"), "{printed}");
}

#[tokio::test]
async fn addresses_that_no_name_may_open_are_left_out_with_a_warning() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_host("a.example", &addresses(&["192.0.2.1", "169.254.169.254", "198.51.100.1"]), 60);
    let told = "warning: a.yaml: document 1: spec.destinations[0].hostname: a.example answers 169.254.169.254, 198.51.100.1: \
                addresses of this kind are never allowed by a name (loopback, link-local, platform, denied)";
    let printed = render(&dns, &["a.example"], &["--deny-answer-cidr", "198.51.100.0/24"]).await.expect(0, &[told]);
    assert!(
        printed.contains("192.0.2.1/32") && !printed.contains("169.254") && !printed.contains("198.51.100"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_name_of_the_cluster_is_not_looked_up() {
    let dns = DnsServer::start().await.unwrap();
    let told = "warning: a.yaml: document 1: spec.destinations[0].hostname: db.shop.svc.cluster.local has no address \
                (inside the cluster: use a namespace destination): nothing is allowed for it";
    render(&dns, &["db.shop.svc.cluster.local"], &[]).await.expect(0, &[told]);
    assert_eq!(dns.total(), 0);
}
