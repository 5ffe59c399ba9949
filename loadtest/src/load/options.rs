//! Flags that every scenario has.

use std::path::PathBuf;

use super::size::Size;

/// Flags of a scenario.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How much there is of everything
    #[command(flatten)]
    pub size: Size,

    /// Length of the measured window of steady, churn, rotation, hostile and soak
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    pub window_seconds: u64,

    /// Run against this cluster; without it, on a control plane that is started for the run
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Folder for the report: SCENARIO.json and SCENARIO.html
    #[arg(long, value_name = "DIR", default_value = "target/loadtest")]
    pub out: PathBuf,

    /// Goals; those for the scenario decide the exit code. By default those of the project
    #[arg(long, value_name = "FILE")]
    pub slo: Option<PathBuf>,

    /// Report of an earlier run to compare with
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,

    /// Another controller that turns resources into NetworkPolicies: a command for `sh -c`, run with KUBECONFIG, DNS_HOST
    /// and DNS_PORT set (converge, steady, churn)
    #[arg(long, value_name = "CMD", requires = "template")]
    pub controller: Option<String>,

    /// Its resource, with {{name}}, {{namespace}} and {{hosts}} (a JSON list) in it, or a line with {{host}}, which is
    /// repeated for each
    #[arg(long, value_name = "FILE", requires = "controller")]
    pub template: Option<PathBuf>,

    /// What the other controller needs in the cluster (its CustomResourceDefinitions), applied before it starts
    #[arg(long, value_name = "FILE", requires = "controller")]
    pub manifests: Option<PathBuf>,

    /// A flag for our controller beside the defaults; may be given several times
    #[arg(long = "flag", value_name = "FLAG", allow_hyphen_values = true)]
    pub controller_flags: Vec<String>,

    /// The controller's own program, such as target/release/egress-controller; by default this one is started as a replica,
    /// which is the same controller in a larger program
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}
