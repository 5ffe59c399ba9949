//! What is asked and what of the answer counts.

use std::net::IpAddr;

use egress_domain::answer::{AnswerKind, Family};
use egress_testbed::dns::{DnsServer, RecordType, Script};

use crate::bed::{Bed, PATIENCE, answer, v4};

const HOST: &str = "api.example.com";

/// The server's script for both types, and the IPv4 addresses that come of it.
async fn check(script: Script, kind: AnswerKind, count: usize) -> Vec<String> {
    let dns = DnsServer::start().await.unwrap();
    dns.set(HOST, RecordType::A, script);
    let bed = Bed::new(&[&dns]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    let (heard, addresses, _) = answer(&mut ear, Family::V4).await;
    assert_eq!((heard, addresses.len()), (kind, count));
    addresses
}

#[tokio::test]
async fn an_address_of_each_family_is_heard() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_host(HOST, &[v4(1), "2001:db8::1".parse().unwrap()], 30);
    let bed = Bed::new(&[&dns]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    let first = answer(&mut ear, Family::V4).await.1;
    assert_eq!(first, ["192.0.2.1"]);
    let mut ear = bed.subscribe(2, &[HOST]);
    assert_eq!(answer(&mut ear, Family::V6).await.1, ["2001:db8::1"]);
}

#[tokio::test]
async fn twenty_addresses_of_one_answer_are_all_heard() {
    check(Script::answer((1..=20).map(v4), 30), AnswerKind::Positive, 20).await;
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_over_tcp() {
    let many = (0..1_000_u32).map(|n| IpAddr::from((0xcb00_0000 + n).to_be_bytes()));
    check(Script::answer(many, 30), AnswerKind::Positive, 1_000).await;
    let truncated = Script::TruncateUdp(Box::new(Script::answer([v4(1)], 30)));
    check(truncated, AnswerKind::Positive, 1).await;
}

#[tokio::test]
async fn a_chain_of_aliases_is_followed() {
    let chain = [("a.example.net", 30), ("b.example.org", 30)].map(|(name, ttl)| (name.parse().unwrap(), ttl));
    let then = Box::new(Script::answer([v4(7)], 30));
    let addresses = check(Script::Cname { chain: chain.into(), then }, AnswerKind::Positive, 1).await;
    assert_eq!(addresses, ["192.0.2.7"]);
}

#[tokio::test]
async fn negative_answers_are_answers() {
    check(Script::NxDomain { soa_minimum: 30 }, AnswerKind::NxDomain, 0).await;
    check(Script::NoData { soa_minimum: 30 }, AnswerKind::NoData, 0).await;
}

#[tokio::test]
async fn names_are_asked_as_they_are_without_search_list() {
    let dns = DnsServer::start().await.unwrap();
    let bed = Bed::new(&[&dns]).await;
    let _ear = bed.subscribe(1, &["single", "_odd.name.example"]);
    dns.wait_for_total(4, PATIENCE).await.unwrap();
    let asked: Vec<String> = dns.counts().into_keys().map(|(name, _)| name).collect();
    assert_eq!(asked, ["_odd.name.example", "_odd.name.example", "single", "single"]);
}
