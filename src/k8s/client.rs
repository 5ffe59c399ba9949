//! The clients of the API server. Watches, Leases and other requests have one each: what suits one harms the other.

use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt as _;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Names us in the API server's audit log and metrics.
const USER_AGENT: &str = concat!("egress-controller/", env!("CARGO_PKG_VERSION"));
/// An unused connection is kept for so long at least: longer than the pause between two renewals of a Lease (40 s at most), less
/// than the API server keeps it.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// A connection of lists and watches without a byte for so long is given up: an API server sends each watch a bookmark about once a
/// minute, and ends a request by itself after a minute.
const SILENT_CONNECTION: Duration = Duration::from_secs(300);
/// A busy API server answers a PING within a second, however short the lease and with it the time-out of a request is.
const SHORTEST_PING: Duration = Duration::from_secs(1);

/// A client for lists and watches: failures are retried below us, an open watch may be silent for minutes.
///
/// # Errors
/// When the configuration cannot be used.
pub fn watch_client(mut config: Config) -> kube::Result<Client> {
    config.read_timeout = Some(SILENT_CONNECTION);
    // A connection that was merely unused is not silent.
    config.reset_reader_on_write = true;
    Client::try_from(named(config))
}

/// A client for requests that are answered at once: writes, and the reads of gained shards. All of them share one
/// connection where the server speaks HTTP/2 (as the API server does): with HTTP/1.1 each request under way has one of its own.
///
/// It never repeats a request of which anything was sent: a hidden retry of a 429 would keep from the write queue what it
/// steers by. A connection that is not made within `timeout` is given up, and so is one whose bytes are not acknowledged for
/// as long (TCP_USER_TIMEOUT, RFC 5482): the kernel must not deliver a write long after we have stopped waiting (R1). One
/// that something on the way keeps open without passing anything on is given up after two time-outs at most, by an HTTP/2
/// PING (RFC 9113, 6.7).
///
/// Behind an HTTP proxy the connection is the proxy's: HTTP/1.1, and only the time to make it is bounded.
///
/// # Errors
/// When the configuration cannot be used.
pub fn request_client(config: Config, timeout: Duration) -> kube::Result<Client> {
    client(named(config), timeout, Http::Newest)
}

/// A client for Leases and the shard table: nothing else uses its connections, and nothing is retried or waited for
/// behind its back. With HTTP/1.1 a renewal without an answer ends its connection, and the next one has another.
///
/// # Errors
/// When the configuration cannot be used.
pub fn lease_client(config: Config, timeout: Duration) -> kube::Result<Client> {
    client(named(config), timeout, Http::One)
}

/// Which HTTP is spoken.
enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2 where the server has it.
    Newest,
}

fn client(mut config: Config, timeout: Duration, http: Http) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        config.default_retry = false;
        config.connect_timeout = Some(timeout);
        return Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_tcp_user_timeout(Some(timeout));
    // Around TLS, too: a handshake that never ends is no connection either.
    let mut connector = TimeoutConnector::new(match http {
        Http::One => config.rustls_https_connector_with_connector(connector)?,
        Http::Newest => with_http2(&config, connector)?,
    });
    connector.set_connect_timeout(Some(timeout));
    let ping = timeout.max(SHORTEST_PING);
    let connections = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Without a timer of its own, idle connections are never closed.
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .http2_keep_alive_interval(ping)
        .http2_keep_alive_timeout(ping)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(connections);
    Ok(Client::new(service, config.default_namespace))
}

/// As [`ConfigExt::rustls_https_connector_with_connector`], which offers HTTP/1.1 only.
fn with_http2(config: &Config, connector: HttpConnector) -> kube::Result<HttpsConnector<HttpConnector>> {
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|error| kube::Error::Service(Box::new(error)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_all_versions().wrap_connector(connector))
}

fn named(mut config: Config) -> Config {
    if let (Ok(header), Ok(value)) = ("user-agent".parse(), USER_AGENT.parse()) {
        config.headers.push((header, value));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clients_carry_our_name() {
        let Ok(url) = "http://127.0.0.1:1".parse() else { panic!("a URL") };
        let headers = named(Config::new(url)).headers;
        assert_eq!(headers.len(), 1);
        assert!(headers[0].1.to_str().is_ok_and(|value| value.starts_with("egress-controller/")));
    }
}
