//! Which cluster is meant: that of the pod, or one of a kubeconfig.

use std::path::Path;

use anyhow::{Context as _, Result};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// What `--kubeconfig` and `--context` name; without them the service account of the pod, else the usual kubeconfig.
///
/// # Errors
/// When there is none, or it cannot be used.
pub async fn kube_config(file: Option<&Path>, context: Option<&str>) -> Result<Config> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    match (file, context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("--kubeconfig {}", file.display()))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.with_context(|| format!("--kubeconfig {}", file.display()))
        }
        (None, Some(context)) => {
            Config::from_kubeconfig(&options).await.with_context(|| format!("--context {context}"))
        }
        (None, None) => Config::infer().await.context(
            "no cluster: neither a service account (in a pod) nor a kubeconfig ($KUBECONFIG, ~/.kube/config) was found; use --kubeconfig FILE",
        ),
    }
}
