//! Several servers.

use egress_controller::actors::resolver::ResolverMsg;
use egress_domain::answer::{Family, Outcome, Resolution};
use egress_testbed::dns::DnsServer;

use crate::bed::{Bed, Ear, answer, hear, texts, v4};

const HOST: &str = "api.example.com";

async fn three() -> [DnsServer; 3] {
    let mut servers = Vec::new();
    for last in 1..=3 {
        let dns = DnsServer::start().await.unwrap();
        dns.set_host(HOST, &[v4(last)], 1);
        servers.push(dns);
    }
    servers.try_into().unwrap()
}

fn all(resolution: &Resolution) -> Vec<String> {
    match &resolution.outcome {
        Outcome::Answer { addresses, elsewhere, .. } => {
            let mut all = texts(addresses);
            all.extend(texts(elsewhere));
            all.sort();
            all
        }
        Outcome::OneServerFailed | Outcome::Failure(_) => Vec::new(),
    }
}

async fn hear_union(ear: &mut Ear, expected: &[&str]) {
    hear(ear, Family::V4, |resolution| resolution.settled && all(resolution) == expected).await;
}

#[tokio::test]
async fn servers_that_differ_are_united_and_one_that_goes_removes_nothing() {
    let [one, two, three] = three().await;
    let bed = Bed::new(&[&one, &two, &three]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    let union = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    hear_union(&mut ear, &union).await;
    three.stop();
    // Long enough for several refreshes of the two that are left.
    for _ in 0..6 {
        let answer =
            hear(&mut ear, Family::V4, |resolution| matches!(resolution.outcome, Outcome::Answer { .. })).await;
        assert_eq!(all(&answer), union);
    }
}

#[tokio::test]
async fn endpoints_that_come_and_go_are_followed() {
    let [one, two, three] = three().await;
    let bed = Bed::of_cluster(&[&one, &two]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    hear_union(&mut ear, &["192.0.2.1", "192.0.2.2"]).await;
    bed.resolver.cast(ResolverMsg::SetServers(vec![two.addr(), three.addr()])).unwrap();
    hear_union(&mut ear, &["192.0.2.2", "192.0.2.3"]).await;
    let servers: Vec<String> = bed.snapshot().await.servers.into_keys().collect();
    let mut expected = vec![two.addr().to_string(), three.addr().to_string()];
    expected.sort();
    assert_eq!(servers, expected);
}

#[tokio::test]
async fn without_an_endpoint_resolv_conf_stands_in_and_is_counted() {
    let [one, ..] = three().await;
    let bed = Bed::of_cluster(&[&one]).await;
    assert!(bed.metrics().contains("resolver_fallback_to_resolv_conf 0"));
    bed.resolver.cast(ResolverMsg::SetServers(Vec::new())).unwrap();
    assert!(bed.snapshot().await.fallback_to_resolv_conf);
    assert!(bed.metrics().contains("resolver_fallback_to_resolv_conf 1"));
    bed.resolver.cast(ResolverMsg::SetServers(vec![one.addr()])).unwrap();
    let mut ear = bed.subscribe(1, &[HOST]);
    assert_eq!(answer(&mut ear, Family::V4).await.1, ["192.0.2.1"]);
    assert!(!bed.snapshot().await.fallback_to_resolv_conf);
}
