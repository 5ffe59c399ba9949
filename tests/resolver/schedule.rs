//! When hosts are asked for again.

use std::time::Duration;

use egress_controller::actors::resolver::ResolverMsg;
use egress_domain::answer::Family;
use egress_testbed::dns::{DnsServer, RecordType, Script};

use crate::bed::{Bed, Flags, PATIENCE, answer, v4};

const HOST: &str = "api.example.com";

/// The seconds between the first questions for a host with this script: at least so many, on average at most so many.
async fn check(script: Script, min_refresh: f64, questions: u64, at_least: f64, at_most: f64) {
    let dns = DnsServer::start().await.unwrap();
    dns.set(HOST, RecordType::A, script);
    let flags = Flags { min_refresh: Duration::from_secs_f64(min_refresh), ..Flags::default() };
    let bed = Bed::with(&[&dns], flags).await;
    let _ear = bed.subscribe(1, &[HOST]);
    dns.wait_for_count(HOST, RecordType::A, questions, PATIENCE).await.unwrap();
    let times = dns.times(HOST, RecordType::A);
    for pair in times.windows(2) {
        let between = (pair[1] - pair[0]).as_secs_f64();
        // A question that is noted late shortens the time to the next one, but not the whole.
        assert!(between >= at_least - LATE, "{between} s between two questions");
    }
    let (whole, pairs) = ((times[times.len() - 1] - times[0]).as_secs_f64(), (times.len() - 1) as f64);
    let (least, most) = (at_least * pairs - LATE, at_most * pairs);
    assert!((least..=most).contains(&whole), "{whole} s for {} questions, not {least} to {most} s", times.len());
}

/// How late a busy machine may note a question.
const LATE: f64 = 0.25;

/// What a busy machine may add to a timer and a round trip.
const SLACK: f64 = 0.6;

#[tokio::test]
async fn a_host_is_asked_for_again_when_its_answer_expires() {
    check(Script::answer([v4(1)], 2), 0.3, 4, 1.99, 2.2 + SLACK).await;
}

#[tokio::test]
async fn a_ttl_of_zero_does_not_spin() {
    check(Script::answer([v4(1)], 0), 0.5, 5, 0.49, 0.5 + SLACK).await;
}

#[tokio::test]
async fn the_shortest_ttl_of_a_chain_counts() {
    let chain = vec![("a.example.net".parse().unwrap(), 60), ("b.example.net".parse().unwrap(), 1)];
    let then = Box::new(Script::answer([v4(1)], 60));
    check(Script::Cname { chain, then }, 0.3, 3, 0.99, 1.2 + SLACK).await;
}

#[tokio::test]
async fn a_negative_answer_holds_for_the_minimum_of_its_soa() {
    check(Script::NxDomain { soa_minimum: 1 }, 0.3, 3, 0.99, 1.2 + SLACK).await;
    check(Script::NoData { soa_minimum: 1 }, 0.3, 3, 0.99, 1.2 + SLACK).await;
}

#[tokio::test]
async fn a_thousand_subscribers_of_a_host_cost_one_question_per_server_and_type() {
    let (one, two) = (DnsServer::start().await.unwrap(), DnsServer::start().await.unwrap());
    for dns in [&one, &two] {
        dns.set_host(HOST, &[v4(1)], 600);
    }
    let bed = Bed::new(&[&one, &two]).await;
    let mut ears: Vec<_> = (0..1_000).map(|subscriber| bed.subscribe(subscriber, &[HOST])).collect();
    for ear in &mut ears {
        assert_eq!(answer(ear, Family::V4).await.1, ["192.0.2.1"]);
    }
    for dns in [&one, &two] {
        dns.wait_for_total(2, PATIENCE).await.unwrap();
        let counts = [RecordType::A, RecordType::AAAA].map(|kind| dns.count(HOST, kind));
        assert_eq!((counts, dns.total()), ([1, 1], 2));
    }
}

#[tokio::test]
async fn a_host_that_comes_back_while_its_answer_is_valid_costs_no_question() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_host(HOST, &[v4(1)], 600);
    let bed = Bed::new(&[&dns]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    answer(&mut ear, Family::V4).await;
    bed.resolver.cast(ResolverMsg::Unsubscribe { subscriber: 1 }).unwrap();
    let mut ear = bed.subscribe(2, &[HOST]);
    assert_eq!(answer(&mut ear, Family::V4).await.1, ["192.0.2.1"]);
    assert_eq!(dns.count(HOST, RecordType::A), 1);
    assert!(
        bed.metrics().contains("resolver_cache_hits_total 1") || bed.metrics().contains("resolver_cache_hits_total 2")
    );
}

#[tokio::test]
async fn questions_keep_to_the_permitted_rate() {
    let dns = DnsServer::start().await.unwrap();
    let bed = Bed::with(&[&dns], Flags { queries_per_second: 100, ..Flags::default() }).await;
    let hosts: Vec<String> = (0..132).map(|n| format!("h{n}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let started = std::time::Instant::now();
    let _ear = bed.subscribe(1, &hosts);
    // 264 questions: a burst of 64, then 200 at 100 per second.
    dns.wait_for_total(264, PATIENCE).await.unwrap();
    let took = started.elapsed().as_secs_f64();
    // Half the rate would take 4 s.
    assert!((1.9..4.0).contains(&took), "{took} s");
}
