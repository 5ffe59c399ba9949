//! Flags of `run`. Each has an environment variable, its unit in its name, and a default that suits 1,000 namespaces.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use egress_domain::book::{MAX_ANNOTATION_BYTES, worst_case_bytes};
use egress_domain::cluster::dns_egress::DnsEgress;
use egress_domain::cluster::families::IpFamilies;
use egress_domain::fqdn::Fqdn;
use egress_domain::ports::PortSet;
use egress_domain::settings::{Adoption, Settings, StaleAction};
use ipnet::IpNet;

use crate::actors::router::RouterOptions;
use crate::dns::servers::DnsServers;
use crate::telemetry::log::LogArgs;

use super::values::{ports, seconds};

/// Run the controller: watch EgressPolicies, look their hosts up, keep NetworkPolicies true to them.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Kubeconfig file. Without it: the service account of the pod, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "EGRESS_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME", env = "EGRESS_CONTEXT")]
    pub context: Option<String>,

    /// Where /healthz, /livez, /readyz, /metrics and /debug/state are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080", env = "EGRESS_LISTEN")]
    pub listen: SocketAddr,

    /// Namespace of the controller itself; nothing is written to it. Default: the pod's own.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub own_namespace: Option<String>,

    /// Flags of lookups.
    #[command(flatten)]
    pub dns: DnsArgs,

    /// Flags of policies.
    #[command(flatten)]
    pub policy: PolicyArgs,

    /// Flags of writes.
    #[command(flatten)]
    pub write: WriteArgs,

    /// Flags of shards.
    #[command(flatten)]
    pub shards: ShardArgs,

    /// Flags of the log.
    #[command(flatten)]
    pub log: LogArgs,

    /// Lets POST /debug/crash/writer and /debug/crash/policy/NAMESPACE/NAME panic an actor (tests).
    #[arg(long, hide = true, env = "EGRESS_FAULT_INJECTION")]
    pub fault_injection: bool,

    /// Goes on writing when the sign of life comes too late: the control run that shows what the deadline prevents
    /// (tests).
    #[arg(long, hide = true, env = "EGRESS_IGNORE_FENCE_DEADLINE")]
    pub ignore_fence_deadline: bool,
}

/// Flags of lookups.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "DNS")]
pub struct DnsArgs {
    /// DNS servers to ask: `cluster` (every ready endpoint of the DNS Service, answers united), `system` (resolv.conf),
    /// or a list like 10.0.0.10,[2001:db8::53]:5353 (each asked, answers united).
    #[arg(long, value_name = "SERVERS", default_value = "cluster", env = "EGRESS_DNS_SERVERS")]
    pub dns_servers: DnsServers,

    /// Queries per second of this replica, all servers together.
    #[arg(long, value_name = "N", default_value = "2000", env = "EGRESS_DNS_QUERIES_PER_SECOND")]
    pub dns_queries_per_second: NonZeroU32,

    /// Least time between two lookups of a host, however short its TTL.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, env = "EGRESS_MIN_REFRESH_SECONDS")]
    pub min_refresh_seconds: Duration,

    /// DNS path of the pods, the first rule of every NetworkPolicy: `auto`, `seed` (kube-system on 53), or a list.
    #[arg(long, value_name = "PEERS", default_value = "auto", env = "EGRESS_DNS_EGRESS")]
    pub dns_egress: DnsEgress,

    /// Domain of the cluster: names below it are no outside hosts.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "EGRESS_CLUSTER_DOMAIN")]
    pub cluster_domain: Fqdn,

    /// Address families to look up and write: `auto` follows the cluster.
    #[arg(long, value_name = "FAMILIES", default_value = "auto", env = "EGRESS_IP_FAMILIES")]
    pub ip_families: IpFamilies,

    /// Blocks that no DNS answer may open, beside those of the cluster and the platform.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "EGRESS_DENY_ANSWER_CIDR")]
    pub deny_answer_cidr: Vec<IpNet>,
}

/// Flags of policies.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Policies")]
pub struct PolicyArgs {
    /// For policies without refreshIntervalSeconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds, env = "EGRESS_DEFAULT_REFRESH_SECONDS")]
    pub default_refresh_seconds: Duration,

    /// For policies without retentionSeconds (7 days; 12 hours are recommended in public clouds).
    #[arg(long, value_name = "SECONDS", default_value = "604800", value_parser = seconds, env = "EGRESS_DEFAULT_RETENTION_SECONDS")]
    pub default_retention_seconds: Duration,

    /// For destinations without ports: ports as 443, UDP/53 or TCP/8000-8080, with commas between them.
    #[arg(long, value_name = "PORTS", default_value = "443", value_parser = ports, env = "EGRESS_DEFAULT_PORTS")]
    pub default_ports: PortSet,

    /// Upper bound of every policy's retention.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "EGRESS_MAX_RETENTION_SECONDS")]
    pub max_retention_seconds: Option<Duration>,

    /// How long the first write of a policy waits for its hosts.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, env = "EGRESS_FIRST_SIGHT_DEADLINE_SECONDS")]
    pub first_sight_deadline_seconds: Duration,

    /// Addresses of one host; at the cap the longest unseen goes.
    #[arg(long, value_name = "N", default_value = "1000", env = "EGRESS_MAX_ADDRESSES_PER_HOST")]
    pub max_addresses_per_host: usize,

    /// (host, address) pairs of one policy; at the cap the longest unseen goes.
    #[arg(long, value_name = "N", default_value = "2000", env = "EGRESS_MAX_ADDRESSES_PER_POLICY")]
    pub max_addresses_per_policy: usize,

    /// Hosts of one namespace that are looked up; older policies first.
    #[arg(long, value_name = "N", default_value = "500", env = "EGRESS_MAX_HOSTS_PER_NAMESPACE")]
    pub max_hosts_per_namespace: usize,

    /// A host without a successful answer for so long is called stale.
    #[arg(long, value_name = "SECONDS", default_value = "2592000", value_parser = seconds, env = "EGRESS_MAX_STALE_SECONDS")]
    pub max_stale_seconds: Duration,

    /// What happens to the addresses of a stale host.
    #[arg(long, value_enum, default_value = "keep", env = "EGRESS_MAX_STALE_ACTION")]
    pub max_stale_action: MaxStaleAction,

    /// Namespaces that nothing is written to; a trailing * stands for any ending.
    #[arg(
        long,
        value_name = "NAMESPACE",
        value_delimiter = ',',
        default_value = "kube-system,kube-public,kube-node-lease,openshift-*",
        env = "EGRESS_PROTECTED_NAMESPACES"
    )]
    pub protected_namespaces: Vec<String>,

    /// Whether a namespace with an enforcing policy gets default-deny-egress.
    #[arg(long, value_enum, default_value = "always", env = "EGRESS_DEFAULT_DENY")]
    pub default_deny: DefaultDeny,

    /// Which NetworkPolicies without an owner are taken over: those of the Python operator's exact shape, or none.
    #[arg(long, value_enum, default_value = "seed", env = "EGRESS_ADOPT")]
    pub adopt: Adopt,

    /// How often a name conflict or a refused write is tried again.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, env = "EGRESS_RETRY_INTERVAL_SECONDS")]
    pub retry_interval_seconds: Duration,

    /// Least time between two status writes of a policy without a condition's transition.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, env = "EGRESS_STATUS_INTERVAL_SECONDS")]
    pub status_interval_seconds: Duration,

    /// Least time between two Events of a policy and reason.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds, env = "EGRESS_EVENT_INTERVAL_SECONDS")]
    pub event_interval_seconds: Duration,
}

/// Flags of writes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Writes")]
pub struct WriteArgs {
    /// Upper bound of writes per second, fair between namespaces. Default: none, the API server's own limits govern.
    #[arg(long, value_name = "N", env = "EGRESS_MAX_WRITES_PER_SECOND")]
    pub max_writes_per_second: Option<NonZeroU32>,

    /// Time-out of one request; never more than a fifth of the lease duration.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, env = "EGRESS_WRITE_TIMEOUT_SECONDS")]
    pub write_timeout_seconds: Duration,

    /// How long pending writes are drained after SIGTERM, before the process ends all the same.
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds, env = "EGRESS_DRAIN_TIMEOUT_SECONDS")]
    pub drain_timeout_seconds: Duration,
}

/// Flags of shards: several replicas split the namespaces among them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Shards")]
pub struct ShardArgs {
    /// How long a replica is taken for alive after its last sign of life, in whole seconds. Counts when the table of
    /// shards is made; afterwards the table says it.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = clap::value_parser!(u32).range(1..=300), env = "EGRESS_LEASE_DURATION_SECONDS")]
    pub lease_duration_seconds: u32,

    /// Number of shards. Counts when the table of shards is made; afterwards the table says it.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..=1024), env = "EGRESS_SHARDS")]
    pub shards: u16,

    /// Name of this replica: its pod. Default: the name of the machine.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// Uid of the pod: a container that starts again in its pod takes its shards back at once.
    #[arg(long, value_name = "UID", default_value = "", env = "POD_UID", hide_default_value = true)]
    pub pod_uid: String,
}

/// What happens to the addresses of a stale host.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MaxStaleAction {
    /// They stay allowed; the condition says Stale.
    Keep,
    /// They go.
    Drop,
}

/// Whether namespaces get a default deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DefaultDeny {
    /// Every namespace with an enforcing policy.
    Always,
    /// None; somebody else closes them.
    Off,
}

/// Which foreign NetworkPolicies are taken over.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Adopt {
    /// Those of the Python operator's exact shape.
    Seed,
    /// None, but for those that carry the adopt annotation.
    Never,
}

impl RunArgs {
    /// The flags as the domain takes them.
    pub fn settings(&self) -> Result<Settings> {
        let Self { policy, .. } = self;
        let pairs = policy.max_addresses_per_policy;
        ensure!(
            worst_case_bytes(pairs) <= MAX_ANNOTATION_BYTES,
            "--max-addresses-per-policy {pairs}: the address book of so many can take {} bytes, and an annotation has room for {MAX_ANNOTATION_BYTES}",
            worst_case_bytes(pairs)
        );
        Ok(Settings {
            default_refresh: policy.default_refresh_seconds,
            default_retention: policy.default_retention_seconds,
            default_ports: policy.default_ports.clone(),
            max_retention: policy.max_retention_seconds,
            first_sight_deadline: policy.first_sight_deadline_seconds,
            max_addresses_per_host: policy.max_addresses_per_host,
            max_addresses_per_policy: pairs,
            max_stale: policy.max_stale_seconds,
            stale_action: match policy.max_stale_action {
                MaxStaleAction::Keep => StaleAction::Keep,
                MaxStaleAction::Drop => StaleAction::Drop,
            },
            adoption: match policy.adopt {
                Adopt::Seed => Adoption::Seed,
                Adopt::Never => Adoption::Never,
            },
            retry_interval: policy.retry_interval_seconds,
            status_interval: policy.status_interval_seconds,
            event_interval: policy.event_interval_seconds,
            ..Settings::default()
        })
    }

    /// The flags as the router takes them.
    pub fn router_options(&self) -> RouterOptions {
        let own = self.own_namespace.iter().cloned();
        RouterOptions {
            protected: self.policy.protected_namespaces.iter().cloned().chain(own).collect(),
            default_deny: self.policy.default_deny == DefaultDeny::Always,
            max_hosts_per_namespace: self.policy.max_hosts_per_namespace,
        }
    }
}
