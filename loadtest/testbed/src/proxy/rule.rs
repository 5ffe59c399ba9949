//! Faults: which requests they meet, what they do, how often.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::target::{Target, Verb};
use crate::dns::thread::until;

/// What happens to a request that a rule meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Waits, then goes on with the rules after this one.
    Delay(Duration),
    /// Answers without asking the API server.
    Status {
        /// HTTP code and `code` of the Status object.
        code: u16,
        /// `reason` of the Status object.
        reason: String,
        /// Seconds of the Retry-After header, if any.
        retry_after: Option<u32>,
    },
    /// Lets the API server commit, then answers with this code.
    AfterCommit {
        /// HTTP code and `code` of the Status object.
        code: u16,
    },
    /// Lets the API server commit, then never answers.
    HangAfterCommit,
    /// Lets the API server answer, and passes that on as soon as the rule is removed.
    HoldAnswer,
    /// Ends a watch after so many events; meets watches only. Bookmarks and initial events count.
    EndWatch {
        /// Events that still pass; 0 ends the watch at once.
        after: u64,
        /// How the client sees the end.
        how: WatchEnd,
    },
    /// Closes the connection without an answer.
    Close,
    /// Never answers and never asks the API server.
    Hang,
}

/// How a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The stream ends as at the API server's own timeout.
    Clean,
    /// The connection breaks in the middle of the stream.
    Abort,
    /// The stream stays open and says nothing more.
    Stall,
    /// An ERROR event with code 410 and reason Expired, then a clean end.
    Gone,
}

/// An action for the requests that fit every condition set, as long as it lasts.
#[derive(Clone, Debug)]
pub struct Rule {
    action: Action,
    verb: Option<Verb>,
    group: Option<String>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    times: Option<u64>,
    one_in: u64,
}

impl Rule {
    /// Meets every request until removed.
    pub fn new(action: Action) -> Self {
        Self { action, verb: None, group: None, resource: None, namespace: None, name: None, times: None, one_in: 1 }
    }

    /// Delays by this time.
    pub fn delay(by: Duration) -> Self {
        Self::new(Action::Delay(by))
    }

    /// Answers with this code and reason instead of the API server.
    pub fn status(code: u16, reason: &str) -> Self {
        let reason = reason.to_owned();
        let retry_after = None;
        Self::new(Action::Status { code, reason, retry_after })
    }

    /// 429 with a Retry-After of so many seconds, as from priority and fairness.
    pub fn too_many_requests(retry_after: u32) -> Self {
        Self::new(Action::Status { code: 429, reason: "TooManyRequests".to_owned(), retry_after: Some(retry_after) })
    }

    /// The API server commits, the client reads 504.
    pub fn timeout_after_commit() -> Self {
        Self::new(Action::AfterCommit { code: 504 })
    }

    /// Ends a watch cleanly after so many events.
    pub fn cut_watch(after: u64) -> Self {
        let how = WatchEnd::Clean;
        Self::new(Action::EndWatch { after, how }).verb(Verb::Watch)
    }

    /// Sends a watch the ERROR event with code 410 after so many events.
    pub fn gone_event(after: u64) -> Self {
        let how = WatchEnd::Gone;
        Self::new(Action::EndWatch { after, how }).verb(Verb::Watch)
    }

    /// Refuses a watch with HTTP 410.
    pub fn gone_at_open() -> Self {
        Self::status(410, "Expired").verb(Verb::Watch)
    }

    /// Keeps what the API server answered until this rule is removed.
    pub fn hold_answer() -> Self {
        Self::new(Action::HoldAnswer)
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Only requests with this verb.
    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only this API group; the core group is empty.
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Only this resource, as [`Target::resource`] writes it; `egresspolicies` does not meet `egresspolicies/status`.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only requests that name this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only requests that name this object.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Acts so many times, then never again.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Acts on each `n`th request that fits; the others pass.
    pub fn one_in(mut self, n: u64) -> Self {
        self.one_in = n.max(1);
        self
    }

    fn fits(&self, target: &Target) -> bool {
        fn same(wanted: Option<&String>, found: Option<&String>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        self.verb.is_none_or(|verb| verb == target.verb)
            && same(self.group.as_ref(), Some(&target.group))
            && same(self.resource.as_ref(), Some(&target.resource))
            && same(self.namespace.as_ref(), target.namespace.as_ref())
            && same(self.name.as_ref(), target.name.as_ref())
            && (target.verb == Verb::Watch || !matches!(self.action, Action::EndWatch { .. }))
    }
}

/// Names a rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

#[derive(Debug)]
struct InForce {
    id: RuleId,
    rule: Rule,
    fitted: u64,
    hits: u64,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    rules: Vec<InForce>,
}

/// What the rules decided for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Sum of the delays.
    pub(super) delay: Duration,
    /// The first action that is no delay.
    pub(super) action: Option<Action>,
    /// The rule of this action.
    pub(super) rule: Option<RuleId>,
}

/// The rules in force, in the order of their injection.
#[derive(Debug, Default)]
pub(super) struct Rules {
    inner: Mutex<Inner>,
    /// Some rule is not in force any more.
    removed: Notify,
}

impl Rules {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inject(&self, rule: Rule) -> RuleId {
        let mut inner = self.lock();
        let id = RuleId(inner.next);
        inner.next += 1;
        inner.rules.push(InForce { id, rule, fitted: 0, hits: 0 });
        id
    }

    pub(super) fn remove(&self, id: RuleId) {
        self.lock().rules.retain(|rule| rule.id != id);
        self.removed.notify_waiters();
    }

    pub(super) fn clear(&self) {
        self.lock().rules.clear();
        self.removed.notify_waiters();
    }

    pub(super) async fn removed(&self, id: RuleId) {
        until(&self.removed, || self.lock().rules.iter().all(|rule| rule.id != id)).await;
    }

    pub(super) fn hits(&self, id: RuleId) -> u64 {
        let inner = self.lock();
        let found = inner.rules.iter().find(|rule| rule.id == id);
        found.map_or(0, |rule| rule.hits)
    }

    pub(super) fn judge(&self, target: &Target) -> Verdict {
        let mut verdict = Verdict::default();
        for in_force in &mut self.lock().rules {
            let rule = &in_force.rule;
            if rule.times.is_some_and(|times| in_force.hits >= times) || !rule.fits(target) {
                continue;
            }
            in_force.fitted += 1;
            if !in_force.fitted.is_multiple_of(rule.one_in) {
                continue;
            }
            in_force.hits += 1;
            match &rule.action {
                Action::Delay(by) => verdict.delay += *by,
                action => {
                    verdict.action = Some(action.clone());
                    verdict.rule = Some(in_force.id);
                    return verdict;
                }
            }
        }
        verdict
    }
}
