//! Readiness: a set of things that must have happened first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What `/readyz` says while the process ends.
const CLOSING: &str = "shutting down";

/// Ready when every handle it gave has been dropped, until [`close`](Self::close). Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    missing: BTreeMap<&'static str, usize>,
    closing: bool,
}

impl Readiness {
    /// Something that must happen first; it has happened when the handle is dropped.
    #[must_use = "dropping the handle says that it has happened"]
    pub fn handle(&self, name: &'static str) -> ReadyHandle {
        *self.state().missing.entry(name).or_default() += 1;
        ReadyHandle { name, readiness: self.clone() }
    }

    /// Not ready any more, for good: no new work shall come here.
    pub fn close(&self) {
        self.state().closing = true;
    }

    /// What is still missing, sorted; empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let state = self.state();
        state.missing.keys().copied().chain(state.closing.then_some(CLOSING)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that readiness waits for.
#[derive(Debug)]
pub struct ReadyHandle {
    name: &'static str,
    readiness: Readiness,
}

impl Drop for ReadyHandle {
    fn drop(&mut self) {
        let mut state = self.readiness.state();
        if let Some(count) = state.missing.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                state.missing.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_every_handle_is_dropped() {
        let readiness = Readiness::default();
        let (cluster, router) = (readiness.handle("cluster"), readiness.handle("router"));
        assert_eq!(readiness.missing(), ["cluster", "router"]);
        drop(cluster);
        assert_eq!(readiness.missing(), ["router"]);
        drop(router);
        assert!(readiness.missing().is_empty());
    }

    #[test]
    fn two_handles_of_one_name_are_two_things() {
        let readiness = Readiness::default();
        let (one, other) = (readiness.handle("watch"), readiness.handle("watch"));
        drop(one);
        assert_eq!(readiness.missing(), ["watch"]);
        drop(other);
        assert!(readiness.missing().is_empty());
    }

    #[test]
    fn once_closed_it_is_never_ready_again() {
        let readiness = Readiness::default();
        readiness.close();
        drop(readiness.handle("late"));
        assert_eq!(readiness.missing(), [CLOSING]);
    }
}
