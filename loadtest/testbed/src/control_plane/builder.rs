//! What a control plane may be asked for.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::audit::{Audit, AuditLevel};
use super::binaries::Environment;
use super::component::Component;
use super::version::Version;

/// Options of a control plane; [`Builder::start`] starts it.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before start()"]
pub struct Builder {
    pub(super) version: Version,
    pub(super) environment: Option<Environment>,
    pub(super) controller_manager: bool,
    pub(super) bind_ip: IpAddr,
    pub(super) feature_gates: Vec<String>,
    pub(super) api_server_flags: Vec<String>,
    pub(super) audit: Option<Audit>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            version: Version::default(),
            environment: None,
            controller_manager: false,
            bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            feature_gates: Vec::new(),
            api_server_flags: Vec::new(),
            audit: None,
        }
    }
}

impl Builder {
    /// Which Kubernetes; without it, [`Version::default`].
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Where binaries come from; without it, what this process's environment says.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Whether kube-controller-manager runs too: without it no namespace finishes deleting and no owner reference is collected.
    pub fn controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// The address that the API server listens on; 127.0.0.1 unless given. etcd stays on 127.0.0.1.
    pub fn bind_ip(mut self, ip: IpAddr) -> Self {
        self.bind_ip = ip;
        self
    }

    /// Sets one feature gate of the API server and of the controller manager.
    pub fn feature_gate(mut self, name: &str, on: bool) -> Self {
        self.feature_gates.push(format!("{name}={on}"));
        self
    }

    /// Adds one flag to the API server's command line, as in `--max-mutating-requests-inflight=2`; it overrides ours of the same name.
    pub fn api_server_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_server_flags.push(flag.into());
        self
    }

    /// Appends one JSON line per write to `file`: NetworkPolicies at `level`, everything else as metadata.
    ///
    /// The line may come a moment after the client has its answer.
    pub fn audit_log(mut self, file: impl Into<PathBuf>, level: AuditLevel) -> Self {
        self.audit = Some(Audit { file: file.into(), level });
        self
    }

    pub(super) fn components(&self) -> &'static [Component] {
        match self.controller_manager {
            true => &Component::ALL,
            false => &[Component::Etcd, Component::ApiServer],
        }
    }

    pub(super) fn feature_gate_flag(&self) -> Option<String> {
        (!self.feature_gates.is_empty()).then(|| format!("--feature-gates={}", self.feature_gates.join(",")))
    }
}
