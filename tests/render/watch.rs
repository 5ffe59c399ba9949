//! `--watch`: files and answers that change while it runs.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_testbed::dns::DnsServer;
use egress_testbed::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::{Folder, policy};

/// A change is seen within half a second; a loaded machine is given a multiple.
const SOON: Duration = Duration::from_secs(30);
const OUTPUT: &str = "out/team-egress-a.yaml";

/// The program under watch; it is killed when the test fails.
struct Watching {
    folder: Folder,
    child: Child,
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Watching {
    async fn start(dns: &DnsServer, spec: &str) -> Result<Self> {
        let folder = Folder::new(&[("in/a.yaml", &policy("a", spec))]);
        let server = dns.addr().to_string();
        let args = ["render", "in", "-o", "out", "--watch", "--dns-servers", &server, "--min-refresh-seconds", "0.1"];
        let mut command = folder.command(&args);
        let child = command.stdout(Stdio::null()).stderr(std::fs::File::create(folder.path("told"))?).spawn()?;
        let watching = Self { folder, child };
        watching.until(OUTPUT, "kind: NetworkPolicy", true).await?;
        Ok(watching)
    }

    /// Waits until a file has a text, or has it no more.
    async fn until(&self, file: &str, part: &str, there: bool) -> Result<()> {
        let holds = || async {
            let text = self.folder.read(file).with_context(|| format!("no {file}"))?;
            ensure!(text.contains(part) == there, "{part} in {file}:\n{text}");
            Ok(())
        };
        eventually(SOON, holds).await
    }

    /// Ctrl-C ends it, well.
    async fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let mut code = None;
        eventually(SOON, || {
            code = self.child.try_wait().ok().flatten();
            async move { code.context("still running") }
        })
        .await?;
        ensure!(code.is_some_and(|code| code.success()), "ended with {code:?}");
        Ok(())
    }
}

#[tokio::test]
async fn a_changed_file_is_rendered_again() -> Result<()> {
    let dns = DnsServer::start().await?;
    let watching = Watching::start(&dns, "{destinations: [{ip: 192.0.2.1}]}").await?;
    watching.folder.write("in/a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.22}]}"));
    watching.until(OUTPUT, "192.0.2.22/32", true).await?;
    watching.folder.write("in/more/b.yaml", &policy("b", "{destinations: [{ip: 192.0.2.33}]}"));
    watching.until("out/team-egress-b.yaml", "192.0.2.33/32", true).await?;
    assert_eq!(dns.total(), 0);
    watching.end().await
}

#[tokio::test]
async fn a_changed_answer_is_rendered_again() -> Result<()> {
    let dns = DnsServer::start().await?;
    dns.set_host("a.example", &["192.0.2.1".parse()?], 0);
    let watching = Watching::start(&dns, "{destinations: [{hostname: a.example}]}").await?;
    watching.until(OUTPUT, "192.0.2.1/32", true).await?;
    dns.set_host("a.example", &["192.0.2.2".parse()?], 0);
    watching.until(OUTPUT, "192.0.2.2/32", true).await?;
    // Retained, for 7 days.
    watching.until(OUTPUT, "192.0.2.1/32", true).await?;
    watching.end().await
}

#[tokio::test]
async fn a_changed_hosts_file_takes_back_what_it_gave() -> Result<()> {
    let dns = DnsServer::start().await?;
    let watching = Watching::start(&dns, "{destinations: [{hostname: a.example}, {ip: 192.0.2.1}]}").await?;
    watching.folder.write("in/hosts", "a.example=192.0.2.2\n");
    watching.until(OUTPUT, "192.0.2.2/32", true).await?;
    watching.folder.write("in/hosts", "a.example=192.0.2.33\n");
    watching.until(OUTPUT, "192.0.2.33/32", true).await?;
    watching.until(OUTPUT, "192.0.2.2/32", false).await?;
    watching.end().await
}

#[tokio::test]
async fn input_that_turns_bad_is_told_and_changes_nothing() -> Result<()> {
    let dns = DnsServer::start().await?;
    let watching = Watching::start(&dns, "{destinations: [{ip: 192.0.2.1}]}").await?;
    watching.folder.write("in/a.yaml", "a: [1\n");
    watching.until("told", "error: in/a.yaml: document 1: ", true).await?;
    watching.until(OUTPUT, "192.0.2.1/32", true).await?;
    watching.folder.write("in/a.yaml", &policy("c", "{destinations: [{ip: 192.0.2.3}]}"));
    watching.until("out/team-egress-c.yaml", "192.0.2.3/32", true).await?;
    watching.until("told", "out/team-egress-a.yaml: was rendered earlier", true).await?;
    watching.end().await
}
