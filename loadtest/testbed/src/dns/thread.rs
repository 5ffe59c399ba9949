//! An OS thread with a runtime of its own, so that a test's busy or paused runtime cannot slow a server down.

use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};

/// A thread that drives one single-threaded runtime until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct OwnThread {
    handle: Handle,
    id: ThreadId,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl OwnThread {
    /// Starts the thread; tasks go on it through [`OwnThread::handle`].
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // A dropped sender stops the thread just as well as a sent message.
            let _ = runtime.block_on(stopped);
        })?;
        let id = thread.thread().id();
        let running = Mutex::new(Some(Running { stop, thread }));
        Ok(Self { handle, id, running })
    }

    /// The runtime of the thread: its timers follow real time even when the caller's are paused.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends every task of the runtime and returns when its sockets are closed.
    pub(crate) fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { stop, thread }) = running else {
            return;
        };
        let _ = stop.send(());
        // A thread cannot wait for itself: a handle may be dropped by one of its own tasks.
        if thread::current().id() != self.id {
            let _ = thread.join();
        }
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns when the condition holds; looks again at each notification.
pub(crate) async fn until(changed: &Notify, holds: impl Fn() -> bool) {
    loop {
        let mut next = pin!(changed.notified());
        // Registered before the look: a change between the two must not be missed.
        next.as_mut().enable();
        if holds() {
            return;
        }
        next.await;
    }
}
