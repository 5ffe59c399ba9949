//! The HTTP server for probes, metrics and debugging. It serves people and probes, never tenants.
//!
//! * `/healthz`: the process answers (the Python operator's page, kept).
//! * `/livez`: every loop advances; else 500 and the names of those that do not.
//! * `/readyz`: everything needed has been seen; else 503 and what is missing.
//! * `/metrics`: OpenMetrics text.
//! * `/debug/state`: what the application tells of itself, as JSON.

mod liveness;
mod readiness;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use liveness::{Heartbeat, Liveness, Stale};
pub use readiness::{Readiness, ReadyHandle};

/// Default of `--listen`: the Python operator's port, on every address, because the kubelet calls from outside the Pod.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// What OpenMetrics 1.0 asks for; Prometheus reads the text format that it names.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A process in trouble must still tell that it is: the state is asked from actors that may hang.
const DEBUG_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for requests under way: a scrape takes milliseconds, and an idle client must not hold us.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Asks the application for its state.
pub type DebugState = Arc<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;

/// What the pages are made from.
#[derive(Clone)]
pub struct Pages {
    /// `/metrics`.
    pub registry: Arc<Registry>,
    /// `/readyz`.
    pub readiness: Readiness,
    /// `/livez`.
    pub liveness: Liveness,
    /// `/debug/state`.
    pub debug: DebugState,
    /// Pages of the application's own, such as fault injection in tests; empty by default.
    pub extra: Router,
}

/// Serves until `stop`; what is under way then is given a second.
///
/// Stop it last: while the process drains, `/readyz` has to say so.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> io::Result<()> {
    let overdue = async {
        stop.cancelled().await;
        sleep(STOP_GRACE).await;
    };
    let server = axum::serve(listener, router(pages)).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        ended = server.into_future() => ended,
        () = overdue => Ok(()),
    }
}

fn router(mut pages: Pages) -> Router {
    let extra = std::mem::take(&mut pages.extra);
    Router::new()
        .route("/healthz", get(async || "OK"))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(debug_state))
        .with_state(pages)
        .merge(extra)
}

async fn livez(State(pages): State<Pages>) -> (StatusCode, String) {
    let stale = pages.liveness.stale();
    if stale.is_empty() {
        return (StatusCode::OK, "OK".to_owned());
    }
    let mut text = String::new();
    for Stale { name, silent } in stale {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} has not advanced for {} s", silent.as_secs());
    }
    (StatusCode::INTERNAL_SERVER_ERROR, text)
}

async fn readyz(State(pages): State<Pages>) -> (StatusCode, String) {
    let missing = pages.readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "OK".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &pages.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn debug_state(State(pages): State<Pages>) -> Response {
    match timeout(DEBUG_TIMEOUT, (pages.debug)()).await {
        Ok(state) => ([(CONTENT_TYPE, "application/json")], format!("{state:#}\n")).into_response(),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "the state was not told in time\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
