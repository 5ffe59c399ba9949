//! `loadtest cluster`: a control plane to look at and to try things on, until Ctrl-C.

use std::path::PathBuf;

use anyhow::Result;
use egress_testbed::ControlPlane;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Start a local control plane, print its kubeconfig, and keep it until Ctrl-C or SIGTERM
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Also run kube-controller-manager: namespace deletion and garbage collection
    #[arg(long)]
    controller_manager: bool,
    /// Write the admin's kubeconfig to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
}

/// Starts it and waits for a signal; a signal during the start ends it too.
pub async fn run(Arguments { controller_manager, kubeconfig_out }: Arguments) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stop);

    let control_plane = tokio::select! {
        started = ControlPlane::builder().controller_manager(controller_manager).start() => started?,
        // Not a return: that would wait for a build under way, which takes minutes.
        () = &mut stop => std::process::exit(INTERRUPTED),
    };
    match &kubeconfig_out {
        Some(file) => control_plane.write_kubeconfig(file)?,
        None => print!("{}", control_plane.kubeconfig()),
    }
    let file = kubeconfig_out.unwrap_or_else(|| control_plane.kubeconfig_file());
    let shown = file.display();
    eprintln!("Kubernetes API at {} (data and logs in {})", control_plane.url(), control_plane.folder().display());
    eprintln!("Use it:  KUBECONFIG={shown} kubectl get namespaces");
    eprintln!("         KUBECONFIG={shown} egress-controller run");
    eprintln!("End it:  Ctrl-C");
    stop.await;
    Ok(())
}
