//! The cluster that the load goes to: a control plane on this machine, or any that a kubeconfig names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use egress_testbed::control_plane::{self, Component, ControlPlane, Trust, Usage};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

/// See the module documentation.
pub enum Cluster {
    /// A control plane of this process.
    Local(Box<ControlPlane>),
    /// Somebody else's.
    Given {
        /// Its kubeconfig.
        kubeconfig: Box<Kubeconfig>,
        /// A client of its user.
        client: Client,
        /// Where kubeconfigs of replicas are written.
        folder: tempfile::TempDir,
    },
}

impl Cluster {
    /// Starts a control plane, or connects; installs deploy/.
    ///
    /// # Errors
    /// When it cannot be started or reached, or refuses what is installed.
    pub async fn open(kubeconfig: Option<&Path>) -> Result<Self> {
        let cluster = match kubeconfig {
            None => {
                eprintln!("starting etcd and kube-apiserver (the first time they are built, which takes some minutes)");
                Self::Local(Box::new(ControlPlane::builder().start().await?))
            }
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("reading {}", file.display()))?;
                let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
                let client = Client::try_from(config)?;
                Self::Given { kubeconfig: Box::new(kubeconfig), client, folder: tempfile::tempdir()? }
            }
        };
        control_plane::install(&cluster.client()).await.context("installing deploy/")?;
        Ok(cluster)
    }

    /// A client of an administrator.
    #[must_use]
    pub fn client(&self) -> Client {
        match self {
            Self::Local(control_plane) => control_plane.client(),
            Self::Given { client, .. } => client.clone(),
        }
    }

    /// The kubeconfig of the administrator, in a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn admin(&self) -> Result<PathBuf> {
        match self {
            Self::Local(control_plane) => Ok(control_plane.kubeconfig_file()),
            Self::Given { kubeconfig, folder, .. } => write(folder.path(), "admin", kubeconfig),
        }
    }

    /// A pod of the controller, and the kubeconfig that speaks with its token.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub async fn replica(&self, pod: &str) -> Result<(control_plane::Replica, PathBuf)> {
        let replica = control_plane::replica(&self.client(), pod).await?;
        let file = match self {
            Self::Local(control_plane) => {
                let text = control_plane.kubeconfig_for(control_plane.url(), &replica.token, Trust::ControlPlane);
                let file = control_plane.folder().join(format!("{pod}.kubeconfig"));
                std::fs::write(&file, text)?;
                file
            }
            Self::Given { kubeconfig, folder, .. } => {
                let mut own = kubeconfig.clone();
                for user in &mut own.auth_infos {
                    let auth: AuthInfo = serde_json::from_value(json!({"token": replica.token}))?;
                    user.auth_info = Some(auth);
                }
                write(folder.path(), pod, &own)?
            }
        };
        Ok((replica, file))
    }

    /// A client that speaks with a replica's kubeconfig.
    ///
    /// # Errors
    /// When the file is none.
    pub async fn client_of(&self, kubeconfig: &Path) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// What API server and etcd have used so far; none of a cluster whose processes are elsewhere.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn used(&self) -> Result<Option<ServerUsage>> {
        let Self::Local(control_plane) = self else { return Ok(None) };
        let used = control_plane.cpu_and_memory()?;
        let of = |component| used.get(&component).copied().unwrap_or_default();
        Ok(Some(ServerUsage { api_server: of(Component::ApiServer), etcd: of(Component::Etcd) }))
    }
}

/// What the servers have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerUsage {
    /// kube-apiserver.
    pub api_server: Usage,
    /// etcd.
    pub etcd: Usage,
}

fn write(folder: &Path, name: &str, kubeconfig: &Kubeconfig) -> Result<PathBuf> {
    let file = folder.join(format!("{name}.kubeconfig"));
    // JSON is YAML.
    std::fs::write(&file, serde_json::to_string(kubeconfig)?)?;
    Ok(file)
}
