//! `shards`: which replica writes for which namespaces, for people and for scripts.

mod report;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use egress_domain::api::{EgressShardTable, SHARD_TABLE};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use self::report::{Report, text};
use super::{EXIT_DIFFERENT, EXIT_OK, print};
use crate::k8s::client::watch_client;
use crate::k8s::config::kube_config;
use crate::k8s::shards::{COMPONENT, COMPONENT_LABEL};

/// Namespaces of one page: the API server holds a page in memory.
const PAGE: u32 = 500;
/// What to do when there is no table.
const NO_TABLE: &str = "no replica has ever joined in this cluster, or the table was deleted. A replica makes it when it \
                        starts and may: see its log and /readyz. If the resource itself is missing, install it: \
                        egress-controller crd | kubectl apply --server-side -f -";

/// Say which replica writes for which namespaces: the shards of each, its namespaces, its last sign of life; and whether
/// any shard has no holder.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  Which replicas are there, and does each shard have a holder?
      egress-controller shards
  The shards that nobody holds, for a script:
      egress-controller shards --output json | jq .unowned

Needed rights: get EgressShardTables, list Leases in the namespace of the controller, list Namespaces.

Exit code: 0 every shard has a holder; 1 some have none; 2 on errors.")]
pub struct ShardsArgs {
    /// Kubeconfig file. Without it: the service account of the pod, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "EGRESS_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME", env = "EGRESS_CONTEXT")]
    pub context: Option<String>,

    /// How it is printed.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For scripts
    Json,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the cluster cannot be asked, or there is no table.
pub async fn run(args: ShardsArgs) -> Result<u8> {
    let config = kube_config(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let report = read(watch_client(config)?).await?;
    match args.output {
        Output::Table => print(&text(&report))?,
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if report.is_whole() { EXIT_OK } else { EXIT_DIFFERENT })
}

/// Three consistent reads, one after the other: what changes between them may show twice or not at all.
async fn read(client: Client) -> Result<Report> {
    let table = match Api::<EgressShardTable>::all(client.clone()).get(SHARD_TABLE).await {
        // Where the resource itself is missing the answer is a plain page.
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        answer => Some(answer.context("the EgressShardTable cannot be read")?),
    };
    let table = table.with_context(|| format!("there is no EgressShardTable {SHARD_TABLE:?}: {NO_TABLE}"))?;
    let ours = ListParams::default().labels(&format!("{COMPONENT_LABEL}={COMPONENT}"));
    let installation = &table.spec.installation;
    let leases = Api::<Lease>::namespaced(client.clone(), installation).list(&ours).await;
    let leases = leases.with_context(|| format!("the Leases in namespace {installation} cannot be listed"))?;
    let namespaces = namespaces(client).await.context("the Namespaces cannot be listed")?;
    Report::new(&table.spec, &leases.items, &namespaces, Timestamp::now())
}

async fn namespaces(client: Client) -> kube::Result<Vec<String>> {
    let api = Api::<Namespace>::all(client);
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&params).await?;
        names.extend(page.items.iter().map(|namespace| namespace.name_any()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(names),
        }
    }
}
