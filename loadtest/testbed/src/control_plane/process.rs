//! One child process: its log, its signals, what it uses.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ticks per second of /proc/PID/stat: part of Linux's interface to programs, whatever the kernel's own rate is.
const USER_HZ: u64 = 100;
/// Lines of a log that an error shows: a Go panic's head or the refused flag fits.
const TAIL_LINES: usize = 20;
/// Bytes read from a log's end to find them.
const TAIL_BYTES: u64 = 64 * 1024;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since its start, user and system.
    pub cpu: Duration,
    /// Resident memory in bytes, now.
    pub memory: u64,
    /// The most resident memory so far, in bytes.
    pub peak_memory: u64,
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: Option<PathBuf>,
}

impl Process {
    pub(super) fn new(name: &'static str, child: Child, log: Option<PathBuf>) -> Self {
        Self { name, child, log }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with the end of its log, when it has ended by itself.
    pub(super) fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended with {status}{}", self.name, self.log_tail()),
        }
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("waiting for {}", self.name))
    }

    /// Sends a signal. Its id cannot belong to another process: nobody but this value reaps it.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id())?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// The last lines of its log, ready to be appended to a message.
    pub(super) fn log_tail(&self) -> String {
        let Some(path) = &self.log else { return String::new() };
        let text = read_end(path).unwrap_or_else(|error| format!("(unreadable: {error})"));
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("; the last lines of its log:\n{}", shown.join("\n"))
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.id()).with_context(|| format!("the use of {}", self.name))
    }
}

impl Usage {
    /// What a running process has used so far (proc(5)).
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn of(process_id: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{process_id}"));
        let read = |file| fs::read_to_string(folder.join(file)).with_context(|| format!("reading {file}"));
        let (stat, status) = (read("stat")?, read("status")?);
        let cpu = cpu_of_stat(&stat).context("an unknown form of /proc/PID/stat")?;
        let memory = |field| kilobytes_of_status(&status, field).map(|kilobytes| kilobytes * 1024);
        Ok(Self { cpu, memory: memory("VmRSS").unwrap_or(0), peak_memory: memory("VmHWM").unwrap_or(0) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_end(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// utime and stime, fields 14 and 15; counted from the last `)`, because the name in field 2 may hold anything.
fn cpu_of_stat(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * (1000 / USER_HZ)))
}

fn kilobytes_of_status(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_a_name_with_spaces_and_brackets() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 100 0 0";
        assert_eq!(cpu_of_stat(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_read_by_its_whole_field_name() {
        let status = "VmHWM:\t  300 kB\nVmRSS:\t  200 kB\n";
        assert_eq!(kilobytes_of_status(status, "VmRSS"), Some(200));
        assert_eq!(kilobytes_of_status(status, "Vm"), None);
    }
}
