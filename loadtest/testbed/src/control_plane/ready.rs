//! When a server counts as started.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client};
use tokio::net::TcpStream;

use super::access::Endpoint;
use super::component::Component;
use super::servers::Servers;
use crate::eventually;

/// A start takes 3 s on an idle machine of 2 cores; a loaded one is given sixty times that before it counts as failed.
const START_DEADLINE: Duration = Duration::from_secs(180);

pub(super) async fn etcd(servers: &Servers, clients: SocketAddr) -> Result<()> {
    until(servers, Component::Etcd, || async move {
        TcpStream::connect(clients).await.context("connecting")?;
        Ok(())
    })
    .await
}

pub(super) async fn api_server(servers: &Servers, endpoint: &Endpoint) -> Result<()> {
    let mut config = endpoint.admin_config();
    // The client's own retries wait longer than we do.
    config.default_retry = false;
    let client = Client::try_from(config)?;
    until(servers, Component::ApiServer, || async {
        client.request_text(hyper::Request::get("/readyz").body(Vec::new())?).await?;
        // Made by the server a moment after it calls itself ready.
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces.get("kube-system").await?;
        namespaces.get("default").await?;
        Ok(())
    })
    .await
}

/// Its ServiceAccount controller has acted. That says nothing on a later start, where the object exists already.
pub(super) async fn controller_manager(servers: &Servers, client: Client) -> Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(client, "default");
    until(servers, Component::ControllerManager, || async {
        accounts.get("default").await?;
        Ok(())
    })
    .await
}

/// Polls `attempt`; fails at once when the server has ended, because no wait will bring it back.
async fn until<F, Fut>(servers: &Servers, component: Component, mut attempt: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let outcome = eventually(START_DEADLINE, || {
        let running = servers.ensure_running(component);
        let attempt = attempt();
        async move {
            match running {
                Ok(()) => attempt.await.map(Ok),
                Err(ended) => Ok(Err(ended)),
            }
        }
    })
    .await;
    outcome.with_context(|| format!("{component} is not ready{}", servers.log_tail(component)))?
}
