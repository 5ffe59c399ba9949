//! A real etcd and kube-apiserver, and a kube-controller-manager when asked, as child processes.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use egress_testbed::ControlPlane;
//! let control_plane = ControlPlane::builder().controller_manager(true).start().await?;
//! let namespace = control_plane.unique_namespace("tenant").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The binaries are built on first use from the Go modules that `control-plane/` pins, and kept under the user's cache folder;
//! `KUBEBUILDER_ASSETS` names a folder of ready-made ones instead. A test that needs a whole cluster leases one ([`ControlPlane::lease`]),
//! because a start costs seconds. Everything a control plane starts and writes ends with its value, and with this
//! process however that ends.

mod access;
mod audit;
mod base;
mod binaries;
mod builder;
mod compile;
mod component;
mod etcd;
mod faults;
mod flags;
mod installation;
mod manifests;
mod objects;
mod pki;
mod pool;
mod ports;
mod process;
mod ready;
mod servers;
mod start;
mod supervisor;
mod version;

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::sync::OnceCell;

pub use access::Trust;
pub use audit::AuditLevel;
pub use binaries::Environment;
pub use builder::Builder;
pub use component::Component;
pub use installation::{Replica, install, replica};
pub use manifests::apply_manifests;
pub use pki::ServingCertificate;
pub use pool::Leased;
pub use process::Usage;
pub use version::Version;

/// A running control plane. Dropping it ends its servers and removes their data.
#[derive(Debug)]
pub struct ControlPlane {
    servers: servers::Servers,
    endpoint: access::Endpoint,
    etcd: SocketAddr,
}

impl ControlPlane {
    /// Options, then [`Builder::start`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The control plane that the tests of one binary share, started by the first of them (no controller manager).
    ///
    /// Its servers depend on no tokio runtime, so it serves tests with a runtime each; a test keeps to a
    /// [namespace of its own](Self::unique_namespace). It ends with the process.
    ///
    /// # Panics
    ///
    /// When it cannot be started: a test has no better answer.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let started = SHARED.get_or_try_init(|| Self::builder().start()).await;
        started.unwrap_or_else(|error| panic!("no control plane: {error:#}"))
    }

    /// The folder with its data and logs, for as long as it runs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.servers.supervisor.folder()
    }

    /// A file with the admin's kubeconfig, for as long as it runs.
    #[must_use]
    pub fn kubeconfig_file(&self) -> PathBuf {
        flags::Files { folder: self.folder() }.kubeconfig()
    }

    /// Writes the admin's kubeconfig to a file that only this user can read.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let written = open.and_then(|mut file| {
            // The mode above is that of a new file only.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(self.kubeconfig().as_bytes())
        });
        written.with_context(|| format!("writing {}", path.display()))
    }
}
