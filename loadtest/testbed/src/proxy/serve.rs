//! From the client's connection to the API server and back.

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::answer::{Body, Error, failure, reason_of, whole};
use super::journal::{Entry, Journal};
use super::rule::{Action, Rules};
use super::target::{Target, Verb};
use super::tls::HTTP2;
use super::upstream::Upstream;
use super::watch::{Limit, WatchBody, Watches};

/// Largest body that is read in full: above the API server's own limit of 3 MiB for a request.
const MAX_BODY: usize = 4 << 20;

/// Requests under way on an HTTP/2 connection: as many as an API server takes.
const STREAMS: u32 = 100;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What ends TLS; none for plain HTTP.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) upstream: Upstream,
    pub(super) rules: Rules,
    pub(super) journal: Journal,
    pub(super) watches: Arc<Watches>,
}

pub(super) async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let Some(tls) = &shared.tls else { return serve_http1(stream, &shared).await };
    // A client that does not trust us says so itself.
    let Ok(stream) = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await else { return };
    if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
        return serve_http1(stream, &shared).await;
    }
    let broken = Arc::new(Notify::new());
    let service = service_fn(|request| answer_or_break(request, Arc::clone(&shared), Arc::clone(&broken)));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(STREAMS);
    tokio::select! {
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
        // By itself an error would reset its stream only, and nothing would test what a broken connection does to the others.
        () = broken.notified() => {}
    }
}

async fn serve_http1(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Arc<Shared>) {
    let service = service_fn(|request| answer(request, Arc::clone(shared)));
    let connection = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    // A broken connection is what many rules are for.
    drop(connection.await);
}

async fn answer_or_break(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    broken: Arc<Notify>,
) -> Result<Response<Body>, Error> {
    let answered = answer(request, shared).await;
    if answered.is_err() {
        broken.notify_one();
    }
    answered
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Error> {
    let target = Target::of(request.method(), request.uri());
    let verdict = shared.rules.judge(&target);
    let entry = shared.journal.arrived(target.clone());
    if !verdict.delay.is_zero() {
        sleep(verdict.delay).await;
    }
    match verdict.action {
        None | Some(Action::Delay(_)) => forward(request, &shared, entry, target, None).await,
        Some(Action::EndWatch { after, how }) => forward(request, &shared, entry, target, Some((after, how))).await,
        Some(Action::Status { code, reason, retry_after }) => {
            drop(read(request.into_body()).await?);
            shared.journal.answered(entry, Some(code), None);
            Ok(failure(code, &reason, retry_after))
        }
        Some(Action::AfterCommit { code }) => {
            let upstream_code = answer_of_server(request, &shared).await?.status().as_u16();
            shared.journal.answered(entry, Some(code), Some(upstream_code));
            Ok(failure(code, reason_of(code), None))
        }
        Some(Action::HangAfterCommit) => {
            let upstream_code = answer_of_server(request, &shared).await?.status().as_u16();
            shared.journal.answered(entry, None, Some(upstream_code));
            std::future::pending().await
        }
        Some(Action::HoldAnswer) => {
            // In full: what comes later must not be what the API server says later.
            let response = answer_of_server(request, &shared).await?;
            let code = response.status().as_u16();
            shared.journal.answered(entry, None, Some(code));
            if let Some(rule) = verdict.rule {
                shared.rules.removed(rule).await;
            }
            shared.journal.answered(entry, Some(code), Some(code));
            Ok(response.map(whole))
        }
        Some(Action::Hang) => std::future::pending().await,
        Some(Action::Close) => Err("connection closed by a rule".into()),
    }
}

async fn forward(
    request: Request<Incoming>,
    shared: &Shared,
    entry: Entry,
    target: Target,
    limit: Option<Limit>,
) -> Result<Response<Body>, Error> {
    let response = shared.upstream.send(request).await?;
    let code = response.status().as_u16();
    shared.journal.answered(entry, Some(code), Some(code));
    let watch = target.verb == Verb::Watch && response.status() == StatusCode::OK;
    Ok(response.map(|body| {
        if !watch {
            return body.map_err(Error::from).boxed_unsync();
        }
        let registration = shared.watches.open(&target.resource);
        WatchBody::new(body, registration, limit).boxed_unsync()
    }))
}

/// Has the API server answer in full.
async fn answer_of_server(request: Request<Incoming>, shared: &Shared) -> Result<Response<Bytes>, Error> {
    let (parts, body) = shared.upstream.send(request).await?.into_parts();
    Ok(Response::from_parts(parts, read(body).await?))
}

/// Reads a body to its end, so that its connection can be used again.
async fn read(body: Incoming) -> Result<Bytes, Error> {
    Ok(Limited::new(body, MAX_BODY).collect().await?.to_bytes())
}
