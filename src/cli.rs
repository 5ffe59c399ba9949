//! The command line: what each command is called, and how it ends.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[cfg(test)]
mod committed;
pub mod crd;
pub mod explain;
pub mod fence;
pub mod markdown;
pub mod render;
pub mod run;
pub mod shards;
pub mod source;
pub mod values;

/// Success; of `render --diff`: no difference; of `explain`: allowed; of `shards`: each has a holder.
pub const EXIT_OK: u8 = 0;
/// Of `render --diff`: something differs; of `explain`: not allowed; of `shards`: a shard has no holder.
pub const EXIT_DIFFERENT: u8 = 1;
/// The command line, the input or the surroundings are wrong.
pub const EXIT_ERROR: u8 = 2;
/// Of `render --strict`: there were warnings.
pub const EXIT_WARNINGS: u8 = 3;

/// Threads of the runtime at least.
const MIN_THREADS: usize = 2;

/// The whole command line.
#[derive(Parser, Debug)]
#[command(
    name = "egress-controller",
    version,
    about = "Keeps Kubernetes NetworkPolicies true to the outside hosts a tenant may reach",
    long_about = "A tenant names outside hosts, addresses and namespaces in an EgressPolicy; egress-controller keeps standard \
                  NetworkPolicies true to it while DNS answers change. It needs no particular CNI.",
    after_long_help = "Examples:
  See what a policy comes to, without a cluster:
      egress-controller render policy.yaml
  Say in CI whether what is in the cluster is what the files mean:
      kubectl get networkpolicies -A -o yaml > live.yaml
      egress-controller render policies/ --diff live.yaml
  Ask why a pod cannot connect:
      egress-controller explain policies/ --namespace team-a --to api.github.com
  Install the resources:
      egress-controller crd | kubectl apply --server-side -f -
  See which replica writes for which namespaces:
      egress-controller shards

Each flag has an environment variable, shown in its help; the command line wins.",
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the controller
    Run(Box<run::RunArgs>),
    /// Files in, NetworkPolicy YAML out; needs no cluster
    Render(Box<render::RenderArgs>),
    /// Print the CustomResourceDefinitions
    Crd(crd::CrdArgs),
    /// Print the admission policies that refuse writes of a replica that holds the shard no more
    Fence(fence::FenceArgs),
    /// Say why an address, a host or a pod is (not) allowed
    Explain(Box<explain::ExplainArgs>),
    /// Say which replica writes for which namespaces
    Shards(shards::ShardsArgs),
}

/// Runs a command; gives the exit code.
///
/// # Errors
/// When the command line, the input or the surroundings are wrong.
pub fn execute(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Run(args) => block_on(crate::app::run(*args)),
        Command::Render(args) => block_on(render::run(*args)),
        Command::Crd(args) => crd::run(args),
        Command::Fence(args) => fence::run(args),
        Command::Explain(args) => block_on(explain::run(*args)),
        Command::Shards(args) => block_on(shards::run(args)),
    }
}

fn block_on(command: impl Future<Output = Result<u8>>) -> Result<u8> {
    // Never one alone: on a machine with one core a task that blocks would stop everything.
    let threads = std::thread::available_parallelism().map_or(MIN_THREADS, usize::from).max(MIN_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.context("the runtime cannot be started")?.block_on(command)
}

/// Writes the result to standard output. A reader that has gone (`| head`) is no error.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_with_a_value_has_an_environment_variable() {
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help")) {
                // These say what this one run is about; a machine has no default for them.
                let of_the_run = [
                    "output",
                    "watch",
                    "resolve",
                    "diff",
                    "markdown",
                    "kind",
                    "to",
                    "namespace",
                    "service-account",
                    "pod-labels",
                    "port",
                    "protocol",
                    "version",
                ];
                let name = flag.get_long().unwrap_or_default();
                let expected = !of_the_run.contains(&name);
                assert_eq!(flag.get_env().is_some(), expected, "{} --{name}", command.get_name());
            }
        }
    }
}
