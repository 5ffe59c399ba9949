//! Events on transitions, at most one per reason in the interval.

use std::time::Duration;

use crate::time::Instant;

#[derive(Clone, Debug, Default)]
pub(super) struct EventThrottle {
    last: Vec<(&'static str, Instant)>,
}

impl EventThrottle {
    /// Whether an Event of this reason may be published now; if so, it counts as published.
    pub(super) fn admit(&mut self, reason: &'static str, now: Instant, interval: Duration) -> bool {
        self.last.retain(|(_, at)| now.since(*at) < interval);
        let admitted = self.last.iter().all(|(seen, _)| *seen != reason);
        if admitted {
            self.last.push((reason, now));
        }
        admitted
    }
}

impl super::Machine {
    /// Publishes an Event unless one of the same reason came within the interval.
    pub(super) fn event(
        &mut self,
        reason: &'static str,
        warning: bool,
        note: String,
        now: Instant,
        effects: &mut Vec<super::Effect>,
    ) {
        if self.events.admit(reason, now, self.context.settings.event_interval) {
            let uid = self.policy.uid.clone();
            effects.push(super::Effect::Event(super::PolicyEvent { uid, reason, note: shortened(note), warning }));
        }
    }
}

/// The API takes 1,024 bytes.
fn shortened(mut note: String) -> String {
    const MAX_NOTE: usize = 1_000;
    if note.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}
