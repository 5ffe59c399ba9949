//! How much there is of everything.

use serde::Serialize;

/// Size of the load.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Size")]
pub struct Size {
    /// EgressPolicies, spread evenly over the namespaces
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive)]
    pub policies: usize,
    /// Namespaces
    #[arg(long, value_name = "N", default_value = "1000", value_parser = positive)]
    pub namespaces: usize,
    /// Hosts, each named by as many policies as any other
    #[arg(long, value_name = "N", default_value = "1000", value_parser = positive)]
    pub hosts: usize,
    /// Hosts that a policy names
    #[arg(long, value_name = "N", default_value = "5", value_parser = positive)]
    pub hosts_per_policy: usize,
    /// IPv4 addresses in the answer for a host
    #[arg(long, value_name = "N", default_value = "2", value_parser = positive)]
    pub addresses: usize,
    /// TTL of every answer
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub ttl: u32,
    /// Replicas of the controller
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive)]
    pub replicas: usize,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
