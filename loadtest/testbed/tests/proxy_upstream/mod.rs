//! A small HTTP server in the place of the API server: echoes bodies and sends the events it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Events that a watch may be behind: more than any test sends.
const EVENTS: usize = 16;

/// Method, path with query, headers.
type Seen = (Method, String, HeaderMap);

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    events: broadcast::Sender<&'static str>,
    watches: watch::Sender<usize>,
}

/// A running server.
pub struct Server {
    state: Arc<State>,
    address: SocketAddr,
    scheme: &'static str,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// Serves HTTPS with a certificate that it signed itself; gives that too, in PEM.
    pub async fn start_tls() -> Result<(Self, Vec<u8>)> {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)?;
        let server = Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await?;
        Ok((server, own.cert.pem().into_bytes()))
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            events: broadcast::Sender::new(EVENTS),
            watches: watch::Sender::new(0),
        });
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, tls, Arc::clone(&state)))));
        Ok(Self { state, address, scheme, accepting })
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Sends a piece of data on every open watch, once there is one.
    pub async fn event(&self, data: &'static str) {
        let _ = self.state.watches.subscribe().wait_for(|open| *open > 0).await;
        let _ = self.state.events.send(data);
    }

    pub async fn wait_for_watches(&self, count: usize) -> Result<()> {
        let mut watches = self.state.watches.subscribe();
        let reached = timeout(super::PATIENCE, watches.wait_for(|open| *open == count)).await;
        ensure!(reached.is_ok(), "not {count} open watches");
        Ok(())
    }

    pub async fn stop(&self) {
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _ = accepting.await;
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(&state);
        match tls.clone() {
            None => connections.spawn(converse(stream, state)),
            Some(tls) => connections.spawn(async move {
                // A client that does not believe us is what a test waits for.
                if let Ok(stream) = tls.accept(stream).await {
                    converse(stream, state).await;
                }
            }),
        };
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let service = service_fn(|request| answer(request, Arc::clone(&state)));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> hyper::Result<Response<Body>> {
    let path = request.uri().to_string();
    let seen = (request.method().clone(), path.clone(), request.headers().clone());
    state.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    if path.contains("watch=") {
        return Ok(Response::new(events(state)));
    }
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync()))
}

/// Counts a watch as open for as long as its body lives.
struct Opened(Arc<State>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.watches.send_modify(|open| *open -= 1);
    }
}

fn events(state: Arc<State>) -> Body {
    let receiver = state.events.subscribe();
    state.watches.send_modify(|open| *open += 1);
    let opened = Opened(state);
    let events = stream::unfold((receiver, opened), |(mut receiver, opened)| async move {
        let event = receiver.recv().await.ok()?;
        Some((Ok(Frame::data(Bytes::from_static(event.as_bytes()))), (receiver, opened)))
    });
    StreamBody::new(events).boxed_unsync()
}
