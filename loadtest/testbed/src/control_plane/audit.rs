//! The API server's audit log: what was written, by whom, in which order.

use std::path::PathBuf;

use serde_json::{Value, json};

/// How much of each NetworkPolicy write the audit log keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLevel {
    /// Who, what, when and the answer's code.
    Metadata,
    /// Also both bodies.
    RequestResponse,
}

/// Where to and how much.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    pub(super) file: PathBuf,
    pub(super) level: AuditLevel,
}

impl Audit {
    /// Writes only, each once, when its answer is complete: NetworkPolicies at the chosen level, the rest as metadata.
    pub(super) fn policy(&self) -> Value {
        let level = match self.level {
            AuditLevel::Metadata => "Metadata",
            AuditLevel::RequestResponse => "RequestResponse",
        };
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [
                {"level": level, "verbs": writes, "resources": [{"group": "networking.k8s.io", "resources": ["networkpolicies"]}]},
                {"level": "Metadata", "verbs": writes},
                {"level": "None"},
            ],
        })
    }
}
