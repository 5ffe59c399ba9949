//! `loadtest demo`: the whole story on this machine. A control plane and a DNS server start, the controller runs,
//! policies appear, a DNS answer changes and the NetworkPolicy follows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser as _;
use egress_controller::cli::{Cli, Command};
use egress_domain::api::{EgressPolicy, Mode};
use egress_domain::network_policy::blocks;
use egress_testbed::control_plane::{ControlPlane, Trust};
use egress_testbed::dns::DnsServer;
use egress_testbed::eventually;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};

/// Each step takes a moment; a demo that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// TTL of every answer: short, so that a change is seen soon.
const TTL: u32 = 2;

/// Run the controller on a local control plane, show policies appear, a DNS answer change and follow
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder with EgressPolicies (*.yaml) and a file `hosts` with lines HOST=IP[,IP]
    #[arg(long, value_name = "DIR", default_value = "examples")]
    examples: PathBuf,
    /// End after the story instead of keeping everything up until Ctrl-C
    #[arg(long)]
    once: bool,
}

/// Tells the story; then keeps everything up until a signal, unless told otherwise.
pub async fn run(Arguments { examples, once }: Arguments) -> Result<()> {
    let policies = read_policies(&examples)?;
    let hosts = read_hosts(&examples.join("hosts"))?;

    say("Starting etcd and kube-apiserver (the first time they are built, which takes some minutes) …");
    let control_plane = ControlPlane::builder().start().await?;
    control_plane.install().await?;
    let replica = control_plane.replica("egress-controller-0").await?;
    let dns = DnsServer::start().await?;
    for (host, addresses) in &hosts {
        dns.set_host(host, addresses, TTL);
    }
    say(&format!("A DNS server on {} answers for {} hosts.", dns.addr(), hosts.len()));

    let kubeconfig = control_plane.kubeconfig_file();
    let of_replica = control_plane.folder().join("replica.kubeconfig");
    std::fs::write(
        &of_replica,
        control_plane.kubeconfig_for(control_plane.url(), &replica.token, Trust::ControlPlane),
    )?;
    let command = format!(
        "egress-controller run --kubeconfig={} {} --listen=127.0.0.1:0 --dns-servers={} --min-refresh-seconds=1 --ip-families=dual --log-filter=error,kube=off",
        of_replica.display(),
        replica.flags().join(" "),
        dns.addr()
    );
    say(&format!("Running: {command}"));
    let Command::Run(args) = Cli::try_parse_from(command.split(' '))?.command else {
        return Err(anyhow!("the command line is that of `run`"));
    };
    let mut controller = tokio::spawn(egress_controller::app::run(*args));
    let story = async {
        let client = control_plane.client();
        create(&client, &policies).await?;
        for policy in policies.iter().filter(|policy| policy.spec.mode == Mode::Enforce) {
            let object = appears(&client, policy).await?;
            say(&format!(
                "  {}/{} allows {}",
                policy.namespace().unwrap_or_default(),
                object.name_any(),
                listed(&object)
            ));
        }
        follow(&client, &dns, &policies, &hosts).await
    };
    tokio::select! {
        told = story => told?,
        ended = &mut controller => return Err(anyhow!("the controller ended: {ended:?}")),
    }
    if once {
        // Before the API server goes, so that nobody misses it.
        controller.abort();
        drop(controller.await);
    } else {
        say(&format!(
            "Look around:  KUBECONFIG={} kubectl get egp,netpol -A      End it:  Ctrl-C",
            kubeconfig.display()
        ));
        // The controller takes the signal, drains and ends.
        controller.await??;
    }
    Ok(())
}

fn say(text: &str) {
    eprintln!("{text}");
}

/// Changes the answer of the first host that a policy names, and waits until the NetworkPolicy has it.
async fn follow(
    client: &Client,
    dns: &DnsServer,
    policies: &[EgressPolicy],
    hosts: &[(String, Vec<IpAddr>)],
) -> Result<()> {
    let names = |policy: &EgressPolicy, host: &str| {
        policy.spec.destinations.iter().any(|d| d.hostname.as_deref() == Some(host))
    };
    let found = hosts.iter().find_map(|(host, addresses)| {
        let policy = policies.iter().find(|p| p.spec.mode == Mode::Enforce && names(p, host))?;
        Some((host, addresses, policy))
    });
    let (host, addresses, policy) = found.context("no enforcing example names a host of the file `hosts`")?;
    // RFC 5737: reserved for documentation.
    let new: IpAddr = "203.0.113.99".parse()?;
    let changed: Vec<IpAddr> = addresses.iter().copied().chain([new]).collect();
    say(&format!("DNS now answers {new} for {host}, too …"));
    dns.set_host(host, &changed, TTL);
    let since = Instant::now();
    let api = network_policies(client, policy);
    let name = format!("egress-{}", policy.name_any());
    eventually(PATIENCE, async || {
        let object = api.get(&name).await?;
        ensure!(object.spec.iter().flat_map(blocks).any(|(net, _)| net.addr() == new), "{name} lacks {new}");
        anyhow::Ok(())
    })
    .await?;
    say(&format!("  {name} has it after {:.1} s (TTL {TTL} s).", since.elapsed().as_secs_f64()));
    Ok(())
}

async fn create(client: &Client, policies: &[EgressPolicy]) -> Result<()> {
    let namespaces: BTreeSet<String> = policies.iter().filter_map(ResourceExt::namespace).collect();
    for name in namespaces {
        let namespace = Namespace {
            metadata: kube::core::ObjectMeta { name: Some(name), ..Default::default() },
            ..Default::default()
        };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    for policy in policies {
        let api: Api<EgressPolicy> = Api::namespaced(client.clone(), &policy.namespace().unwrap_or_default());
        api.create(&PostParams::default(), policy).await?;
    }
    let known = Api::<EgressPolicy>::all(client.clone()).list(&ListParams::default()).await?.items.len();
    say(&format!("Created {known} EgressPolicies:"));
    Ok(())
}

async fn appears(client: &Client, policy: &EgressPolicy) -> Result<NetworkPolicy> {
    let api = network_policies(client, policy);
    let name = format!("egress-{}", policy.name_any());
    eventually(PATIENCE, async || api.get(&name).await.map_err(anyhow::Error::from)).await
}

fn network_policies(client: &Client, policy: &EgressPolicy) -> Api<NetworkPolicy> {
    Api::namespaced(client.clone(), &policy.namespace().unwrap_or_default())
}

fn listed(object: &NetworkPolicy) -> String {
    let nets: Vec<String> = object.spec.iter().flat_map(blocks).map(|(net, _)| net.to_string()).collect();
    if nets.is_empty() { "pods of other namespaces only".to_owned() } else { nets.join(", ") }
}

fn read_policies(folder: &Path) -> Result<Vec<EgressPolicy>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("--examples {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut policies = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for document in text.split("\n---\n") {
            policies.push(serde_saphyr::from_str(document).with_context(|| file.display().to_string())?);
        }
    }
    Ok(policies)
}

fn read_hosts(file: &Path) -> Result<Vec<(String, Vec<IpAddr>)>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (host, addresses) = line.split_once('=').with_context(|| format!("{}: {line}", file.display()))?;
            let addresses: Result<Vec<IpAddr>, _> = addresses.split(',').map(|text| text.trim().parse()).collect();
            Ok((host.to_owned(), addresses.with_context(|| format!("{}: {line}", file.display()))?))
        })
        .collect()
}
