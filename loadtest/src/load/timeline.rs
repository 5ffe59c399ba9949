//! CPU, memory and queues over the time of a run, for the plots. Kernel counters and gauges have no event to wait for: they
//! are read once a second.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress_testbed::control_plane::{Component, Usage};
use loadtest_report::{Plot, Style};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::bed::Bed;
use super::cluster::Cluster;
use super::figures::MIB;
use super::plots::{axis, line, plot};
use super::requests::metric;
use super::window::used;
use crate::lock::lock;
use crate::replica::{Pages, Replica};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);

/// One reading: seconds, CPU seconds of controller, API server and etcd, resident bytes of the controller, and what waits.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: f64,
    cpu: [f64; 3],
    memory: f64,
    /// Writes, and lookups that are due.
    waiting: [f64; 2],
}

/// The processes that are read.
struct Controller {
    ids: Vec<u32>,
    pages: Vec<Pages>,
}

impl Controller {
    fn of(bed: &Bed) -> Self {
        Self { ids: bed.controller_ids(), pages: bed.replicas.iter().map(Replica::pages).collect() }
    }
}

/// Reads until it is stopped.
pub struct Timeline {
    readings: Arc<Mutex<Vec<Reading>>>,
    controller: Arc<Mutex<Controller>>,
    task: JoinHandle<()>,
}

impl Timeline {
    /// Starts to read the processes that run now.
    #[must_use]
    pub fn start(bed: &Bed) -> Self {
        let started = Instant::now();
        let servers = match &bed.cluster {
            Cluster::Local(control_plane) => {
                let ids = control_plane.process_ids();
                [Component::ApiServer, Component::Etcd].map(|component| ids.get(&component).copied())
            }
            Cluster::Given { .. } => [None, None],
        };
        let readings: Arc<Mutex<Vec<Reading>>> = Arc::default();
        let controller = Arc::new(Mutex::new(Controller::of(bed)));
        let (written, read) = (Arc::clone(&readings), Arc::clone(&controller));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (ids, pages) = {
                    let controller = lock(&read);
                    (controller.ids.clone(), controller.pages.clone())
                };
                let waiting = waiting(&pages).await;
                let controller = used(&ids);
                let cpu =
                    |id: Option<u32>| id.and_then(|id| Usage::of(id).ok()).map_or(0.0, |used| used.cpu.as_secs_f64());
                let reading = Reading {
                    at: started.elapsed().as_secs_f64(),
                    cpu: [controller.cpu.as_secs_f64(), cpu(servers[0]), cpu(servers[1])],
                    memory: controller.memory as f64,
                    waiting,
                };
                lock(&written).push(reading);
            }
        });
        Self { readings, controller, task }
    }

    /// From now on the processes are read that run now.
    pub fn follow(&self, bed: &Bed) {
        *lock(&self.controller) = Controller::of(bed);
    }

    /// The most writes, and the most lookups, that waited when it was read.
    #[must_use]
    pub fn most_waiting(&self) -> [f64; 2] {
        let readings = lock(&self.readings);
        [0, 1].map(|which| readings.iter().map(|reading| reading.waiting[which]).fold(0.0, f64::max))
    }

    /// Plots of CPU, memory and queues; `id` is the scenario's name.
    #[must_use]
    pub fn plots(&self, id: &str) -> Vec<Plot> {
        let readings = lock(&self.readings);
        let cores = |number: usize| {
            let pairs = readings.windows(2).filter(move |pair| pair[1].cpu[number] >= pair[0].cpu[number]);
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
        let queues = ["writes", "lookups that are due"].iter().enumerate();
        let of = |which: usize| readings.iter().map(|reading| (reading.at, reading.waiting[which])).collect();
        let lines = queues.map(|(which, name)| line(name, of(which), Style::Line)).collect();
        let (title, y) = ("Waiting in the controller", axis("Queued", ""));
        let waiting = plot(&format!("{id}.waiting_over_time"), title, time(), y, lines);
        vec![cpu, memory, waiting]
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What waits in these replicas; nothing in one that does not answer.
async fn waiting(pages: &[Pages]) -> [f64; 2] {
    let mut sum = [0.0, 0.0];
    for replica in pages {
        let page = replica.page("/metrics").await.unwrap_or_default();
        for (sum, name) in sum.iter_mut().zip(["egress_writer_pending", "egress_resolver_queued"]) {
            *sum += metric(&page, name);
        }
    }
    sum
}
