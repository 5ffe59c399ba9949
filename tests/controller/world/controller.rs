//! The controller as a process: its log, its pages, its end.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use egress_testbed::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// A running controller. Dropping it kills the process (SIGKILL), also when the test fails.
pub struct Controller {
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Controller {
    pub fn spawn(flags: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_egress-controller"))
            .arg("run")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the controller starts");
        let stderr = child.stderr.take().expect("a pipe");
        let log: Arc<Mutex<Vec<Value>>> = Arc::default();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // What a test prints is shown when it fails.
                eprintln!("controller: {line}");
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().expect("the log").push(value);
            }
        });
        Self { child: Mutex::new(child), log }
    }

    /// Every log line so far; JSON objects, or strings for what is none.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().expect("the log").clone()
    }

    pub async fn listening(&self) -> SocketAddr {
        let find = async || {
            let log = self.log();
            let line = log.iter().find(|line| line["message"] == "serving health, metrics and state");
            let address = line.and_then(|line| line["address"].as_str()).context("it does not listen yet")?;
            anyhow::Ok(address.parse()?)
        };
        eventually(PATIENCE, find).await.expect("the controller listens")
    }

    pub async fn ready(&self) {
        let check = async || {
            let (code, text) = self.get("/readyz").await?;
            ensure!(code == 200, "{text}");
            anyhow::Ok(())
        };
        eventually(PATIENCE, check).await.expect("the controller becomes ready");
    }

    /// A page: status code and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        self.request("GET", path).await
    }

    pub async fn post(&self, path: &str) -> Result<(u16, String)> {
        self.request("POST", path).await
    }

    async fn request(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.listening().await).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: controller\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split_whitespace().nth(1).context("no status code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    /// The value of a metric, all its series that contain `labels` added up; 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").await.expect("metrics");
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until a metric, added up as by `metric`, is as wanted; gives it.
    pub async fn metric_is(&self, name: &str, labels: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let check = async || {
            let value = self.metric(name, labels).await;
            ensure!(wanted(value), "{name}{{{labels}}} is {value}");
            anyhow::Ok(value)
        };
        eventually(PATIENCE, check).await.expect("the metric comes")
    }

    /// `/debug/state`.
    pub async fn state(&self) -> Value {
        let (_, text) = self.get("/debug/state").await.expect("the state");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits for a log line that contains this.
    pub async fn says(&self, text: &str) -> Value {
        let check = async || {
            let log = self.log();
            let line = log.iter().find(|line| line.to_string().contains(text));
            line.cloned().with_context(|| format!("no line with {text:?}"))
        };
        eventually(PATIENCE, check).await.expect("the line comes")
    }

    pub fn runs(&self) -> bool {
        self.child.lock().expect("the process").try_wait().expect("its state").is_none()
    }

    pub fn id(&self) -> u32 {
        self.child.lock().expect("the process").id()
    }

    /// Sends a signal by name, as TERM, INT, STOP.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "the process is there");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&self, within: Duration) -> ExitStatus {
        let check = async || self.child.lock().expect("the process").try_wait()?.context("it still runs");
        eventually(within, check).await.expect("the controller ends")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let mut child = self.child.lock().expect("the process");
        // An error means that it has ended already.
        drop(child.kill());
        drop(child.wait());
    }
}
