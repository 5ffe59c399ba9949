//! A replica of the controller as a process of its own: its log, its signals, its end.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A line of the log, and when it was read.
pub type Line = (Instant, Value);

/// A running replica. Dropping it kills the process, also when a scenario fails.
pub struct Replica {
    /// Its pod.
    pub pod: String,
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<Line>>>,
}

impl Replica {
    /// Starts `program replica run FLAGS`: this program, which is the controller as well.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, pod: &str, flags: &[String]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["replica", "run", "--log-format=json"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stderr = child.stderr.take().context("a pipe")?;
        let log: Arc<Mutex<Vec<Line>>> = Arc::default();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lock(&lines).push((Instant::now(), value));
            }
        });
        Ok(Self { pod: pod.to_owned(), child: Mutex::new(child), log })
    }

    /// Sends a signal by its name: TERM, STOP, CONT, KILL.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = lock(&self.child).id();
        let sent = Command::new("kill").args([format!("-{name}"), id.to_string()]).status()?;
        ensure!(sent.success(), "{} is gone", self.pod);
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(lock(&self.child).try_wait()?)
    }

    /// Lines whose message is this.
    pub fn said(&self, message: &str) -> Vec<Line> {
        let is_it = |line: &&Line| line.1["fields"]["message"] == message || line.1["message"] == message;
        lock(&self.log).iter().filter(is_it).cloned().collect()
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// The last lines, for a failure's report.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let log = lock(&self.log);
        let telling = log.iter().filter(|(_, line)| line["event"].is_null()).rev().take(lines);
        telling.collect::<Vec<_>>().into_iter().rev().map(|(_, line)| line.to_string()).collect()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // A stopped process dies of SIGKILL, too; an error means that it has ended already.
        drop(child.kill());
        drop(child.wait());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
