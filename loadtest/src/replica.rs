//! A replica of the controller as a process of its own: its log, its signals, its end.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::requests::metric;
use crate::lock::lock;

/// A line of the log, and when it was read.
pub type Line = (Instant, Value);

/// Exit code of a replica whose parent has gone.
const ORPHANED: i32 = 3;
/// A page takes milliseconds; a process that is stopped accepts and never answers.
const PAGE_WITHIN: Duration = Duration::from_secs(5);
/// What a replica logs when its pages are served.
const LISTENING: &str = "serving health, metrics and state";

/// A running replica. Dropping it kills the process, also when a scenario fails.
pub struct Replica {
    /// Its pod.
    pub pod: String,
    child: Mutex<Child>,
    /// As they were read: thousands of lines that nobody asks for are not worth parsing.
    log: Arc<Mutex<Vec<(Instant, String)>>>,
}

/// What runs as a replica.
#[derive(Clone, Debug)]
pub enum Program {
    /// A program like this one, which is the controller as well: `FILE replica run`.
    LoadTest(PathBuf),
    /// The controller's own: `FILE run`.
    Controller(PathBuf),
}

impl Program {
    /// This program.
    ///
    /// # Errors
    /// When the system does not tell where it is.
    pub fn own() -> Result<Self> {
        Ok(Self::LoadTest(std::env::current_exe()?))
    }

    fn command(&self) -> Command {
        match self {
            Self::Controller(file) => Command::new(file),
            Self::LoadTest(file) => {
                let mut command = Command::new(file);
                command.arg("replica");
                command
            }
        }
    }
}

impl Replica {
    /// Starts the program with these flags.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Program, pod: &str, flags: &[String]) -> Result<Self> {
        let mut child = program
            .command()
            .args(["run", "--log-format=json"])
            .args(flags)
            // It ends when this is closed, however this process ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {program:?}"))?;
        let stderr = child.stderr.take().context("a pipe")?;
        let log: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lock(&lines).push((Instant::now(), line));
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
        said(&self.log, message)
    }

    /// Its pages.
    pub fn pages(&self) -> Pages {
        Pages { log: Arc::clone(&self.log) }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// The last lines, for a failure's report.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let log = lock(&self.log);
        let telling = log.iter().filter(|(_, line)| !line.contains(r#""event":"#)).rev().take(lines);
        telling.collect::<Vec<_>>().into_iter().rev().map(|(_, line)| line.clone()).collect()
    }
}

/// The pages that a replica serves. Clones are the same.
#[derive(Clone)]
pub struct Pages {
    log: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Pages {
    /// One of them, such as `/metrics`.
    ///
    /// # Errors
    /// When it is not served, or its status is not 200.
    pub async fn page(&self, path: &str) -> Result<String> {
        let said = said(&self.log, LISTENING);
        let address = said.last().and_then(|(_, line)| line["address"].as_str()).context("it does not listen yet")?;
        let exchange = async {
            let mut stream = TcpStream::connect(address).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: controller\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer =
            tokio::time::timeout(PAGE_WITHIN, exchange).await.with_context(|| format!("{path} is not served"))??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.split_whitespace().nth(1) == Some("200"), "{path}: {body}");
        Ok(body.to_owned())
    }

    /// A metric, all its series added up.
    ///
    /// # Errors
    /// When the page cannot be read.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        Ok(metric(&self.page("/metrics").await?, name))
    }
}

/// Lines whose message is this.
fn said(log: &Mutex<Vec<(Instant, String)>>, message: &str) -> Vec<Line> {
    let parsed = |(at, line): &(Instant, String)| Some((*at, serde_json::from_str::<Value>(line).ok()?));
    let log = lock(log);
    let found = log.iter().filter(|(_, line)| line.contains(message)).filter_map(parsed);
    found.filter(|line| line.1["fields"]["message"] == message || line.1["message"] == message).collect()
}

/// Fails when one of them has ended by itself.
///
/// # Errors
/// With the end of its log.
pub fn all_run(replicas: &[Replica]) -> Result<()> {
    for replica in replicas {
        if let Some(status) = replica.ended()? {
            bail!("{} has ended: {status}\n{}", replica.pod, replica.tail(20).join("\n"));
        }
    }
    Ok(())
}

/// For a replica's process: ends it as soon as the process that started it has gone.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        // Nothing is ever written to it, so reading ends only when it is closed.
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(ORPHANED);
    });
}

impl Drop for Replica {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // A stopped process dies of SIGKILL, too; an error means that it has ended already.
        drop(child.kill());
        drop(child.wait());
    }
}
