//! From the client's connection to the API server and back.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answer::{Body, Error, failure, reason_of};
use super::journal::{Entry, Journal};
use super::rule::{Action, Rules};
use super::target::{Target, Verb};
use super::upstream::Upstream;
use super::watch::{Limit, WatchBody, Watches};

/// Largest body that is read only to be thrown away: above the API server's own limit of 3 MiB for a request.
const MAX_DRAINED: usize = 4 << 20;

/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) upstream: Upstream,
    pub(super) rules: Rules,
    pub(super) journal: Journal,
    pub(super) watches: Arc<Watches>,
}

/// Accepts for ever; aborting it closes the listener and every connection.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Finished connections leave the set, or it would grow for ever.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&shared)))),
            Err(_) => sleep(ERROR_PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    // Without it a watch event waits for the acknowledgement of the one before; a stream that has gone fails below.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    let connection = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    // A broken connection is what many rules are for.
    let _ = connection.await;
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
            drain(request.into_body()).await?;
            shared.journal.answered(entry, Some(code), None);
            Ok(failure(code, &reason, retry_after))
        }
        Some(Action::AfterCommit { code }) => {
            let upstream_code = commit(request, &shared).await?;
            let codes = (Some(code), Some(upstream_code));
            shared.journal.answered(entry, codes.0, codes.1);
            Ok(failure(code, reason_of(code), None))
        }
        Some(Action::HangAfterCommit) => {
            let upstream_code = commit(request, &shared).await?;
            shared.journal.answered(entry, None, Some(upstream_code));
            std::future::pending().await
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

/// Has the API server answer in full; gives its code.
async fn commit(request: Request<Incoming>, shared: &Shared) -> Result<u16, Error> {
    let response = shared.upstream.send(request).await?;
    let code = response.status().as_u16();
    drain(response.into_body()).await?;
    Ok(code)
}

/// Reads a body to its end, so that its connection can be used again.
async fn drain(body: Incoming) -> Result<(), Error> {
    Limited::new(body, MAX_DRAINED).collect().await?;
    Ok(())
}
