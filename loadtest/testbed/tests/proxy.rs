//! The fault proxy before a small server of the test's own.

mod proxy_upstream;

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use egress_testbed::proxy::{Action, FaultProxy, Logged, Rule, Trust, Verb, WatchEnd};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use proxy_upstream::Server;
use tokio::net::TcpStream;
use tokio::time::timeout;

const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/web";
const STATUS: &str = "/apis/platform.example.com/v1alpha1/namespaces/a/egresspolicies/web/status";

/// Longer than anything on loopback takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough to call it silence.
const SILENCE: Duration = Duration::from_millis(300);

struct Bed {
    server: Server,
    proxy: FaultProxy,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

impl Bed {
    async fn new() -> Result<Self> {
        let server = Server::start().await?;
        Self::before(server, Trust::Anyone).await
    }

    async fn before(server: Server, trust: Trust) -> Result<Self> {
        let proxy = FaultProxy::start(&server.url(), trust).await?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { server, proxy, client })
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.proxy.url()))
            .header(AUTHORIZATION, "Bearer token")
            .body(Full::from(body.to_owned()))?;
        Ok(timeout(PATIENCE, self.client.request(request)).await??)
    }

    async fn code(&self, method: Method, path: &str) -> Result<u16> {
        let response = self.send(method, path, "{}").await?;
        let code = response.status().as_u16();
        response.into_body().collect().await?;
        Ok(code)
    }

    async fn watch(&self) -> Result<Incoming> {
        let response = self.send(Method::GET, &format!("{POLICIES}?watch=true"), "").await?;
        assert_eq!(response.status(), StatusCode::OK);
        Ok(response.into_body())
    }
}

/// The next lines of a watch; nothing at its end.
async fn next(watch: &mut Incoming) -> Result<Option<String>> {
    match timeout(PATIENCE, watch.frame()).await? {
        None => Ok(None),
        Some(frame) => {
            let data = frame?.into_data().ok().context("not data")?;
            Ok(Some(String::from_utf8(data.to_vec())?))
        }
    }
}

async fn text(response: Response<Incoming>) -> Result<String> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

#[tokio::test]
async fn a_request_passes_with_its_credentials_query_and_body() -> Result<()> {
    let bed = Bed::new().await?;
    let path = format!("{POLICY}?fieldManager=egress-controller");
    let response = bed.send(Method::PATCH, &path, "a body").await?;
    assert_eq!(text(response).await?, "a body");
    let seen = bed.server.seen();
    assert_eq!((seen[0].0.clone(), seen[0].1.as_str()), (Method::PATCH, path.as_str()));
    assert_eq!(seen[0].2[AUTHORIZATION], "Bearer token");
    assert_eq!(format!("http://{}", seen[0].2[HOST].to_str()?), bed.server.url());
    Ok(())
}

#[tokio::test]
async fn connections_to_the_server_are_used_again() -> Result<()> {
    let bed = Bed::new().await?;
    for _ in 0..20 {
        assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);
    }
    assert_eq!(bed.server.connections(), 1);
    Ok(())
}

#[tokio::test]
async fn a_watch_streams_each_event_when_it_comes() -> Result<()> {
    let bed = Bed::new().await?;
    let mut watch = bed.watch().await?;
    for event in ["one\n", "two\n"] {
        bed.server.event(event).await;
        assert_eq!(next(&mut watch).await?.as_deref(), Some(event));
    }
    assert_eq!(bed.proxy.open_watches("networkpolicies"), 1);
    drop(watch);
    bed.server.wait_for_watches(0).await?;
    assert_eq!(bed.proxy.open_watches("networkpolicies"), 0);
    Ok(())
}

#[tokio::test]
async fn delays_add_up_and_the_request_goes_through() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::delay(SILENCE).verb(Verb::Patch));
    bed.proxy.inject(Rule::delay(SILENCE).namespace("a"));
    let began = Instant::now();
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);
    assert!(began.elapsed() >= 2 * SILENCE);
    assert_eq!(bed.code(Method::GET, POLICIES).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_status_is_answered_without_the_server_as_often_as_told() -> Result<()> {
    let bed = Bed::new().await?;
    let rule = Rule::too_many_requests(7).verb(Verb::Patch).times(2);
    let rule = bed.proxy.inject(rule);
    for _ in 0..2 {
        let response = bed.send(Method::PATCH, POLICY, "{}").await?;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
        let status: serde_json::Value = serde_json::from_str(&text(response).await?)?;
        assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &429.into()));
        assert_eq!(status["reason"], "TooManyRequests");
    }
    assert!(bed.server.seen().is_empty());
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);
    assert_eq!(bed.proxy.hits(rule), 2);
    Ok(())
}

#[tokio::test]
async fn a_kube_client_reads_an_injected_status() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::status(409, "Conflict").verb(Verb::Get));
    let client = kube::Client::try_from(kube::Config::new(bed.proxy.url().parse()?))?;
    let request = Request::get("/api/v1/namespaces/a").body(Vec::new())?;
    match client.request_text(request).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
        }
        other => anyhow::bail!("not a Status: {other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn after_a_commit_the_client_reads_a_timeout() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::timeout_after_commit().resource("networkpolicies").times(1));
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 504);
    assert_eq!(bed.server.seen().len(), 1);
    let log = bed.proxy.log();
    assert_eq!((log[0].code, log[0].upstream_code), (Some(504), Some(200)));
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);
    Ok(())
}

/// Sends a request and hears nothing, for long enough after the log is as wanted.
async fn is_not_answered(bed: &Bed, logged: impl Fn(&[Logged]) -> bool + Send + 'static) -> Result<()> {
    let mut request = pin!(bed.code(Method::PATCH, POLICY));
    tokio::select! {
        answer = &mut request => bail!("{answer:?}"),
        come = bed.proxy.wait_for_log(PATIENCE, logged) => come?,
    }
    ensure!(timeout(SILENCE, request).await.is_err(), "it was answered");
    Ok(())
}

#[tokio::test]
async fn a_hanging_request_is_never_answered_committed_or_not() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::hang().times(1));
    is_not_answered(&bed, |log| log.len() == 1).await?;
    assert!(bed.server.seen().is_empty());
    bed.proxy.inject(Rule::new(Action::HangAfterCommit).times(1));
    is_not_answered(&bed, |log| log.iter().any(|logged| logged.upstream_code == Some(200))).await?;
    assert_eq!(bed.server.seen().len(), 1);
    assert_eq!(bed.proxy.log()[1].upstream_code, Some(200));
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_held_until_its_rule_is_removed() -> Result<()> {
    let bed = Bed::new().await?;
    let held = bed.proxy.inject(Rule::hold_answer());
    is_not_answered(&bed, |log| log.iter().any(|logged| logged.upstream_code == Some(200))).await?;
    let code = bed.code(Method::PATCH, POLICY);
    let released = async {
        bed.proxy.wait_for_hits(held, 2, PATIENCE).await?;
        bed.proxy.remove(held);
        anyhow::Ok(())
    };
    let (code, released) = tokio::join!(code, released);
    released?;
    assert_eq!((code?, bed.server.seen().len()), (200, 2));
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_is_an_error_of_the_transport() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::new(Action::Close).times(1));
    assert!(bed.code(Method::PATCH, POLICY).await.is_err());
    assert_eq!(bed.proxy.log()[0].code, None);
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_watch_is_cut_after_so_many_events_or_at_once() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::cut_watch(2).times(1));
    let mut watch = bed.watch().await?;
    // Two events and a half in one piece: the rest must not pass.
    bed.server.event("one\ntwo\nthr").await;
    assert_eq!(next(&mut watch).await?.as_deref(), Some("one\ntwo\n"));
    assert_eq!(next(&mut watch).await?, None);
    bed.proxy.inject(Rule::cut_watch(0).times(1));
    assert_eq!(next(&mut bed.watch().await?).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_watch_may_break_off_or_fall_silent() -> Result<()> {
    let bed = Bed::new().await?;
    let (after, how) = (1, WatchEnd::Abort);
    bed.proxy.inject(Rule::new(Action::EndWatch { after, how }).times(1));
    let mut watch = bed.watch().await?;
    bed.server.event("one\n").await;
    next(&mut watch).await?;
    assert!(next(&mut watch).await.is_err());

    let how = WatchEnd::Stall;
    bed.proxy.inject(Rule::new(Action::EndWatch { after, how }).times(1));
    let mut watch = bed.watch().await?;
    bed.server.event("one\n").await;
    next(&mut watch).await?;
    bed.server.event("two\n").await;
    assert!(timeout(SILENCE, next(&mut watch)).await.is_err());
    assert_eq!(bed.proxy.cut_all_watches(), 1);
    assert_eq!(next(&mut watch).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_watch_gets_410_at_its_opening_or_as_an_event() -> Result<()> {
    let bed = Bed::new().await?;
    bed.proxy.inject(Rule::gone_at_open().times(1));
    assert_eq!(bed.code(Method::GET, &format!("{POLICIES}?watch=1")).await?, 410);
    bed.proxy.inject(Rule::gone_event(1).times(1));
    let mut watch = bed.watch().await?;
    bed.server.event("one\n").await;
    assert_eq!(next(&mut watch).await?.as_deref(), Some("one\n"));
    let event: serde_json::Value = serde_json::from_str(&next(&mut watch).await?.context("no event")?)?;
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(next(&mut watch).await?, None);
    Ok(())
}

#[tokio::test]
async fn open_watches_of_one_resource_are_cut_together() -> Result<()> {
    let bed = Bed::new().await?;
    let (mut first, mut second) = (bed.watch().await?, bed.watch().await?);
    let other = bed.send(Method::GET, "/api/v1/nodes?watch=true", "").await?;
    assert_eq!(bed.proxy.cut_watches("networkpolicies"), 2);
    assert_eq!((next(&mut first).await?, next(&mut second).await?), (None, None));
    bed.server.event("one\n").await;
    assert_eq!(next(&mut other.into_body()).await?.as_deref(), Some("one\n"));
    Ok(())
}

#[tokio::test]
async fn a_rule_meets_only_what_it_names() -> Result<()> {
    let bed = Bed::new().await?;
    let rule = Rule::status(500, "InternalError").resource("egresspolicies/status");
    let rule = bed.proxy.inject(rule.namespace("a").name("web").group("platform.example.com"));
    assert_eq!(bed.code(Method::PATCH, STATUS).await?, 500);
    for other in [STATUS.replace("/status", ""), STATUS.replace("/a/", "/b/"), STATUS.replace("web", "db")] {
        assert_eq!(bed.code(Method::PATCH, &other).await?, 200, "{other}");
    }
    bed.proxy.remove(rule);
    assert_eq!(bed.code(Method::PATCH, STATUS).await?, 200);
    bed.proxy.inject(Rule::status(503, "ServiceUnavailable").one_in(3));
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(bed.code(Method::GET, POLICY).await?);
    }
    assert_eq!(codes, [200, 200, 503, 200, 200, 503]);
    bed.proxy.inject(Rule::status(500, "InternalError"));
    bed.proxy.clear();
    assert_eq!(bed.code(Method::GET, POLICY).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_closed_port_refuses_breaks_what_is_open_and_comes_back() -> Result<()> {
    let bed = Bed::new().await?;
    let mut watch = bed.watch().await?;
    bed.proxy.refuse(true).await?;
    assert!(next(&mut watch).await.is_err());
    let address = bed.proxy.url().trim_start_matches("http://").to_owned();
    let refused = TcpStream::connect(&address).await.err().context("it accepts")?;
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    bed.proxy.refuse(true).await?;
    bed.proxy.refuse(false).await?;
    bed.proxy.refuse(false).await?;
    assert_eq!(bed.code(Method::GET, POLICY).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_dead_server_is_a_broken_connection() -> Result<()> {
    let bed = Bed::new().await?;
    bed.server.stop().await;
    assert!(bed.code(Method::GET, POLICY).await.is_err());
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_logged_and_waited_for() -> Result<()> {
    let bed = Bed::new().await?;
    let (waited, sent) = tokio::join!(bed.proxy.wait_for(Verb::Patch, "networkpolicies", 2, PATIENCE), async {
        bed.code(Method::PATCH, POLICY).await?;
        bed.code(Method::PATCH, POLICY).await?;
        bed.code(Method::PATCH, STATUS).await
    });
    waited?;
    sent?;
    assert_eq!(bed.proxy.count(Verb::Patch, "networkpolicies"), 2);
    let expected =
        [((Verb::Patch, "egresspolicies/status".to_owned()), 1), ((Verb::Patch, "networkpolicies".to_owned()), 2)];
    assert_eq!(bed.proxy.counts(), expected.into());
    let log = bed.proxy.log();
    assert_eq!((log[0].code, log[0].target.name.as_deref()), (Some(200), Some("web")));
    assert!(log[0].at <= log[1].at);
    bed.proxy.reset_counts();
    assert!(bed.proxy.counts().is_empty() && bed.proxy.log().is_empty());
    let missed = bed.proxy.wait_for(Verb::Patch, "networkpolicies", 1, SILENCE).await;
    assert!(missed.err().context("it came")?.to_string().starts_with("0 of 1 requests"));
    Ok(())
}

#[tokio::test]
async fn hits_and_answers_can_be_waited_for() -> Result<()> {
    let bed = Bed::new().await?;
    let rule = bed.proxy.inject(Rule::hang().verb(Verb::List));
    let (hit, logged, _) = tokio::join!(
        bed.proxy.wait_for_hits(rule, 1, PATIENCE),
        bed.proxy.wait_for_log(PATIENCE, |log| log.iter().any(|logged| logged.code == Some(200))),
        async {
            let hanging = timeout(SILENCE, bed.code(Method::GET, POLICIES)).await.is_err();
            (hanging, bed.code(Method::GET, POLICY).await)
        }
    );
    hit?;
    logged
}

#[tokio::test]
async fn a_proxy_stops_with_its_last_handle() -> Result<()> {
    let bed = Bed::new().await?;
    let clone = bed.proxy.clone();
    let address = bed.proxy.url().trim_start_matches("http://").to_owned();
    drop(bed.proxy);
    TcpStream::connect(&address).await?;
    drop(clone);
    assert!(TcpStream::connect(&address).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_server_with_tls_is_believed_by_its_authority_or_by_nobody_else() -> Result<()> {
    let (server, authority) = Server::start_tls().await?;
    let bed = Bed::before(server, Trust::Authorities(authority)).await?;
    assert_eq!(bed.code(Method::PATCH, POLICY).await?, 200);

    let (other, _) = Server::start_tls().await?;
    let anyone = Bed::before(other, Trust::Anyone).await?;
    assert_eq!(anyone.code(Method::PATCH, POLICY).await?, 200);

    let (_, strange) = Server::start_tls().await?;
    let stranger = Bed::before(anyone.server, Trust::Authorities(strange)).await?;
    assert!(stranger.code(Method::PATCH, POLICY).await.is_err());
    assert!(FaultProxy::start("https://127.0.0.1:1", Trust::Authorities(Vec::new())).await.is_err());
    assert!(FaultProxy::start("127.0.0.1:1", Trust::Anyone).await.is_err());
    Ok(())
}

/// Requests a second that 32 clients get in three seconds.
async fn rate(bed: &Bed, url: &str) -> Result<f64> {
    let time = Duration::from_secs(3);
    let began = Instant::now();
    let clients = (0..32).map(|_| async {
        let mut answered = 0_u32;
        while began.elapsed() < time {
            let request = Request::patch(format!("{url}{POLICY}")).body(Full::from("{}"))?;
            bed.client.request(request).await?.into_body().collect().await?;
            answered += 1;
        }
        anyhow::Ok(answered)
    });
    let answered: u32 = futures::future::try_join_all(clients).await?.iter().sum();
    Ok(f64::from(answered) / began.elapsed().as_secs_f64())
}

#[tokio::test]
#[ignore = "a measurement: cargo test -p egress-testbed --test proxy -- --ignored --nocapture"]
async fn the_proxy_costs_little() -> Result<()> {
    let bed = Bed::new().await?;
    let direct = rate(&bed, &bed.server.url()).await?;
    let through = rate(&bed, &bed.proxy.url()).await?;
    println!("{direct:.0} requests a second directly, {through:.0} through the proxy");
    assert!(through > 1_000.0);
    Ok(())
}
