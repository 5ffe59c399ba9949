//! Child processes that never outlive this one, and a folder that goes with them.
//!
//! A shell, the watchdog, holds the reading end of a pipe whose only writing end is here (close-on-exec, so that no child inherits it). When this
//! process ends for whatever reason, kill -9 included, the pipe closes, and the watchdog kills each child by its id and removes the folder.
//! A child is itself a shell first, which waits for one line before it becomes the program, and the watchdog is told its id before that
//! line is sent: so there is no instant at which a program runs that the watchdog does not know.

use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::process::Process;

/// `$1` is the folder. A process is killed only while its command line names the folder: an id that now belongs to somebody else is left alone.
/// The two loops are bounded (100 times 50 ms): a process that cannot be killed must not keep a shell for ever.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
folder=$1
pids=
while read -r pid; do pids="$pids $pid"; done
ours() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$folder"; }
# It has no command line at the instant at which it becomes the program; a zombie (Z, X) has none any more.
becomes() { [ -z "$(tr -d '\0' <"/proc/$1/cmdline")" ] && grep -q '^State:.[^ZX]' "/proc/$1/status"; }
for pid in $pids; do if ours "$pid"; then kill -9 "$pid"; fi; done
tries=100
for pid in $pids; do
  while { ours "$pid" || becomes "$pid"; } && [ "$tries" -gt 0 ]; do
    if ours "$pid"; then kill -9 "$pid"; fi
    tries=$((tries - 1))
    sleep 0.05
  done
done
tries=100
while ! rm -rf -- "$folder" && [ "$tries" -gt 0 ]; do tries=$((tries - 1)); sleep 0.05; done
"#;

/// Becomes the program when told to; ends when the pipe closes untold.
const CHILD: &str = r#"read -r _ && exec "$@" </dev/null"#;

/// Where a child's output goes.
pub(super) enum Output {
    /// Appended to this file.
    File(PathBuf),
    /// To this process's own stderr.
    Inherited,
}

/// Owns the watchdog and the folder; dropping it ends both, and the children that still run.
#[derive(Debug)]
pub(super) struct Supervisor {
    folder: PathBuf,
    watchdog: Child,
    /// The writing end of the watchdog's pipe; `None` once closed.
    line: Mutex<Option<ChildStdin>>,
}

impl Supervisor {
    /// Makes a folder of its own under `parent`, for this user only (tokens and keys are kept in it), and starts the watchdog.
    pub(super) fn start(parent: &Path, prefix: &str) -> Result<Self> {
        let folder = parent.join(format!("{prefix}.{}.{:08x}", std::process::id(), rand::random::<u32>()));
        DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C on the terminal and a kill of our group must not reach it.
            .process_group(0)
            .spawn()
            .context("starting the watchdog shell")?;
        let line = Mutex::new(watchdog.stdin.take());
        Ok(Self { folder, watchdog, line })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts `command`; some argument of it must name the folder, for that is how the watchdog knows its own.
    pub(super) fn spawn(&self, name: &'static str, command: &Command, output: Output) -> Result<Process> {
        let mut shell = Command::new("sh");
        shell.args(["-c", CHILD, "child"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(variable, value),
                None => shell.env_remove(variable),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell.stdin(Stdio::piped()).process_group(0);
        let log = match output {
            Output::File(path) => {
                let file = std::fs::File::options().create(true).append(true).open(&path)?;
                shell.stdout(file.try_clone()?).stderr(file);
                Some(path)
            }
            Output::Inherited => {
                shell.stdout(Stdio::null()).stderr(Stdio::inherit());
                None
            }
        };
        let mut child = shell.spawn().with_context(|| format!("starting {name}"))?;
        let go_ahead = child.stdin.take();
        let process = Process::new(name, child, log);
        self.tell(process.id())?;
        go_ahead.context("a child without a pipe")?.write_all(b"go\n").with_context(|| format!("starting {name}"))?;
        Ok(process)
    }

    fn tell(&self, id: u32) -> Result<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(line.as_mut().context("the watchdog's pipe is closed")?, "{id}").context("telling the watchdog")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.line.lock().unwrap_or_else(PoisonError::into_inner).take());
        // An error means that it was reaped already; its work is bounded, and so is this wait.
        let _ = self.watchdog.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test; the test ends it.
    const FOREVER: &str = "1000";

    fn supervisor() -> Supervisor {
        Supervisor::start(&std::env::temp_dir(), "egress-testbed-unit").expect("a watchdog can be started")
    }

    #[test]
    fn a_child_that_names_the_folder_ends_with_the_supervisor() {
        let supervisor = supervisor();
        let folder = supervisor.folder().to_path_buf();
        let mut command = Command::new("sh");
        // A waiting shell without a child of its own.
        command.args(["-c", "kill -STOP $$; true"]).arg(&folder);
        let process = supervisor.spawn("sleep", &command, Output::Inherited).expect("sh runs");
        drop(supervisor);
        let status = process.wait().expect("it is our child");
        assert!(!status.success(), "{status}");
        assert!(!folder.exists());
    }

    #[test]
    fn a_process_that_does_not_name_the_folder_is_left_alone() {
        let mut stranger = Command::new("sleep").arg(FOREVER).spawn().expect("sleep runs");
        let supervisor = supervisor();
        supervisor.tell(stranger.id()).expect("the watchdog listens");
        drop(supervisor);
        let ended = stranger.try_wait().expect("it is our child");
        stranger.kill().expect("it is our child");
        stranger.wait().expect("it is our child");
        assert_eq!(ended, None);
    }
}
