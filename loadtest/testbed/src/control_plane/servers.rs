//! The servers of one control plane: which can be started, which run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::component::Component;
use super::process::{Process, Usage};
use super::supervisor::{Output, Supervisor};

/// How one server is started, the first time and after a stop.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) command: Command,
    pub(super) log: PathBuf,
}

/// Fields are dropped in this order: the processes end before the supervisor removes their folder.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) running: Mutex<BTreeMap<Component, Process>>,
    pub(super) launches: BTreeMap<Component, Launch>,
    /// Whether one of them was ever stopped or sent a signal.
    pub(super) disturbed: AtomicBool,
    pub(super) supervisor: Supervisor,
}

impl Servers {
    fn running(&self) -> MutexGuard<'_, BTreeMap<Component, Process>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, component: Component) -> Result<()> {
        let launch = self.launches.get(&component).with_context(|| format!("this control plane has no {component}"))?;
        let mut running = self.running();
        if running.contains_key(&component) {
            bail!("{component} runs already");
        }
        let process = self.supervisor.spawn(component.name(), &launch.command, Output::File(launch.log.clone()))?;
        running.insert(component, process);
        Ok(())
    }

    /// Kills and reaps.
    pub(super) fn stop(&self, component: Component) -> Result<()> {
        self.disturbed.store(true, Ordering::Relaxed);
        let process = self.running().remove(&component);
        process.map(drop).with_context(|| format!("{component} does not run"))
    }

    pub(super) fn are_undisturbed(&self) -> bool {
        !self.disturbed.load(Ordering::Relaxed)
    }

    pub(super) fn ensure_running(&self, component: Component) -> Result<()> {
        self.with(component, Process::ensure_running)
    }

    pub(super) fn signal(&self, component: Component, signal: Signal) -> Result<()> {
        self.disturbed.store(true, Ordering::Relaxed);
        self.with(component, |process| process.signal(signal))
    }

    pub(super) fn log_tail(&self, component: Component) -> String {
        self.with(component, |process| Ok(process.log_tail())).unwrap_or_default()
    }

    pub(super) fn ids(&self) -> BTreeMap<Component, u32> {
        self.running().iter().map(|(component, process)| (*component, process.id())).collect()
    }

    pub(super) fn usage(&self) -> Result<BTreeMap<Component, Usage>> {
        self.running().iter().map(|(component, process)| Ok((*component, process.usage()?))).collect()
    }

    fn with<T>(&self, component: Component, f: impl FnOnce(&mut Process) -> Result<T>) -> Result<T> {
        let mut running = self.running();
        f(running.get_mut(&component).with_context(|| format!("{component} does not run"))?)
    }
}
