//! Conditions, each with one reason, and the Events that their transitions cause.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::super::hosts::{HostState, LastLookup};
use super::super::live::Live;
use super::super::{Effect, Machine, Standing};
use super::{Said, time};
use crate::api::{
    AcceptedReason, AppliedReason, ConditionType, DroppedReason, EgressPolicyStatus, Mode, ResolvedReason,
};
use crate::time::Now;

/// A message names so many hosts or problems; the rest is counted.
const NAMED: usize = 5;

/// One condition before its time is known.
struct Finding {
    kind: ConditionType,
    /// None is Unknown.
    status: Option<bool>,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn status(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

impl Machine {
    pub(super) fn conditions(&self, now: Now) -> Vec<Condition> {
        let parts = [self.accepted(), self.resolved(now), self.applied(now)];
        let ready = ready(&parts);
        let findings = parts.into_iter().chain([ready]).chain(self.dropped());
        findings
            .map(|finding| {
                let kind = finding.kind.as_str();
                let status = finding.status();
                let since = self.status.said(kind).and_then(|said| said.since_if(status));
                Condition {
                    type_: kind.to_owned(),
                    status: status.to_owned(),
                    reason: finding.reason.to_owned(),
                    message: finding.message,
                    observed_generation: Some(self.policy.generation),
                    last_transition_time: since.cloned().unwrap_or_else(|| time(now.unix)),
                }
            })
            .collect()
    }

    fn accepted(&self) -> Finding {
        let mut problems: Vec<String> = self.policy.problems.iter().map(ToString::to_string).collect();
        let over = self.hosts.iter().filter(|host| host.over_quota).count();
        if over > 0 {
            problems.push(format!("{over} hosts are not looked up: over --max-hosts-per-namespace"));
        }
        let (status, reason) = match problems.is_empty() {
            true => (true, AcceptedReason::Valid),
            false => (false, AcceptedReason::PartlyInvalid),
        };
        let message = if status { "every entry is understood".to_owned() } else { listed(&problems, "; ") };
        Finding { kind: ConditionType::Accepted, status: Some(status), reason: reason.as_str(), message }
    }

    fn resolved(&self, now: Now) -> Finding {
        let finding = |status, reason: ResolvedReason, message| Finding {
            kind: ConditionType::Resolved,
            status,
            reason: reason.as_str(),
            message,
        };
        let said = |host: &HostState| format!("{} ({})", host.name, self.host_reason(host).unwrap_or_default());
        let stale = self.hosts.iter().enumerate().filter(|(at, _)| self.is_stale(*at, now.unix));
        let stale: Vec<String> = stale.map(|(_, host)| said(host)).collect();
        if !stale.is_empty() {
            return finding(
                Some(false),
                ResolvedReason::Stale,
                format!("no answer for very long: {}", listed(&stale, ", ")),
            );
        }
        if !self.all_settled() {
            let message = match self.standing {
                Standing::Normal => "first lookups are under way",
                Standing::Protected | Standing::Terminating => {
                    "hosts are not looked up: nothing is written to this namespace"
                }
            };
            return finding(None, ResolvedReason::Pending, message.to_owned());
        }
        let failing: Vec<String> = self.looked_up_hosts().filter(|host| self.is_failing(host)).map(said).collect();
        let asked = self.looked_up_hosts().count();
        if !failing.is_empty() && failing.len() == asked {
            return finding(Some(false), ResolvedReason::NoneResolved, listed(&failing, ", "));
        }
        if !failing.is_empty() {
            return finding(Some(false), ResolvedReason::SomeFailing, listed(&failing, ", "));
        }
        let local =
            self.hosts.iter().filter(|host| host.local || self.families().any(|f| host.family(f).cluster_local));
        let local: Vec<String> = local.map(|host| host.name.to_string()).collect();
        if !local.is_empty() {
            let message = format!("{}: inside the cluster, use a namespace destination", listed(&local, ", "));
            return finding(Some(false), ResolvedReason::ClusterLocalName, message);
        }
        finding(Some(true), ResolvedReason::AllResolved, format!("{asked} of {asked} hosts have an answer"))
    }

    /// No family gave an answer with addresses the last time. One lost family beside a good one is no failure.
    fn is_failing(&self, host: &HostState) -> bool {
        let positive =
            |family| host.family(family).last == Some(LastLookup::Answered(crate::answer::AnswerKind::Positive));
        !self.families().any(positive)
    }

    fn applied(&self, now: Now) -> Finding {
        let finding = |status, reason: AppliedReason, message: String| Finding {
            kind: ConditionType::Applied,
            status,
            reason: reason.as_str(),
            message,
        };
        let name = self.policy.key.network_policy_name();
        let bad = |reason, message| finding(Some(false), reason, message);
        match self.standing {
            Standing::Protected => {
                let message = "the namespace is protected: nothing is written".to_owned();
                return bad(AppliedReason::ProtectedNamespace, message);
            }
            Standing::Terminating => {
                return finding(None, AppliedReason::Pending, "the namespace is being deleted".to_owned());
            }
            Standing::Normal => {}
        }
        if self.policy.mode == Mode::DryRun {
            return match &self.live {
                Live::Ours(_) => bad(AppliedReason::DryRunFrozen, format!("NetworkPolicy {name} stays as it was")),
                Live::Absent | Live::Foreign { .. } => bad(AppliedReason::DryRun, "nothing is written".to_owned()),
            };
        }
        if let Live::Foreign { .. } = self.live {
            let message = format!(
                "NetworkPolicy {name} is not ours; annotate it platform.example.com/adopt=true to hand it over"
            );
            return bad(AppliedReason::NameConflict, message);
        }
        if let Some(trouble) = self.trouble.as_ref().filter(|t| t.reason != AppliedReason::Contested) {
            return bad(trouble.reason, trouble.message.clone());
        }
        if self.drift.is_contested(now.instant) {
            let message = format!("NetworkPolicy {name} keeps being rewritten by: {}", listed(&self.contenders, ", "));
            return bad(AppliedReason::Contested, message);
        }
        if !self.status.has_outcome() || !matches!(self.live, Live::Ours(_)) {
            return finding(None, AppliedReason::Pending, format!("NetworkPolicy {name} is not written yet"));
        }
        finding(Some(true), AppliedReason::Applied, format!("NetworkPolicy {name} is as wanted"))
    }

    /// Whether a first write is still to be expected.
    pub(super) fn is_write_expected(&self) -> bool {
        let writes = self.standing == Standing::Normal && self.policy.mode == Mode::Enforce;
        writes && !matches!(self.live, Live::Foreign { .. })
    }

    fn dropped(&self) -> Option<Finding> {
        let of = |host: &HostState| self.families().filter_map(|family| host.family(family).dropped).min();
        let dropped = self.hosts.iter().filter_map(|host| Some((of(host)?, host.name.to_string())));
        let mut dropped: Vec<(DroppedReason, String)> = dropped.collect();
        dropped.sort();
        let reason = dropped.first()?.0;
        let names: Vec<String> = dropped.into_iter().filter(|(r, _)| *r == reason).map(|(_, name)| name).collect();
        let what = match reason {
            DroppedReason::GuardRail => "answers hold addresses of the cluster, a node or the platform",
            DroppedReason::HostCap => "more addresses than --max-addresses-per-host",
            DroppedReason::PolicyCap => "more addresses than --max-addresses-per-policy",
        };
        Some(Finding {
            kind: ConditionType::AddressesDropped,
            status: Some(true),
            reason: reason.as_str(),
            message: format!("{what}: {}", listed(&names, ", ")),
        })
    }

    /// Events of conditions that changed.
    pub(super) fn conditions_changed(&mut self, status: &EgressPolicyStatus, now: Now, effects: &mut Vec<Effect>) {
        for condition in &status.conditions {
            let kind = condition.type_.as_str();
            let is_news = self.status.said(kind).is_none_or(|before| !before.same(&Said::of(condition)));
            let event = match (kind, condition.status.as_str()) {
                ("Resolved", "False") => Some("LookupsFailing"),
                ("Accepted", "False") => Some("PartlyInvalid"),
                ("AddressesDropped", "True") if condition.reason != "GuardRail" => Some("AddressesDropped"),
                _ => None,
            };
            if let Some(reason) = event.filter(|_| is_news) {
                self.event(reason, true, condition.message.clone(), now.instant, effects);
            }
        }
    }
}

/// True when every part is; otherwise the first part that is not says why.
fn ready(parts: &[Finding]) -> Finding {
    let worst =
        parts.iter().find(|part| part.status == Some(false)).or(parts.iter().find(|part| part.status.is_none()));
    match worst {
        None => Finding {
            kind: ConditionType::Ready,
            status: Some(true),
            reason: "Ready",
            message: "the pods may reach what the spec names".to_owned(),
        },
        Some(part) => Finding {
            kind: ConditionType::Ready,
            status: part.status,
            reason: part.reason,
            message: part.message.clone(),
        },
    }
}

fn listed(items: &[String], separator: &str) -> String {
    let mut text = items.iter().take(NAMED).cloned().collect::<Vec<_>>().join(separator);
    if items.len() > NAMED {
        text.push_str(&format!(" and {} more", items.len() - NAMED));
    }
    text
}
