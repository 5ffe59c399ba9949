//! From options to a control plane that answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};

use super::access::Endpoint;
use super::binaries::{Binaries, Environment};
use super::builder::Builder;
use super::component::Component;
use super::flags::Files;
use super::pki;
use super::ports::free_port;
use super::servers::{Launch, Servers};
use super::supervisor::Supervisor;
use super::{ControlPlane, ready};

/// Starts with new ports when another process took one between our look and the server's bind: once is rare, so thrice is enough.
const START_ATTEMPTS: u32 = 3;
/// How a Go server reports that.
const PORT_TAKEN: &str = "address already in use";

impl Builder {
    /// Starts the servers and returns when the API answers and its system namespaces exist.
    ///
    /// The first call of a user builds the servers, which takes minutes and is told on stderr.
    ///
    /// # Errors
    ///
    /// When the binaries cannot be had, or a server does not start: the error shows the end of its log.
    pub async fn start(self) -> Result<ControlPlane> {
        let builder = self.clone();
        let binaries = tokio::task::spawn_blocking(move || builder.binaries()).await??;
        let mut attempt = 1;
        loop {
            match self.start_once(&binaries).await {
                Err(error) if attempt < START_ATTEMPTS && format!("{error:#}").contains(PORT_TAKEN) => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    fn binaries(&self) -> Result<Binaries> {
        let environment = self.environment.clone().map_or_else(Environment::of_this_process, Ok)?;
        Binaries::find(&self.version, &environment, self.components())
    }

    async fn start_once(&self, binaries: &Binaries) -> Result<ControlPlane> {
        let supervisor = Supervisor::start(&std::env::temp_dir(), "egress-testbed")?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (etcd, peers, secure) = (free_port(loopback)?, free_port(loopback)?, free_port(self.bind_ip)?);
        let endpoint = Endpoint::new(secure)?;
        let files = Files { folder: supervisor.folder() };
        self.write_files(&files, &endpoint).context("writing the control plane's files")?;

        let launches = self.components().iter().map(|component| {
            let flags = match component {
                Component::Etcd => files.etcd(etcd, peers),
                Component::ApiServer => self.api_server_flags(&files, etcd, secure),
                Component::ControllerManager => {
                    files.controller_manager().into_iter().chain(self.feature_gate_flag()).collect()
                }
            };
            let mut command = Command::new(binaries.path(*component));
            command.args(flags);
            (*component, Launch { command, log: files.log(component.name()) })
        });
        let launches = launches.collect();
        let servers = Servers { running: Mutex::default(), launches, disturbed: AtomicBool::new(false), supervisor };
        let control_plane = ControlPlane { servers, endpoint, etcd };
        control_plane.start_all().await?;
        Ok(control_plane)
    }

    fn write_files(&self, files: &Files<'_>, endpoint: &Endpoint) -> Result<()> {
        files.write_serving(&endpoint.serving()?)?;
        files.write_token_keys(&pki::token_signing_keys()?)?;
        files.write_admin_token(&endpoint.admin_token)?;
        files.write_kubeconfig(&endpoint.admin_kubeconfig())?;
        self.audit.as_ref().map_or(Ok(()), |audit| files.write_audit_policy(&audit.policy()))
    }

    /// The caller's flags last: of a flag given twice, the last one counts.
    fn api_server_flags(&self, files: &Files<'_>, etcd: SocketAddr, secure: SocketAddr) -> Vec<String> {
        let mut flags = files.api_server(etcd, secure);
        flags.extend(self.feature_gate_flag());
        flags.extend(self.audit.iter().flat_map(|audit| files.audit(&audit.file)));
        flags.extend(self.api_server_flags.iter().cloned());
        flags
    }
}

impl ControlPlane {
    async fn start_all(&self) -> Result<()> {
        self.servers.start(Component::Etcd)?;
        ready::etcd(&self.servers, self.etcd).await?;
        self.servers.start(Component::ApiServer)?;
        ready::api_server(&self.servers, &self.endpoint).await?;
        if self.servers.launches.contains_key(&Component::ControllerManager) {
            self.servers.start(Component::ControllerManager)?;
            ready::controller_manager(&self.servers, self.client()).await?;
        }
        Ok(())
    }
}
