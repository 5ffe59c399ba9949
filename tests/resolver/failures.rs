//! Servers that fail.

use std::time::{Duration, Instant};

use egress_domain::answer::{Family, LookupFailure, Outcome};
use egress_testbed::dns::{DnsServer, RecordType, Script};

use crate::bed::{Bed, Ear, answer, hear, v4};

const HOST: &str = "api.example.com";

async fn failure(ear: &mut Ear, family: Family) -> LookupFailure {
    let resolution = hear(ear, family, |resolution| !matches!(resolution.outcome, Outcome::OneServerFailed)).await;
    match resolution.outcome {
        Outcome::Failure(failure) => failure,
        outcome => panic!("{outcome:?}"),
    }
}

async fn check(script: Script, expected: &[LookupFailure]) {
    let dns = DnsServer::start().await.unwrap();
    dns.set_all(Some(script));
    let bed = Bed::new(&[&dns]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    let failure = failure(&mut ear, Family::V4).await;
    assert!(expected.contains(&failure), "{failure:?}");
}

#[tokio::test]
async fn servfail_and_refused_are_told_as_such() {
    check(Script::ServFail, &[LookupFailure::ServFail]).await;
    check(Script::Refused, &[LookupFailure::Refused]).await;
}

#[tokio::test]
async fn silence_is_a_timeout_after_two_attempts() {
    let started = Instant::now();
    check(Script::Silence, &[LookupFailure::Timeout]).await;
    assert!(started.elapsed() >= Duration::from_millis(3_900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_answer_to_another_id_is_not_believed() {
    let inner = Box::new(Script::answer([v4(66)], 30));
    check(Script::WrongId(inner), &[LookupFailure::Timeout, LookupFailure::BadAnswer]).await;
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_believed() {
    let inner = Box::new(Script::answer([v4(66)], 30));
    check(Script::WrongQuestion(inner), &[LookupFailure::Timeout, LookupFailure::BadAnswer]).await;
}

#[tokio::test]
async fn a_port_that_refuses_is_a_failure_soon() {
    let dns = DnsServer::start().await.unwrap();
    dns.stop();
    let bed = Bed::new(&[&dns]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    let failure = failure(&mut ear, Family::V4).await;
    assert!(matches!(failure, LookupFailure::Unreachable | LookupFailure::Timeout), "{failure:?}");
}

#[tokio::test]
async fn a_family_that_fails_does_not_hold_up_the_other() {
    let dns = DnsServer::start().await.unwrap();
    dns.set(HOST, RecordType::A, Script::answer([v4(1)], 30));
    dns.set(HOST, RecordType::AAAA, Script::ServFail);
    let bed = Bed::new(&[&dns]).await;
    let mut ear = bed.subscribe(1, &[HOST]);
    assert_eq!(answer(&mut ear, Family::V4).await.1, ["192.0.2.1"]);
    let mut ear = bed.subscribe(2, &[HOST]);
    assert_eq!(failure(&mut ear, Family::V6).await, LookupFailure::ServFail);
}

/// Three seconds of this for everything at the start, then answers for 300 hosts.
async fn check_recovery(outage: Script) {
    let dns = DnsServer::start().await.unwrap();
    dns.set_all(Some(outage));
    let bed = Bed::new(&[&dns]).await;
    let hosts: Vec<String> = (0..300).map(|n| format!("h{n}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for host in &hosts {
        dns.set_host(host, &[v4(1)], 600);
    }
    let mut ear = bed.subscribe(1, &hosts);
    tokio::time::sleep(Duration::from_secs(3)).await;
    dns.set_all(None);
    let ended = Instant::now();
    let mut missing: std::collections::BTreeSet<&str> = hosts.iter().copied().collect();
    while !missing.is_empty() {
        let is_answer = |outcome: &Outcome| matches!(outcome, Outcome::Answer { .. });
        let resolution = hear(&mut ear, Family::V4, |resolution| is_answer(&resolution.outcome)).await;
        missing.remove(resolution.host.as_str());
    }
    assert!(ended.elapsed() <= Duration::from_secs(8), "{:?}", ended.elapsed());
    assert!(bed.snapshot().await.servers.values().all(|health| *health == "up"));
}

#[tokio::test]
async fn after_an_outage_with_servfail_every_host_is_answered_soon() {
    check_recovery(Script::ServFail).await;
}

#[tokio::test]
async fn after_an_outage_in_silence_every_host_is_answered_soon() {
    check_recovery(Script::Silence).await;
}
