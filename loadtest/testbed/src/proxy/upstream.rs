//! The way to the API server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{HeaderMap, Request, Response, Uri, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::answer::Error;
use super::tls::{Trust, client_config};

/// Idle connections kept: more than a controller has requests in flight.
const MAX_IDLE: usize = 256;

/// Below the API server's own idle timeout of 90 seconds, so that we do not write to a connection it is closing.
const IDLE: Duration = Duration::from_secs(60);

/// Headers that concern one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// A pooled client of one server.
#[derive(Debug)]
pub(super) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Incoming>,
    scheme: Scheme,
    authority: Authority,
}

impl Upstream {
    pub(super) fn new(url: &str, trust: &Trust) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("URL {url:?}"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.context("the URL has no scheme")?;
        let authority = parts.authority.context("the URL has no host")?;
        let path = parts.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
        ensure!(path.as_str() == "/", "a path before the API is not supported: {path}");
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        // Without it each small request waits for a delayed acknowledgement.
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(trust)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Self { client, scheme, authority })
    }

    /// The same request to the API server, the client's credentials included.
    pub(super) async fn send(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Error> {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
            .build()?;
        // Whatever the client speaks.
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        // The client below sets the host that it connects to.
        headers.remove(HOST);
        remove_hop_by_hop(headers);
        let mut response = self.client.request(request).await?;
        remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
