//! `explain`: why an address, a host or a pod is (not) allowed.

mod scene;
mod target;
mod trace;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use egress_domain::evaluate::{Labels, Source};
use egress_domain::ports::Protocol;

use self::scene::Scene;
pub use self::target::Target;
use self::trace::{Question, explain};
use super::source::SourceArgs;
use super::values::{labels, protocol};
use super::{EXIT_DIFFERENT, EXIT_OK, print};

/// Say why a connection of a pod is (not) allowed: which policy, which destination, which DNS answer, when seen.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  From files, EgressPolicies or rendered NetworkPolicies:
      egress-controller explain policies/ --namespace team-a --to api.github.com
  From the cluster of the kubeconfig:
      egress-controller explain --namespace team-a --pod-labels app=web --to 140.82.121.6 --port 443
  To pods of another namespace:
      egress-controller explain policies/ --namespace team-a --to pod:shared-services/app=db --port 5432

Exit code: 0 allowed; 1 not allowed (of a host: not every address); 2 on errors.")]
pub struct ExplainArgs {
    /// Files and folders with EgressPolicies or NetworkPolicies. Without any, the cluster is asked.
    #[arg(value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,

    /// Namespace of the pod that connects.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: String,

    /// Labels of the pod that connects.
    #[arg(long, value_name = "KEY=VALUE,...", default_value = "", value_parser = labels)]
    pub pod_labels: Labels,

    /// Where it connects to: a host name, an address, or pod:NAMESPACE/KEY=VALUE,...
    #[arg(long, value_name = "HOST|IP|pod:NAMESPACE")]
    pub to: Target,

    /// Port that it connects to.
    #[arg(long, value_name = "PORT", default_value = "443", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Transport protocol.
    #[arg(long, value_name = "TCP|UDP|SCTP", default_value = "TCP", value_parser = protocol)]
    pub protocol: Protocol,

    /// Kubeconfig file. Without it: the service account of the pod, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "EGRESS_KUBECONFIG", conflicts_with = "paths")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME", env = "EGRESS_CONTEXT", conflicts_with = "paths")]
    pub context: Option<String>,

    /// How policies are read and their hosts looked up.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the input or the flags are wrong, or the cluster cannot be asked.
pub async fn run(args: ExplainArgs) -> Result<u8> {
    let scene = match args.paths.is_empty() {
        true => Scene::of_cluster(&args).await?,
        false => Scene::of_files(&args).await?,
    };
    scene.report.lines().iter().for_each(|line| eprintln!("{line}"));
    let source = Source { namespace: &args.namespace, labels: &args.pod_labels };
    let question = Question { source, to: &args.to, protocol: args.protocol, port: args.port };
    let explanation = explain(&scene, &question)?;
    print(&explanation.text)?;
    Ok(if explanation.allowed { EXIT_OK } else { EXIT_DIFFERENT })
}
