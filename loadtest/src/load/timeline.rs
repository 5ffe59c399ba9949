//! CPU, memory and revisions over the time of a run, for the plots. A kernel counter has no event to wait for: it is read
//! once a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loadtest_report::{Plot, Style};
use tokio::task::JoinHandle;

use super::bed::Bed;
use super::plots::{axis, line, plot};
use super::window::used;
use egress_testbed::control_plane::{Component, Usage};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

/// One reading: seconds, then CPU seconds of controller, API server and etcd, and resident bytes of the controller.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: f64,
    cpu: [f64; 3],
    memory: f64,
}

/// Reads until it is stopped.
pub struct Timeline {
    readings: Arc<Mutex<Vec<Reading>>>,
    task: JoinHandle<()>,
    /// Time zero.
    pub started: Instant,
}

impl Timeline {
    /// Starts to read the processes that run now.
    #[must_use]
    pub fn start(bed: &Bed) -> Self {
        let started = Instant::now();
        let ids = bed.controller_ids();
        let servers = match &bed.cluster {
            super::cluster::Cluster::Local(control_plane) => {
                let ids = control_plane.process_ids();
                [Component::ApiServer, Component::Etcd].map(|component| ids.get(&component).copied())
            }
            super::cluster::Cluster::Given { .. } => [None, None],
        };
        let readings: Arc<Mutex<Vec<Reading>>> = Arc::default();
        let written = Arc::clone(&readings);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                let controller = used(&ids);
                let cpu =
                    |id: Option<u32>| id.and_then(|id| Usage::of(id).ok()).map_or(0.0, |used| used.cpu.as_secs_f64());
                let reading = Reading {
                    at: started.elapsed().as_secs_f64(),
                    cpu: [controller.cpu.as_secs_f64(), cpu(servers[0]), cpu(servers[1])],
                    memory: controller.memory as f64,
                };
                written.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
            }
        });
        Self { readings, task, started }
    }

    /// Plots of CPU and memory; `id` is the scenario's name.
    #[must_use]
    pub fn plots(&self, id: &str) -> Vec<Plot> {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let cores = |number: usize| {
            let pairs = readings.windows(2);
            pairs.map(move |pair| (pair[1].at, (pair[1].cpu[number] - pair[0].cpu[number]) / (pair[1].at - pair[0].at)))
        };
        let processes = ["controller", "API server", "etcd"].iter().enumerate();
        let lines = processes.map(|(number, name)| line(name, cores(number).collect(), Style::Line)).collect();
        let time = || axis("Time", "s");
        let mut cpu = plot(&format!("{id}.cpu_over_time"), "CPU", time(), axis("Cores", ""), lines);
        cpu.help = "CPU time per second of each; the controller's replicas together.".to_owned();
        let resident = readings.iter().map(|reading| (reading.at, reading.memory / MIB)).collect();
        let lines = vec![line("controller", resident, Style::Line)];
        let (title, y) = ("Memory of the controller", axis("Resident", "MiB"));
        let memory = plot(&format!("{id}.memory_over_time"), title, time(), y, lines);
        vec![cpu, memory]
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many of these moments came before each second after `started`, as a share or a count.
#[must_use]
pub fn cumulated(moments: &[Instant], started: Instant) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = moments.iter().map(|at| at.saturating_duration_since(started).as_secs_f64()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.into_iter().enumerate().map(|(number, at)| (at, number as f64 + 1.0)).collect()
}
