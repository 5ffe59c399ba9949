//! The same start with 1, 2, … replicas.

use anyhow::{Result, ensure};
use loadtest_report::{Report, Style};

use super::start::{Start, start};
use crate::load::bed::Bed;
use crate::load::figures::{Figures, MIB};
use crate::load::options::Options;
use crate::load::plots::{axis, line, plot};

/// Replicas of the last round, where the flag does not ask for more.
const REPLICAS: usize = 4;

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    ensure!(options.kubeconfig.is_none(), "scale-out starts a control plane for each round; it takes no --kubeconfig");
    let (mut times, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let most = options.size.replicas.max(REPLICAS);
    for replicas in 1..=most {
        let mut options = options.clone();
        options.size.replicas = replicas;
        eprintln!("{replicas} of {most} replicas");
        let mut bed = Bed::open(&options).await?;
        bed.fill().await?;
        let Start { seconds, cost, .. } = start(&mut bed).await?;
        let mut figures = Figures { report: &mut report };
        let of = format!("with {replicas} replicas");
        figures.add(&format!("seconds_{replicas}"), &format!("Every NetworkPolicy right, {of}"), seconds, "s");
        figures.add(&format!("cpu_{replicas}"), &format!("CPU of the controller, {of}"), cost.controller_cpu, "s");
        let mib = cost.memory as f64 / MIB;
        figures.add(&format!("memory_{replicas}"), &format!("Memory of the controller, {of}"), mib, "MiB");
        let lookups = cost.queries() as f64;
        figures.add(&format!("lookups_{replicas}"), &format!("DNS queries, {of}"), lookups, "count");
        let x = replicas as f64;
        times.push((x, seconds));
        cpu.push((x, cost.controller_cpu));
        memory.push((x, mib));
    }
    for (id, title, unit, points) in [
        ("scale-out.time", "Every NetworkPolicy right", "s", times),
        ("scale-out.cpu", "CPU of all replicas", "s", cpu),
        ("scale-out.memory", "Memory of all replicas", "MiB", memory),
    ] {
        let lines = vec![line(title, points, Style::Line)];
        report.plots.push(plot(id, title, axis("Replicas", ""), axis(title, unit), lines));
    }
    Ok(report)
}
