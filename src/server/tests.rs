//! The pages, over real connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;

/// A test may take this long on a busy machine.
const ENOUGH: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    readiness: Readiness,
    liveness: Liveness,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

async fn start() -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, liveness, stop) = (Readiness::default(), Liveness::default(), CancellationToken::new());
    let mut registry = Registry::with_prefix("egress");
    let counter: Counter = Counter::default();
    counter.inc();
    registry.register("writes", "Writes", counter);
    let debug: DebugState = Arc::new(|| Box::pin(async { json!({"policies": 3}) }));
    let pages = Pages {
        registry: Arc::new(registry),
        readiness: readiness.clone(),
        liveness: liveness.clone(),
        debug,
        extra: Router::new().route("/debug/extra", get(async || "more")),
    };
    let task = tokio::spawn(serve(listener, pages, stop.clone()));
    Server { address, readiness, liveness, stop, task }
}

/// Head and body of the answer to a GET.
async fn get_page(address: SocketAddr, path: &'static str) -> (String, String) {
    let fetch = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(ENOUGH)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    };
    spawn_blocking(fetch).await.unwrap()
}

#[track_caller]
fn check((head, body): &(String, String), status: u16, expected: &str) {
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    assert!(body.contains(expected), "{body:?} has {expected:?}");
}

#[tokio::test]
async fn healthz_is_the_python_operators_page() {
    let server = start().await;
    let answer = get_page(server.address, "/healthz").await;
    check(&answer, 200, "");
    assert_eq!(answer.1, "OK");
    check(&get_page(server.address, "/other").await, 404, "");
}

#[tokio::test]
async fn pages_of_the_applications_own_stand_beside() {
    check(&get_page(start().await.address, "/debug/extra").await, 200, "more");
}

#[tokio::test]
async fn readyz_names_what_is_missing_and_that_the_end_has_come() {
    let server = start().await;
    let cluster = server.readiness.handle("cluster facts");
    check(&get_page(server.address, "/readyz").await, 503, "cluster facts");
    drop(cluster);
    check(&get_page(server.address, "/readyz").await, 200, "OK");
    server.readiness.close();
    check(&get_page(server.address, "/readyz").await, 503, "shutting down");
}

#[tokio::test]
async fn livez_names_the_loop_that_stands_still() {
    let server = start().await;
    let _router = server.liveness.heartbeat("router", ENOUGH);
    check(&get_page(server.address, "/livez").await, 200, "OK");
    let _writer = server.liveness.heartbeat("writer", Duration::ZERO);
    let answer = get_page(server.address, "/livez").await;
    check(&answer, 500, "writer has not advanced");
    assert!(!answer.1.contains("router"), "{}", answer.1);
}

#[tokio::test]
async fn metrics_are_open_metrics_text() {
    let answer = get_page(start().await.address, "/metrics").await;
    check(&answer, 200, "egress_writes_total 1");
    assert!(
        answer.0.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{}",
        answer.0
    );
    assert!(answer.1.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_state_is_json() {
    let answer = get_page(start().await.address, "/debug/state").await;
    check(&answer, 200, "");
    assert!(answer.0.contains("content-type: application/json"), "{}", answer.0);
    assert_eq!(serde_json::from_str::<Value>(&answer.1).unwrap(), json!({"policies": 3}));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_idle_client() {
    let server = start().await;
    let idle = TcpStream::connect(server.address).unwrap();
    check(&get_page(server.address, "/healthz").await, 200, "OK");
    server.stop.cancel();
    timeout(ENOUGH, server.task).await.unwrap().unwrap().unwrap();
    drop(idle);
}
