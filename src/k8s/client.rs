//! The clients of the API server. Watches and writes have one each: what suits one harms the other.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Names us in the API server's audit log and metrics.
const USER_AGENT: &str = concat!("egress-controller/", env!("CARGO_PKG_VERSION"));

/// A client for lists and watches: failures are retried below us, an open watch may be silent for minutes.
///
/// # Errors
/// When the configuration cannot be used.
pub fn watch_client(config: Config) -> kube::Result<Client> {
    Client::try_from(named(config))
}

/// A client for writes. It never retries by itself: a hidden retry of a 429 would keep from the write queue what it
/// steers by. A connection that is not made within `timeout` is given up, and so is one whose bytes are not acknowledged
/// for as long (TCP_USER_TIMEOUT, RFC 5482): the kernel must not deliver a write long after we have stopped waiting (R1).
///
/// Behind an HTTP proxy the connection is the proxy's, and only the time to make it is bounded.
///
/// # Errors
/// When the configuration cannot be used.
pub fn write_client(config: Config, timeout: Duration) -> kube::Result<Client> {
    let mut config = named(config);
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
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(Some(timeout));
    let connections = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(connections);
    Ok(Client::new(service, config.default_namespace))
}

/// A client for Leases and the shard table: nothing else uses its connections, and nothing is retried or waited for
/// behind its back.
///
/// # Errors
/// When the configuration cannot be used.
pub fn lease_client(config: Config, timeout: Duration) -> kube::Result<Client> {
    write_client(config, timeout)
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
