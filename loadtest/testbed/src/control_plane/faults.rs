//! Breaking a control plane on purpose, and watching what it uses. Not for the shared one: other tests run on it.

use std::collections::BTreeMap;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::process::Usage;
use super::{Component, ControlPlane, ready};

impl ControlPlane {
    /// Kills the API server (`kill -9`) while etcd lives.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn stop_api_server(&self) -> Result<()> {
        self.servers.stop(Component::ApiServer)
    }

    /// Starts a stopped API server on the same port, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// When it runs already, or does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.servers.start(Component::ApiServer)?;
        ready::api_server(&self.servers, &self.endpoint).await
    }

    /// Kills the controller manager and starts another: to be called after a definition
    /// is applied, because it learns of a new kind of object at its start, else up to 40 s later.
    ///
    /// # Errors
    ///
    /// When this control plane has none.
    pub fn restart_controller_manager(&self) -> Result<()> {
        self.servers.stop(Component::ControllerManager)?;
        self.servers.start(Component::ControllerManager)
    }

    /// Freezes a server: its connections stay open and nobody answers (`SIGSTOP`).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&self, component: Component) -> Result<()> {
        self.servers.signal(component, Signal::SIGSTOP)
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&self, component: Component) -> Result<()> {
        self.servers.signal(component, Signal::SIGCONT)
    }

    /// The process ids of the servers that run.
    #[must_use]
    pub fn process_ids(&self) -> BTreeMap<Component, u32> {
        self.servers.ids()
    }

    /// CPU time and memory of each server that runs.
    ///
    /// # Errors
    ///
    /// When a server has just ended by itself.
    pub fn cpu_and_memory(&self) -> Result<BTreeMap<Component, Usage>> {
        self.servers.usage()
    }
}
