//! One configuration, explored.

use std::hash::Hash;
use std::time::Instant;

use stateright::Checker;

use crate::reachability::Question;
use crate::timed::Timed;
use crate::trace::Traced;

/// What was expected, and came or did not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every reachable state was looked at, and all of them are as they should be.
    Holds,
    Violated,
    /// A control was found out.
    Caught,
    /// A control was not found out: then the model proves nothing.
    Missed,
    /// The limit on steps came first.
    Unfinished,
}

impl Verdict {
    pub fn is_good(self) -> bool {
        matches!(self, Self::Holds | Self::Caught)
    }

    fn of_control(self) -> Self {
        match self {
            Self::Violated => Self::Caught,
            Self::Holds => Self::Missed,
            other => other,
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Run {
    pub name: String,
    pub bounds: String,
    pub steps: usize,
    pub states: usize,
    pub depth: usize,
    pub seconds: f64,
    pub verdict: Verdict,
    /// The shortest way to what is wrong, or nothing.
    pub trace: Vec<String>,
}

/// How much work a run may be.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub threads: usize,
    pub max_steps: usize,
}

impl Run {
    /// Every reachable state of a model against its safety property.
    pub fn safety<M>(name: &str, bounds: String, model: M, effort: Effort) -> Self
    where
        M: Traced + Clone + Send + Sync + 'static,
        M::State: Hash + Send + Sync + Clone + PartialEq,
        M::Action: Copy + PartialEq,
    {
        let begin = Instant::now();
        let teller = model.clone();
        let builder = model.checker().threads(effort.threads).target_state_count(effort.max_steps);
        let checker = builder.spawn_bfs().join();
        let path = checker.discoveries().into_values().next();
        let verdict = match (&path, checker.state_count() >= effort.max_steps) {
            (Some(_), _) => Verdict::Violated,
            (None, true) => Verdict::Unfinished,
            (None, false) => Verdict::Holds,
        };
        let trace = path.map_or_else(Vec::new, |path| {
            let (states, actions): (Vec<_>, Vec<_>) = path.into_vec().into_iter().unzip();
            teller.trace(&actions.into_iter().flatten().collect::<Vec<_>>(), &states)
        });
        Self {
            name: name.to_owned(),
            bounds,
            steps: checker.state_count(),
            states: checker.unique_state_count(),
            depth: checker.max_depth(),
            seconds: begin.elapsed().as_secs_f64(),
            verdict,
            trace,
        }
    }

    /// The same for a model that lacks a rule. One thread, so that the way to the violation is the shortest.
    pub fn control<M>(name: &str, bounds: String, model: M, max_steps: usize) -> Self
    where
        M: Traced + Clone + Send + Sync + 'static,
        M::State: Hash + Send + Sync + Clone + PartialEq,
        M::Action: Copy + PartialEq,
    {
        let mut run = Self::safety(name, bounds, model, Effort { threads: 1, max_steps });
        run.verdict = run.verdict.of_control();
        run
    }

    /// From every reachable state in which a process runs: can all shards be owned again, if nothing else goes wrong?
    pub fn owned_again(name: &str, bounds: String, model: &Timed) -> Self {
        let begin = Instant::now();
        let question: Question<Timed> = Question {
            allowed: |action| action.is_ordinary(),
            asked: |_, state| state.some_process_runs(),
            wanted: |model, state| state.all_owned(model.shards),
        };
        let reachability = question.ask(model);
        let verdict = if reachability.stuck.is_some() { Verdict::Violated } else { Verdict::Holds };
        let trace = reachability.stuck.map_or_else(Vec::new, |stuck| {
            let mut lines = model.trace(&stuck.actions, &stuck.states);
            lines.push(format!("=> from here, and from {} more states, no owner is found", stuck.count - 1));
            lines
        });
        Self {
            name: name.to_owned(),
            bounds,
            steps: reachability.steps,
            states: reachability.states,
            depth: reachability.depth,
            seconds: begin.elapsed().as_secs_f64(),
            verdict,
            trace,
        }
    }
}
