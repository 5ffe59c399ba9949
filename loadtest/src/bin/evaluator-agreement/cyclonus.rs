//! Asks cyclonus: files in, tables out.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::case::{Case, Outcome, Pod, PolicySet};

/// The built program and a folder for its files, which goes with this value.
pub struct Cyclonus {
    binary: PathBuf,
    folder: TempDir,
}

impl Cyclonus {
    pub fn new(binary: PathBuf) -> Result<Self> {
        Ok(Self { binary, folder: TempDir::with_prefix("evaluator-agreement-")? })
    }

    /// What cyclonus says about each case of `set`, in their order.
    pub fn judge(&self, set: &PolicySet) -> Result<Vec<Outcome>> {
        let policies = self.write("policies.json", &policy_list(set)?)?;
        let traffic = self.write("traffic.json", &set.cases.iter().map(traffic).collect())?;
        let mut command = Command::new(&self.binary);
        command.args(["analyze", "--mode", "query-traffic"]);
        // Without its simplifier: what is compared is how it reads policies, not how it shortens them.
        command.arg("--simplify-policies=false");
        command.arg("--policy-path").arg(policies).arg("--traffic-path").arg(traffic);
        let output = command.output().with_context(|| format!("running {}", self.binary.display()))?;
        ensure!(
            output.status.success(),
            "cyclonus ended with {}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            set.policies_as_json()?
        );
        let outcomes = parse(&String::from_utf8_lossy(&output.stdout))?;
        ensure!(outcomes.len() == set.cases.len(), "{} answers to {} questions", outcomes.len(), set.cases.len());
        Ok(outcomes)
    }

    fn write(&self, name: &str, content: &Value) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, serde_json::to_vec(content)?)?;
        Ok(path)
    }
}

/// The policies as they are stored, and one per namespace that allows all ingress: cyclonus judges both directions.
fn policy_list(set: &PolicySet) -> Result<Value> {
    let pods = set.cases.iter().flat_map(|case| case.pod.iter().chain([&case.source]));
    let namespaces: BTreeSet<_> = pods.map(|pod| pod.namespace).collect();
    let ingress = namespaces.into_iter().map(|namespace| {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
        Ok(json!({"metadata": {"namespace": namespace, "name": "all-ingress"}, "spec": spec}))
    });
    let items: Vec<_> = set.policies.iter().map(as_stored).chain(ingress).collect::<Result<_>>()?;
    Ok(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": items}))
}

/// With `policyTypes` as the API server fills them in: cyclonus refuses a policy without.
fn as_stored(policy: &NetworkPolicy) -> Result<Value> {
    let mut stored = serde_json::to_value(policy)?;
    let has_items = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let spec = &mut stored["spec"];
    if !has_items(&spec["policyTypes"]) {
        spec["policyTypes"] =
            if has_items(&spec["egress"]) { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    Ok(stored)
}

fn traffic(case: &Case) -> Value {
    json!({
        "Source": {"IP": case.source.ip, "Internal": internal(&case.source)},
        "Destination": {"IP": case.ip, "Internal": case.pod.as_ref().map(internal)},
        "ResolvedPort": case.port,
        "ResolvedPortName": case.port_name().unwrap_or_default(),
        "Protocol": case.protocol.as_str(),
    })
}

fn internal(pod: &Pod) -> Value {
    json!({"Namespace": pod.namespace, "NamespaceLabels": pod.namespace_labels, "PodLabels": pod.labels})
}

/// The outcome in each table that follows the words "Is traffic allowed?".
fn parse(text: &str) -> Result<Vec<Outcome>> {
    let tables = text.split("Is traffic allowed?").skip(1);
    tables.map(|table| table.split_once("\n\n").map_or(table, |(table, _)| table)).map(outcome).collect()
}

fn outcome(table: &str) -> Result<Outcome> {
    let mut restricted = false;
    for row in table.lines() {
        let mut cells = row.split('|').skip(1).map(str::trim);
        match (cells.next(), cells.next()) {
            (Some("Egress"), _) => restricted = true,
            (Some("IS ALLOWED?"), Some("FALSE")) => return Ok(Outcome::Denied),
            (Some("IS ALLOWED?"), Some("TRUE")) if restricted => return Ok(Outcome::Allowed),
            (Some("IS ALLOWED?"), Some("TRUE")) => return Ok(Outcome::Unrestricted),
            _ => {}
        }
    }
    bail!("no answer in this table of cyclonus:\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "+--+\n|    TYPE     | ACTION | TARGET |\n+--+\n| Ingress     | Allow  | namespace: a |\n";

    #[track_caller]
    fn check(rows: &str, expected: Option<Outcome>) {
        let text = format!("Traffic:\n| x |\n\nIs traffic allowed?\n{HEAD}{rows}\n+--+\n\n\n\n");
        let told = parse(&text.repeat(2)).ok();
        assert_eq!(told, expected.map(|outcome| vec![outcome; 2]), "{rows}");
    }

    #[test]
    fn a_table_with_egress_rows_tells_allowed_or_denied() {
        let egress = "| Egress      | Allow  | namespace: a |\n+             +--+\n|             | Deny   | all pods |";
        check(&format!("{egress}\n| IS ALLOWED? |  TRUE  |   "), Some(Outcome::Allowed));
        check(&format!("{egress}\n| IS ALLOWED? | FALSE  |   "), Some(Outcome::Denied));
    }

    #[test]
    fn a_table_without_egress_rows_tells_unrestricted() {
        check("| IS ALLOWED? |  TRUE  |   ", Some(Outcome::Unrestricted));
    }

    #[test]
    fn a_table_without_an_answer_is_an_error() {
        check("| Egress      | Allow  | namespace: a |", None);
    }
}
