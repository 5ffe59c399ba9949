//! Flags of every command that reads policies: how their hosts get addresses, what stands for what they leave out.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use egress_domain::cluster::dns_egress::DnsEgress;
use egress_domain::cluster::facts::{ClusterFacts, ClusterFlags, cluster};
use egress_domain::cluster::families::IpFamilies;
use egress_domain::fqdn::Fqdn;
use egress_domain::machine::Context;
use egress_domain::ports::PortSet;
use egress_domain::settings::Settings;
use ipnet::IpNet;

use super::run::DefaultDeny;
use super::values::{ports, seconds};
use crate::dns::servers::DnsServers;
use crate::files::hosts::HostAddresses;
use crate::files::load::Sources;
use crate::files::session::{DnsOptions, Options};

/// How policies are read and their hosts looked up.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// Addresses of a host, in the place of DNS; several with commas, or by repeating the flag. IPv6 is allowed.
    #[arg(long, value_name = "HOST=IP")]
    pub resolve: Vec<HostAddresses>,

    /// Flags of lookups.
    #[command(flatten)]
    pub dns: SourceDnsArgs,

    /// Flags of policies.
    #[command(flatten)]
    pub policy: SourcePolicyArgs,
}

/// Flags of lookups.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "DNS")]
pub struct SourceDnsArgs {
    /// DNS servers to ask: `system` (resolv.conf), or a list like 10.0.0.10,[2001:db8::53]:5353 (each asked, answers
    /// united). Asked only for hosts without given addresses.
    #[arg(long, value_name = "SERVERS", default_value = "system", env = "EGRESS_DNS_SERVERS")]
    pub dns_servers: DnsServers,

    /// Queries per second, all servers together.
    #[arg(long, value_name = "N", default_value = "2000", env = "EGRESS_DNS_QUERIES_PER_SECOND")]
    pub dns_queries_per_second: NonZeroU32,

    /// How long the hosts' first answers are waited for.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, env = "EGRESS_FIRST_SIGHT_DEADLINE_SECONDS")]
    pub first_sight_deadline_seconds: Duration,

    /// Least time between two lookups of a host with --watch, however short its TTL.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, env = "EGRESS_MIN_REFRESH_SECONDS")]
    pub min_refresh_seconds: Duration,

    /// DNS path of the pods, the first rule of every NetworkPolicy: `seed` (kube-system on 53), or a list of CIDRs,
    /// KEY=VALUE (pods with this label), namespace:NAME and port:N. What `auto` means only a cluster can tell.
    #[arg(long, value_name = "PEERS", default_value = "seed", env = "EGRESS_DNS_EGRESS")]
    pub dns_egress: DnsEgress,

    /// Domain of the cluster: names below it are no outside hosts.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "EGRESS_CLUSTER_DOMAIN")]
    pub cluster_domain: Fqdn,

    /// Address families to look up and write: `auto` and `dual` are both.
    #[arg(long, value_name = "FAMILIES", default_value = "auto", env = "EGRESS_IP_FAMILIES")]
    pub ip_families: IpFamilies,

    /// Blocks that no DNS answer may open, beside loopback, link-local and platform addresses.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "EGRESS_DENY_ANSWER_CIDR")]
    pub deny_answer_cidr: Vec<IpNet>,
}

/// Flags of policies.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Policies")]
pub struct SourcePolicyArgs {
    /// For policies without refreshIntervalSeconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds, env = "EGRESS_DEFAULT_REFRESH_SECONDS")]
    pub default_refresh_seconds: Duration,

    /// For policies without retentionSeconds (7 days).
    #[arg(long, value_name = "SECONDS", default_value = "604800", value_parser = seconds, env = "EGRESS_DEFAULT_RETENTION_SECONDS")]
    pub default_retention_seconds: Duration,

    /// Upper bound of every policy's retention.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "EGRESS_MAX_RETENTION_SECONDS")]
    pub max_retention_seconds: Option<Duration>,

    /// For destinations without ports: a list of 443, UDP/53, TCP/8000-8080.
    #[arg(long, value_name = "PORTS", default_value = "TCP/443", value_parser = ports, env = "EGRESS_DEFAULT_PORTS")]
    pub default_ports: PortSet,

    /// Addresses of one host; at the cap the longest unseen goes.
    #[arg(long, value_name = "N", default_value = "1000", env = "EGRESS_MAX_ADDRESSES_PER_HOST")]
    pub max_addresses_per_host: usize,

    /// (host, address) pairs of one policy; at the cap the longest unseen goes.
    #[arg(long, value_name = "N", default_value = "2000", env = "EGRESS_MAX_ADDRESSES_PER_POLICY")]
    pub max_addresses_per_policy: usize,

    /// Namespaces that nothing is rendered for; a trailing * stands for any ending.
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
}

impl SourceArgs {
    /// These files, and the given hosts.
    pub fn sources(&self, paths: Vec<PathBuf>) -> Sources {
        Sources { paths, resolve: self.resolve.iter().cloned().collect() }
    }

    /// The flags as the domain takes them.
    pub fn settings(&self) -> Settings {
        let Self { dns, policy, .. } = self;
        Settings {
            default_refresh: policy.default_refresh_seconds,
            default_retention: policy.default_retention_seconds,
            max_retention: policy.max_retention_seconds,
            default_ports: policy.default_ports.clone(),
            first_sight_deadline: dns.first_sight_deadline_seconds,
            max_addresses_per_host: policy.max_addresses_per_host,
            max_addresses_per_policy: policy.max_addresses_per_policy,
            ..Settings::default()
        }
    }

    /// The flags as a session takes them.
    ///
    /// # Errors
    /// When a flag needs a cluster.
    pub fn options(&self) -> Result<Options> {
        let Self { dns, policy, .. } = self;
        ensure!(dns.dns_servers != DnsServers::Cluster, "--dns-servers cluster needs a cluster: use system, or a list");
        ensure!(dns.dns_egress != DnsEgress::Auto, "--dns-egress auto needs a cluster: use seed, or a list");
        let flags = ClusterFlags {
            dns_egress: dns.dns_egress.clone(),
            ip_families: dns.ip_families,
            deny_answer_cidrs: dns.deny_answer_cidr.clone(),
            cluster_domain: dns.cluster_domain.clone(),
        };
        let cluster = cluster(&ClusterFacts::default(), &flags);
        Ok(Options {
            context: Context { settings: Arc::new(self.settings()), cluster: Arc::new(cluster) },
            default_deny: policy.default_deny == DefaultDeny::Always,
            protected: policy.protected_namespaces.clone(),
            dns: DnsOptions {
                servers: dns.dns_servers.clone(),
                min_refresh: dns.min_refresh_seconds,
                queries_per_second: dns.dns_queries_per_second,
            },
        })
    }
}
