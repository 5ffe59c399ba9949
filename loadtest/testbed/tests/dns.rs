//! The scripted DNS server, seen by a raw client and by the resolver that the controller uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use egress_testbed::dns::{DnsServer, RecordType, Script, TIMES_KEPT};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const HOST: &str = "api.example.com";

/// Longer than any answer on loopback takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough to call it silence.
const SILENCE: Duration = Duration::from_millis(300);

const ID: u16 = 4711;

fn v4(count: u16) -> Vec<IpAddr> {
    (0..count).map(|n| IpAddr::from(Ipv4Addr::from(0xc000_0200 + u32::from(n)))).collect()
}

fn v6(count: u16) -> Vec<IpAddr> {
    let base = u128::from("2001:db8::".parse::<Ipv6Addr>().unwrap_or(Ipv6Addr::LOCALHOST));
    (0..count).map(|n| IpAddr::from(Ipv6Addr::from(base + u128::from(n)))).collect()
}

fn question(name: &str, kind: RecordType, payload: Option<u16>) -> Result<Vec<u8>> {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    Ok(message.to_vec()?)
}

async fn over_udp_with(
    dns: &DnsServer,
    name: &str,
    kind: RecordType,
    payload: Option<u16>,
    patience: Duration,
) -> Result<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(dns.addr()).await?;
    socket.send(&question(name, kind, payload)?).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let length = timeout(patience, socket.recv(&mut buffer)).await??;
    Ok(Message::from_vec(&buffer[..length])?)
}

async fn over_udp(dns: &DnsServer, name: &str, kind: RecordType) -> Result<Message> {
    over_udp_with(dns, name, kind, None, PATIENCE).await
}

async fn over_tcp(dns: &DnsServer, name: &str, kind: RecordType) -> Result<Message> {
    let mut stream = TcpStream::connect(dns.addr()).await?;
    let bytes = question(name, kind, None)?;
    stream.write_u16(u16::try_from(bytes.len())?).await?;
    stream.write_all(&bytes).await?;
    let length = timeout(PATIENCE, stream.read_u16()).await??;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer)?)
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let answers = message.answers.iter();
    answers.filter_map(|record| record.data.ip_addr()).collect()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

/// The controller's way to ask: two tries of a second, no cache, no hosts file.
fn resolver(dns: &DnsServer) -> Result<TokioResolver> {
    let port = |mut connection: ConnectionConfig| {
        connection.port = dns.addr().port();
        connection
    };
    let connections = vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())];
    let server = NameServerConfig::new(dns.addr().ip(), true, connections);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = Duration::from_secs(1);
    options.attempts = 1;
    Ok(builder.build()?)
}

/// Response code and negative TTL, or the code of an error.
async fn failure(dns: &DnsServer, kind: RecordType) -> Result<(ResponseCode, Option<u32>)> {
    match resolver(dns)?.lookup(format!("{HOST}."), kind).await {
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Ok((none.response_code, none.negative_ttl)),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Ok((code, None)),
        other => anyhow::bail!("not a failure with a code: {other:?}"),
    }
}

#[tokio::test]
async fn each_family_gets_its_own_addresses() -> Result<()> {
    let dns = DnsServer::start().await?;
    let both = [v4(2), v6(3)].concat();
    dns.set_host(HOST, &both, 60);
    assert_eq!(addresses(&over_udp(&dns, HOST, RecordType::A).await?), v4(2));
    assert_eq!(addresses(&over_udp(&dns, HOST, RecordType::AAAA).await?), v6(3));
    assert_eq!(addresses(&over_tcp(&dns, HOST, RecordType::A).await?), v4(2));
    Ok(())
}

#[tokio::test]
async fn a_ttl_goes_out_as_it_is_from_zero_to_the_largest() -> Result<()> {
    let dns = DnsServer::start().await?;
    for ttl in [0, 1, 86_400, (1 << 31) - 1, 1 << 31] {
        dns.set(HOST, RecordType::A, Script::answer(v4(1), ttl));
        let answer = over_udp(&dns, HOST, RecordType::A).await?;
        assert_eq!(answer.answers[0].ttl, ttl);
    }
    Ok(())
}

#[tokio::test]
async fn a_name_matches_in_any_case_with_or_without_dot_and_is_echoed_as_asked() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set("API.example.com.", RecordType::A, Script::answer(v4(1), 60));
    let answer = over_udp(&dns, "aPi.eXample.cOm", RecordType::A).await?;
    assert_eq!(addresses(&answer), v4(1));
    assert_eq!(answer.queries[0].name().to_ascii(), "aPi.eXample.cOm.");
    assert_eq!(answer.answers[0].name.to_ascii(), "aPi.eXample.cOm.");
    assert_eq!(dns.count("api.EXAMPLE.com", RecordType::A), 1);
    Ok(())
}

#[tokio::test]
async fn a_rotation_in_turn_walks_the_whole_pool() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::round_robin(v4(6), 2, 60));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(addresses(&over_udp(&dns, HOST, RecordType::A).await?));
    }
    assert_eq!(seen, v4(6));
    let again = addresses(&over_udp(&dns, HOST, RecordType::A).await?);
    assert_eq!(again, v4(2));
    Ok(())
}

#[tokio::test]
async fn a_random_rotation_gives_the_same_series_for_the_same_seed() -> Result<()> {
    let dns = DnsServer::start().await?;
    let mut series = Vec::new();
    for seed in [1, 1, 2] {
        dns.set(HOST, RecordType::A, Script::random(v4(100), 8, 60, seed));
        let mut answers = Vec::new();
        for _ in 0..4 {
            let answer = addresses(&over_udp(&dns, HOST, RecordType::A).await?);
            assert_eq!(answer.len(), 8);
            answers.push(answer);
        }
        assert_ne!(answers[0], answers[1]);
        series.push(answers);
    }
    assert_eq!(series[0], series[1]);
    assert_ne!(series[0], series[2]);
    Ok(())
}

#[tokio::test]
async fn a_cname_chain_keeps_its_order_and_its_shortest_ttl_counts() -> Result<()> {
    let dns = DnsServer::start().await?;
    let chain = [("b.example.net", 300), ("c.example.org", 10)];
    let script = Script::cname(&chain, Script::answer(v4(2), 60));
    dns.set(HOST, RecordType::A, script);
    let answer = over_udp(&dns, HOST, RecordType::A).await?;
    let records: Vec<_> = answer.answers.iter().map(|r| (r.name.to_ascii(), r.ttl)).collect();
    let last = ("c.example.org.".to_owned(), 60);
    let first = [("api.example.com.".to_owned(), 300), ("b.example.net.".to_owned(), 10)];
    assert_eq!(records, [&first[..], &[last.clone(), last]].concat());
    assert!(matches!(answer.answers[0].data, RData::CNAME(_)));

    let lookup = resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await?;
    let valid = lookup.valid_until().duration_since(Instant::now());
    assert!(valid <= Duration::from_secs(10) && valid > Duration::from_secs(5), "{valid:?}");
    Ok(())
}

#[tokio::test]
async fn a_chain_may_end_in_nothing() -> Result<()> {
    let dns = DnsServer::start().await?;
    let nothing = Script::nx_domain(17);
    dns.set("b.example.net", RecordType::A, nothing.clone());
    dns.set(HOST, RecordType::A, Script::cname(&[("b.example.net", 300)], nothing));
    let answer = over_udp(&dns, HOST, RecordType::A).await?;
    assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(failure(&dns, RecordType::A).await?, (ResponseCode::NXDomain, Some(17)));
    Ok(())
}

#[tokio::test]
async fn negative_answers_carry_the_soa_minimum() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::nx_domain(17));
    dns.set(HOST, RecordType::AAAA, Script::no_data(18));
    assert_eq!(failure(&dns, RecordType::A).await?, (ResponseCode::NXDomain, Some(17)));
    assert_eq!(failure(&dns, RecordType::AAAA).await?, (ResponseCode::NoError, Some(18)));
    Ok(())
}

#[tokio::test]
async fn servfail_and_refused_reach_the_resolver_as_such() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::ServFail);
    dns.set(HOST, RecordType::AAAA, Script::Refused);
    assert_eq!(failure(&dns, RecordType::A).await?.0, ResponseCode::ServFail);
    assert_eq!(failure(&dns, RecordType::AAAA).await?.0, ResponseCode::Refused);
    Ok(())
}

#[tokio::test]
async fn one_type_of_a_host_can_fail_while_the_other_answers() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set_host(HOST, &v4(1), 60);
    assert_eq!(failure(&dns, RecordType::AAAA).await?, (ResponseCode::NoError, Some(60)));
    dns.set(HOST, RecordType::AAAA, Script::ServFail);
    assert_eq!(failure(&dns, RecordType::AAAA).await?.0, ResponseCode::ServFail);
    assert_eq!(addresses(&over_udp(&dns, HOST, RecordType::A).await?), v4(1));
    Ok(())
}

#[tokio::test]
async fn silence_is_a_timeout_for_the_resolver() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::Silence);
    let outcome = resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await;
    assert!(matches!(outcome, Err(NetError::Timeout)), "{outcome:?}");
    assert!(dns.count(HOST, RecordType::A) >= 1);
    Ok(())
}

#[tokio::test]
async fn a_delayed_answer_holds_no_other_up() -> Result<()> {
    let dns = DnsServer::start().await?;
    let delay = Duration::from_secs(1);
    dns.set("slow.test", RecordType::A, Script::answer(v4(1), 60).delayed(delay));
    dns.set(HOST, RecordType::A, Script::answer(v4(2), 60));
    let began = Instant::now();
    let (slow, slow_tcp, fast) = tokio::try_join!(
        over_udp(&dns, "slow.test", RecordType::A),
        over_tcp(&dns, "slow.test", RecordType::A),
        async {
            let answer = over_udp(&dns, HOST, RecordType::A).await?;
            Ok((answer, began.elapsed()))
        }
    )?;
    assert_eq!((addresses(&slow), addresses(&slow_tcp)), (v4(1), v4(1)));
    assert_eq!(addresses(&fast.0), v4(2));
    assert!(fast.1 < delay && began.elapsed() >= delay, "{:?}", fast.1);
    Ok(())
}

#[tokio::test]
async fn a_truncated_answer_is_empty_over_udp_and_full_over_tcp() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::answer(v4(2), 60).truncated_over_udp());
    let answer = over_udp(&dns, HOST, RecordType::A).await?;
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    let lookup = resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await?;
    assert_eq!(lookup.answers().len(), 2);
    // The raw question, the resolver's over UDP and its repetition over TCP.
    assert_eq!(dns.count(HOST, RecordType::A), 3);
    Ok(())
}

#[tokio::test]
async fn an_answer_too_long_for_the_clients_datagram_is_truncated() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::answer(v4(60), 60));
    let short = over_udp(&dns, HOST, RecordType::A).await?;
    assert!(short.metadata.truncation && short.edns.is_none());
    let long = over_udp_with(&dns, HOST, RecordType::A, Some(1232), PATIENCE).await?;
    assert!(!long.metadata.truncation && long.edns.is_some());
    assert_eq!(addresses(&long), v4(60));
    let lookup = resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await?;
    assert_eq!(lookup.answers().len(), 60);
    Ok(())
}

#[tokio::test]
async fn four_thousand_addresses_fit_one_answer_over_tcp() -> Result<()> {
    let dns = DnsServer::start().await?;
    let both = [v4(4_000), v6(4_000)].concat();
    dns.set_host(HOST, &both, 60);
    let all = over_tcp(&dns, HOST, RecordType::A).await?;
    assert!(addresses(&all) == v4(4_000), "{} addresses", all.answers.len());
    let lookup = resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await?;
    assert_eq!(lookup.answers().len(), 4_000);
    // Of the longer AAAA records only a part fits, and the answer says that it is not all.
    let part = over_tcp(&dns, HOST, RecordType::AAAA).await?;
    assert!(part.metadata.truncation);
    assert!(part.answers.len() > 2_300, "{}", part.answers.len());
    Ok(())
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_is_not_taken() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::answer(v4(1), 60).with_wrong_id());
    assert_ne!(over_udp(&dns, HOST, RecordType::A).await?.metadata.id, ID);
    assert!(resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await.is_err());
    Ok(())
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set(HOST, RecordType::A, Script::answer(v4(1), 60).with_wrong_question());
    let answer = over_udp(&dns, HOST, RecordType::A).await?;
    assert_eq!(answer.metadata.id, ID);
    assert_ne!(answer.queries[0].name().to_ascii(), format!("{HOST}."));
    assert!(resolver(&dns)?.lookup(format!("{HOST}."), RecordType::A).await.is_err());
    Ok(())
}

#[tokio::test]
async fn an_outage_covers_every_name_and_ends() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set_host(HOST, &v4(1), 60);
    dns.set_all(Some(Script::ServFail));
    assert_eq!(code(&over_udp(&dns, HOST, RecordType::A).await?), ResponseCode::ServFail);
    assert_eq!(code(&over_tcp(&dns, "never-set.test", RecordType::A).await?), ResponseCode::ServFail);
    dns.set_all(Some(Script::Silence));
    assert!(over_udp_with(&dns, HOST, RecordType::A, None, SILENCE).await.is_err());
    dns.set_all(None);
    assert_eq!(addresses(&over_udp(&dns, HOST, RecordType::A).await?), v4(1));
    Ok(())
}

#[tokio::test]
async fn a_name_that_was_never_set_gets_the_default() -> Result<()> {
    let dns = DnsServer::start().await?;
    assert_eq!(failure(&dns, RecordType::A).await?, (ResponseCode::NXDomain, Some(30)));
    dns.set_default(Script::answer(v4(1), 5));
    assert_eq!(addresses(&over_udp(&dns, HOST, RecordType::A).await?), v4(1));
    dns.set(HOST, RecordType::AAAA, Script::answer(v6(1), 5));
    assert_eq!(failure(&dns, RecordType::A).await?, (ResponseCode::NoError, Some(30)));
    dns.remove(HOST);
    assert_eq!(addresses(&over_udp(&dns, HOST, RecordType::A).await?), v4(1));
    Ok(())
}

#[tokio::test]
async fn what_is_not_a_question_gets_formerr() -> Result<()> {
    let dns = DnsServer::start().await?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.send_to(&[1, 2, 3], dns.addr()).await?;
    let mut buffer = [0; 512];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await??;
    let answer = Message::from_vec(&buffer[..length])?;
    assert_eq!((answer.metadata.id, code(&answer)), (0x0102, ResponseCode::FormErr));
    Ok(())
}

#[tokio::test]
async fn every_question_is_counted_by_name_and_type() -> Result<()> {
    let dns = DnsServer::start().await?;
    for _ in 0..3 {
        over_udp(&dns, HOST, RecordType::A).await?;
    }
    over_tcp(&dns, HOST, RecordType::AAAA).await?;
    assert_eq!((dns.count(HOST, RecordType::A), dns.total()), (3, 4));
    let expected = [((HOST.to_owned(), RecordType::A), 3), ((HOST.to_owned(), RecordType::AAAA), 1)];
    assert_eq!(dns.counts(), expected.into());
    assert_eq!(dns.times(HOST, RecordType::A).len(), 3);
    dns.reset_counts();
    assert_eq!((dns.count(HOST, RecordType::A), dns.total()), (0, 0));
    for _ in 0..TIMES_KEPT + 1 {
        over_udp(&dns, HOST, RecordType::A).await?;
    }
    assert_eq!(dns.times(HOST, RecordType::A).len(), TIMES_KEPT);
    Ok(())
}

#[tokio::test]
async fn a_wait_ends_with_the_question_it_waits_for_or_says_what_came() -> Result<()> {
    let dns = DnsServer::start().await?;
    let (waited, asked) = tokio::join!(dns.wait_for_count(HOST, RecordType::A, 2, PATIENCE), async {
        over_udp(&dns, HOST, RecordType::A).await?;
        over_udp(&dns, HOST, RecordType::A).await
    });
    waited?;
    asked?;
    dns.wait_for_total(2, PATIENCE).await?;
    let missed = dns.wait_for_count(HOST, RecordType::A, 3, SILENCE).await;
    let message = missed.err().context("a third question came")?.to_string();
    assert!(message.starts_with("2 of 3 questions"), "{message}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_of_the_test_does_not_hurry_a_wait() -> Result<()> {
    let dns = DnsServer::start().await?;
    let began = Instant::now();
    assert!(dns.wait_for_total(1, SILENCE).await.is_err());
    assert!(began.elapsed() >= SILENCE);
    Ok(())
}

#[tokio::test]
async fn a_server_stops_with_its_last_handle_and_can_come_back_on_its_port() -> Result<()> {
    let dns = DnsServer::start().await?;
    let address: SocketAddr = dns.addr();
    let clone = dns.clone();
    drop(dns);
    assert_eq!(code(&over_udp(&clone, HOST, RecordType::A).await?), ResponseCode::NXDomain);
    drop(clone);
    assert!(TcpStream::connect(address).await.is_err());
    let again = DnsServer::start_on(address).await?;
    assert_eq!(again.addr(), address);
    over_udp(&again, HOST, RecordType::A).await?;
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_refuses_at_once_and_keeps_its_port_from_others_while_a_handle_lives() -> Result<()> {
    let dns = DnsServer::start().await?;
    let address = dns.addr();
    over_udp(&dns, HOST, RecordType::A).await?;
    let kept = dns.clone();
    dns.stop();
    drop(dns);
    let client = UdpSocket::bind((address.ip(), 0)).await?;
    client.connect(address).await?;
    client.send(&question(HOST, RecordType::A, None)?).await?;
    let refused = timeout(PATIENCE, client.recv(&mut [0; 512])).await?.err().context("it answered")?;
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(UdpSocket::bind(address).await.is_err(), "somebody else got the port");
    assert_eq!(kept.total(), 1);
    drop(kept);
    UdpSocket::bind(address).await?;
    Ok(())
}

/// Keeps 64 questions in flight for a while and gives the answers per second.
fn press(server: SocketAddr, name: &str, time: Duration) -> Result<f64> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let bytes = question(name, RecordType::A, None)?;
    let mut buffer = [0; 512];
    let began = Instant::now();
    for _ in 0..64 {
        socket.send(&bytes)?;
    }
    let mut answers = 0_u32;
    while began.elapsed() < time {
        socket.recv(&mut buffer)?;
        socket.send(&bytes)?;
        answers += 1;
    }
    Ok(f64::from(answers) / began.elapsed().as_secs_f64())
}

#[test]
#[ignore = "a measurement: cargo test -p egress-testbed --test dns -- --ignored --nocapture"]
fn twenty_thousand_questions_a_second_are_answered() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let dns = runtime.block_on(DnsServer::start())?;
    for host in 0..10_000 {
        dns.set_host(&format!("host-{host}.example.com"), &v4(8), 60);
    }
    let time = Duration::from_secs(3);
    let address = dns.addr();
    let ask = |host: u32| std::thread::spawn(move || press(address, &format!("host-{host}.example.com"), time));
    let mut rate = 0.0;
    for client in [ask(1), ask(2)] {
        rate += client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    println!("{rate:.0} questions a second, eight addresses each");
    assert!(rate > 20_000.0, "{rate:.0}");
    Ok(())
}
