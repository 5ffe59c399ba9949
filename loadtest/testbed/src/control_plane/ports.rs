//! Free ports for servers that must get the same port again after a restart.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use rand::RngExt as _;

/// Below are the ports that well-known services and other test tools take.
const LOWEST: u16 = 10_000;
/// Random draws before giving up: with ten thousand ports to draw from, only a broken address fails so often.
const DRAWS: usize = 50;
/// The kernel's default, where /proc is not readable.
const DEFAULT_EPHEMERAL_START: u16 = 32_768;

/// A port of `ip` that nobody listens on now.
///
/// It lies outside the range from which the kernel takes the ports of outgoing connections: inside it, a client that retries while its
/// server is stopped can take the server's port, or even connect to itself.
pub(super) fn free_port(ip: IpAddr) -> Result<SocketAddr> {
    let end = ephemeral_start();
    for _ in 0..DRAWS {
        if end <= LOWEST {
            break;
        }
        let address = SocketAddr::new(ip, rand::rng().random_range(LOWEST..end));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    let any = TcpListener::bind(SocketAddr::new(ip, 0)).with_context(|| format!("no free port on {ip}"))?;
    Ok(any.local_addr()?)
}

fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(DEFAULT_EPHEMERAL_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let address = free_port(IpAddr::from([127, 0, 0, 1])).expect("loopback has free ports");
        TcpListener::bind(address).expect("nobody took it");
    }

    #[test]
    fn an_address_of_another_machine_has_no_free_port() {
        assert!(free_port(IpAddr::from([192, 0, 2, 1])).is_err());
    }
}
