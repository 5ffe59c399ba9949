//! The three command lines, and the files that they name.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::pki::ServingCertificate;

/// etcd's default quota (2 GB) stops a load scenario that rewrites tens of thousands of large objects.
const ETCD_QUOTA_BYTES: u64 = 8_000_000_000;
/// What the API server calls its own address: it refuses loopback here, and a machine or network namespace may have nothing else. Never dialled.
const ADVERTISED_ADDRESS: &str = "192.0.2.1";
/// After so much the API server would begin a new file, and who reads one file would miss the rest.
const AUDIT_LOG_MIB: u32 = 100_000;
/// The controller manager's requests per second; its default of 20 makes collecting a thousand objects take a minute.
const CONTROLLER_MANAGER_QPS: u32 = 500;

/// What is written into the folder of a control plane before its servers start.
pub(super) struct Files<'a> {
    pub(super) folder: &'a Path,
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.path(name).display())
    }

    pub(super) fn log(&self, server: &str) -> PathBuf {
        self.path(&format!("{server}.log"))
    }

    pub(super) fn write_serving(&self, serving: &ServingCertificate) -> Result<()> {
        fs::write(self.path("serving.crt"), &serving.certificate_pem)?;
        Ok(fs::write(self.path("serving.key"), &serving.key_pem)?)
    }

    pub(super) fn write_token_keys(&self, (private, public): &(String, String)) -> Result<()> {
        fs::write(self.path("tokens.key"), private)?;
        Ok(fs::write(self.path("tokens.pub"), public)?)
    }

    pub(super) fn write_admin_token(&self, token: &str) -> Result<()> {
        Ok(fs::write(self.path("tokens.csv"), format!("{token},admin,admin,\"system:masters\"\n"))?)
    }

    pub(super) fn write_kubeconfig(&self, kubeconfig: &str) -> Result<()> {
        Ok(fs::write(self.kubeconfig(), kubeconfig)?)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    pub(super) fn write_audit_policy(&self, policy: &Value) -> Result<()> {
        // JSON is YAML.
        Ok(fs::write(self.path("audit-policy.yaml"), policy.to_string())?)
    }

    pub(super) fn etcd(&self, clients: SocketAddr, peers: SocketAddr) -> Vec<String> {
        vec![
            self.flag("data-dir", "etcd"),
            format!("--listen-client-urls=http://{clients}"),
            format!("--advertise-client-urls=http://{clients}"),
            format!("--listen-peer-urls=http://{peers}"),
            format!("--initial-advertise-peer-urls=http://{peers}"),
            format!("--initial-cluster=default=http://{peers}"),
            format!("--quota-backend-bytes={ETCD_QUOTA_BYTES}"),
            // The data live as long as the test; a crash of the machine may take them.
            "--unsafe-no-fsync".to_owned(),
        ]
    }

    pub(super) fn api_server(&self, etcd: SocketAddr, secure: SocketAddr) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://{etcd}"),
            format!("--bind-address={}", secure.ip()),
            format!("--secure-port={}", secure.port()),
            format!("--advertise-address={ADVERTISED_ADDRESS}"),
            "--endpoint-reconciler-type=none".to_owned(),
            self.flag("cert-dir", "certificates"),
            self.flag("tls-cert-file", "serving.crt"),
            self.flag("tls-private-key-file", "serving.key"),
            self.flag("token-auth-file", "tokens.csv"),
            self.flag("service-account-key-file", "tokens.pub"),
            self.flag("service-account-signing-key-file", "tokens.key"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // It refuses Pods whose ServiceAccount does not exist yet, and nobody makes those without a controller manager.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ]
    }

    pub(super) fn audit(&self, log: &Path) -> Vec<String> {
        vec![
            self.flag("audit-policy-file", "audit-policy.yaml"),
            format!("--audit-log-path={}", log.display()),
            format!("--audit-log-maxsize={AUDIT_LOG_MIB}"),
        ]
    }

    pub(super) fn controller_manager(&self) -> Vec<String> {
        vec![
            self.flag("kubeconfig", "kubeconfig"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--kube-api-qps={CONTROLLER_MANAGER_QPS}"),
            format!("--kube-api-burst={CONTROLLER_MANAGER_QPS}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_line_names_the_folder() {
        let files = Files { folder: Path::new("/the/folder") };
        let address: SocketAddr = "127.0.0.1:12345".parse().expect("an address");
        // The watchdog knows its processes by that.
        for flags in [files.etcd(address, address), files.api_server(address, address), files.controller_manager()] {
            assert!(flags.iter().any(|flag| flag.contains("/the/folder")), "{flags:?}");
        }
    }
}
