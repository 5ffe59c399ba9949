//! Another controller in the place of ours: its process, and its resources.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use kube::Api;
use kube::api::{DynamicObject, GroupVersionKind, PostParams, TypeMeta};
use kube::discovery::pinned_kind;
use serde_json::Value;

use super::bed::Bed;
use super::options::Options;
use super::workload::Workload;
use crate::fill::create_all;

/// See the module documentation.
pub struct Peer {
    command: String,
    template: String,
    child: Mutex<Option<Child>>,
}

impl Peer {
    /// The peer that the flags name, if they do.
    ///
    /// # Errors
    /// When the template cannot be read.
    pub fn read(options: &Options) -> Result<Option<Self>> {
        let (Some(command), Some(file)) = (&options.controller, &options.template) else { return Ok(None) };
        let template = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Some(Self { command: command.clone(), template, child: Mutex::new(None) }))
    }

    /// The resource of a policy.
    fn resource(&self, workload: &Workload, policy: usize) -> Result<Value> {
        let hosts: Vec<String> = workload.hosts_of(policy).iter().map(|host| Workload::host(*host)).collect();
        let text = fill_in(&self.template, &Workload::policy(policy), &workload.namespace_of(policy), &hosts)?;
        serde_saphyr::from_str(&text).context("the template is no YAML object")
    }

    /// Creates its resources.
    ///
    /// # Errors
    /// When the template is no object, or the API server refuses one.
    pub async fn fill(&self, bed: &Bed) -> Result<()> {
        let types: TypeMeta = serde_json::from_value(self.resource(&bed.workload, 0)?)?;
        let (kind, _) = pinned_kind(&bed.client, &GroupVersionKind::try_from(types)?).await?;
        create_all("creating resources", bed.workload.size.policies, async |policy| {
            let object: DynamicObject = serde_json::from_value(self.resource(&bed.workload, policy)?)?;
            let namespace = bed.workload.namespace_of(policy);
            let api = Api::<DynamicObject>::namespaced_with(bed.client.clone(), &namespace, &kind);
            let created = api.create(&PostParams::default(), &object).await;
            created.map(drop).with_context(|| format!("creating resource {policy}"))
        })
        .await
    }

    /// Starts it, in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, kubeconfig: &Path, dns: SocketAddr) -> Result<Instant> {
        let since = Instant::now();
        let child = Command::new("sh")
            // The shell becomes the command, so that its process id is the controller's.
            .args(["-c", &format!("exec {}", self.command)])
            .env("KUBECONFIG", kubeconfig)
            .env("DNS_HOST", dns.ip().to_string())
            .env("DNS_PORT", dns.port().to_string())
            .process_group(0)
            // One that reads it can tell when this process has gone.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", self.command))?;
        *self.lock() = Some(child);
        Ok(since)
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.lock().as_ref().map(Child::id)
    }

    /// Whether it still runs, if it was started.
    pub fn runs(&self) -> bool {
        self.lock().as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it.
    pub fn stop(&self) {
        if let Some(mut child) = self.lock().take() {
            // An error means that it has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The template with its marks replaced; a line with `{{host}}` is there once for each host.
fn fill_in(template: &str, name: &str, namespace: &str, hosts: &[String]) -> Result<String> {
    let list = serde_json::to_string(hosts)?;
    let lines = template.lines().flat_map(|line| {
        let times = if line.contains("{{host}}") { hosts.len() } else { 1 };
        (0..times).map(move |number| line.replace("{{host}}", hosts.get(number).map_or("", String::as_str)))
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    Ok(text.replace("{{name}}", name).replace("{{namespace}}", namespace).replace("{{hosts}}", &list))
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_the_hosts_as_a_list_or_line_by_line() {
        let template = "name: {{name}}\nin: {{namespace}}\nall: {{hosts}}\nto:\n  - host: {{host}}\n";
        let hosts = ["a.example".to_owned(), "b.example".to_owned()];
        let text = fill_in(template, "policy-1", "team-1", &hosts).expect("a text");
        let object: Value = serde_saphyr::from_str(&text).expect("YAML");
        let to = serde_json::json!([{"host": "a.example"}, {"host": "b.example"}]);
        let expected = serde_json::json!({"name": "policy-1", "in": "team-1", "all": hosts, "to": to});
        assert_eq!(object, expected);
    }
}
