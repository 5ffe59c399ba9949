//! How clients reach a control plane: addresses, certificates, tokens, kubeconfigs.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use kube::config::AuthInfo;
use kube::{Client, Config};

use super::ControlPlane;
use super::pki::{Authority, ServingCertificate};

/// Which server certificates a client accepts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those signed by the control plane's authority: the API server's, and those of [`ControlPlane::serving_certificate`].
    ControlPlane,
    /// Those signed by this authority (PEM).
    Authority(&'a str),
    /// Any.
    Anything,
}

/// Where the API server listens and what opens it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) url: String,
    pub(super) admin_token: String,
    pub(super) authority: Authority,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr) -> Result<Self> {
        let admin_token = format!("{:032x}", rand::random::<u128>());
        Ok(Self { address, url: format!("https://{address}"), admin_token, authority: Authority::new()? })
    }

    pub(super) fn serving(&self) -> Result<ServingCertificate> {
        let own = self.address.ip().to_string();
        self.authority.serving(&[
            own,
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            "kubernetes.default.svc".to_owned(),
        ])
    }

    pub(super) fn admin_kubeconfig(&self) -> String {
        self.kubeconfig_for(&self.url, &self.admin_token, Trust::ControlPlane)
    }

    pub(super) fn admin_config(&self) -> Config {
        self.config_for(&self.url, &self.admin_token, Trust::ControlPlane)
            .expect("an address makes a valid URL, and the PEM is our own")
    }

    fn kubeconfig_for(&self, url: &str, token: &str, trust: Trust<'_>) -> String {
        let trust = match trust {
            Trust::ControlPlane => authority_line(&self.authority.pem),
            Trust::Authority(pem) => authority_line(pem),
            Trust::Anything => "insecure-skip-tls-verify: true".to_owned(),
        };
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters:\n- name: testbed\n  cluster:\n    server: {url}\n    {trust}\n\
             users:\n- name: testbed\n  user:\n    token: {token}\n\
             contexts:\n- name: testbed\n  context:\n    cluster: testbed\n    user: testbed\n\
             current-context: testbed\n"
        )
    }

    fn config_for(&self, url: &str, token: &str, trust: Trust<'_>) -> Result<Config> {
        let mut config = Config::new(url.parse().with_context(|| format!("{url} is not a URL"))?);
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        match trust {
            Trust::ControlPlane => config.root_cert = Some(vec![self.authority.der.clone()]),
            Trust::Authority(pem) => config.root_cert = Some(Authority::der_of(pem)?),
            Trust::Anything => config.accept_invalid_certs = true,
        }
        Ok(config)
    }
}

/// JSON of a `ByteString` is its base64 in quotes, and that is YAML too.
fn authority_line(pem: &str) -> String {
    format!("certificate-authority-data: {}", serde_json::json!(ByteString(pem.as_bytes().to_vec())))
}

impl ControlPlane {
    /// The API server's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.endpoint.url
    }

    /// The API server's address, for a proxy's upstream.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// The certificate of the authority that signed the API server's.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.endpoint.authority.pem
    }

    /// The token of a user in `system:masters`.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.endpoint.admin_token
    }

    /// A certificate for these DNS names and IP addresses that clients of this control plane accept: for a proxy that ends TLS.
    ///
    /// # Errors
    ///
    /// When a name is not legal.
    pub fn serving_certificate(&self, names: &[String]) -> Result<ServingCertificate> {
        self.endpoint.authority.serving(names)
    }

    /// The admin's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.endpoint.admin_kubeconfig()
    }

    /// A kubeconfig for another URL (a proxy's) or another token.
    #[must_use]
    pub fn kubeconfig_for(&self, url: &str, token: &str, trust: Trust<'_>) -> String {
        self.endpoint.kubeconfig_for(url, token, trust)
    }

    /// What a client for another URL (a proxy's) or another token is made from; retries and timeouts are the caller's to set.
    ///
    /// # Errors
    ///
    /// When the URL or the authority cannot be parsed.
    pub fn config_for(&self, url: &str, token: &str, trust: Trust<'_>) -> Result<Config> {
        self.endpoint.config_for(url, token, trust)
    }

    /// A client of the admin, of its own: its connections belong to the runtime of the caller.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_for_token(self.admin_token())
    }

    /// A client of whoever the token names.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn client_for_token(&self, token: &str) -> Client {
        let config = self.config_for(self.url(), token, Trust::ControlPlane);
        config.and_then(|config| Ok(Client::try_from(config)?)).expect("our own URL and certificate make a client")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::config::Kubeconfig;

    fn endpoint() -> Endpoint {
        Endpoint::new("[::1]:1234".parse().expect("an address")).expect("keys can be made")
    }

    #[test]
    fn a_kubeconfig_carries_url_token_and_authority() {
        let endpoint = endpoint();
        let parsed = Kubeconfig::from_yaml(&endpoint.admin_kubeconfig()).expect("valid YAML");
        let cluster = parsed.clusters[0].cluster.as_ref().expect("a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://[::1]:1234"));
        assert!(cluster.certificate_authority_data.as_ref().is_some_and(|data| data.starts_with("LS0tLS1CRUdJTi")));
        assert!(parsed.auth_infos[0].auth_info.as_ref().is_some_and(|user| user.token.is_some()));
    }

    #[test]
    fn an_insecure_kubeconfig_carries_no_authority() {
        let text = endpoint().kubeconfig_for("https://127.0.0.1:1", "t", Trust::Anything);
        let parsed = Kubeconfig::from_yaml(&text).expect("valid YAML");
        let cluster = parsed.clusters[0].cluster.as_ref().expect("a cluster");
        assert_eq!(cluster.insecure_skip_tls_verify, Some(true));
        assert_eq!(cluster.certificate_authority_data, None);
    }

    #[test]
    fn another_authority_is_taken_from_its_pem() {
        let (one, other) = (endpoint(), endpoint());
        let config = one.config_for(&one.url, "t", Trust::Authority(&other.authority.pem)).expect("valid PEM");
        assert_eq!(config.root_cert, Some(vec![other.authority.der]));
        assert!(one.config_for(&one.url, "t", Trust::Authority("no PEM")).is_err());
    }
}
