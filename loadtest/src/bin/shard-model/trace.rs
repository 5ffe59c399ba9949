//! A way to a state, for people: one line for each step.

use stateright::Model;

use crate::fenced::Fenced;
use crate::fenced::action::Action as FencedAction;
use crate::fenced::state::State as FencedState;
use crate::timed::Timed;
use crate::timed::action::Action;
use crate::timed::state::State;

/// A model whose paths can be told.
pub trait Traced: Model {
    /// One line for each action, and one for what is wrong at the end.
    fn trace(&self, actions: &[Self::Action], states: &[Self::State]) -> Vec<String>;
}

impl Traced for Timed {
    fn trace(&self, _: &[Action], states: &[State]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut now = 0;
        let mut state = self.initial();
        for wanted in states.iter().skip(1) {
            // The states of the path go by the names of their representatives. Here everybody keeps his own.
            let mut actions = Vec::new();
            self.actions(&state, &mut actions);
            let step = actions.into_iter().find_map(|action| {
                let next = self.step(&state, action)?;
                (self.symmetry.representative(&next) == *wanted).then_some((action, next))
            });
            let Some((action, next)) = step else { break };
            now += usize::from(action == Action::Tick);
            lines.push(format!("t={now}  {action}"));
            state = next;
        }
        if let Some(overlap) = state.overlap() {
            let (shard, writer, holder) = (overlap.shard, overlap.writer, overlap.holder);
            lines.push(match writer == holder {
                true => {
                    format!("t={now}  => a write of s{shard} by the process that was m{writer} before can still commit")
                }
                false => {
                    format!("t={now}  => a write of s{shard} by m{writer} can commit, and the table names m{holder}")
                }
            });
        }
        lines
    }
}

impl Traced for Fenced {
    fn trace(&self, actions: &[FencedAction], states: &[FencedState]) -> Vec<String> {
        let mut lines: Vec<String> =
            actions.iter().zip(states).map(|(action, before)| format!("v={}  {action}", before.version)).collect();
        let Some(last) = states.last() else { return lines };
        if let Some((shard, old, present)) = last.ambiguous_stamp() {
            lines.push(format!(
                "v={}  => the stamp s{shard}/{} of m{} was given out at change {} and again at change {}",
                last.version, present.epoch, present.pod, old.tenure, present.tenure
            ));
        }
        if last.overwritten {
            lines.push(format!(
                "v={}  => that write was decided under an entry older than the one it overwrites",
                last.version
            ));
        }
        lines
    }
}
