//! Which runs there are.

use clap::ValueEnum;

use crate::arguments::Arguments;
use crate::clock::Clock;
use crate::control::{Control, Theorem};
use crate::fenced::Fenced;
use crate::run::{Effort, Run};
use crate::timed::{Timed, Watches};

/// A check of the protocol itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Check {
    /// Fence on, one API server
    T1,
    /// Fence on, a second API server lags
    T1TwoServers,
    /// Fence off, watches deliver late; two members
    T2LateWatches,
    /// Fence off, every shard finds an owner again
    OwnedAgain,
    /// Fence off, watches deliver at once
    T2,
}

/// What the runs have in common.
pub struct Plan {
    pub members: usize,
    pub shards: usize,
    pub clock: Clock,
    pub faults: u8,
    pub moves: u8,
    pub changes: u8,
    pub effort: Effort,
}

impl From<&Arguments> for Plan {
    fn from(arguments: &Arguments) -> Self {
        Self {
            members: arguments.members.into(),
            shards: arguments.shards.into(),
            clock: arguments.clock(),
            faults: arguments.faults,
            moves: arguments.moves,
            changes: arguments.changes,
            effort: Effort { threads: arguments.threads, max_steps: arguments.max_states },
        }
    }
}

impl Plan {
    /// All checks of the protocol itself, or the one that was asked for.
    pub fn checks(&self, only: Option<Check>) -> impl Iterator<Item = Run> {
        let all = Check::value_variants().iter().copied();
        all.filter(move |check| only.is_none_or(|only| only == *check)).map(|check| self.check(check))
    }

    pub fn check(&self, check: Check) -> Run {
        match check {
            Check::T1 => self.t1(),
            Check::T1TwoServers => self.t1_two_servers(),
            Check::T2LateWatches => self.t2_late_watches(),
            Check::OwnedAgain => self.owned_again(),
            Check::T2 => self.t2(),
        }
    }

    /// All controls, or the one that was asked for.
    pub fn controls(&self, only: Option<Control>) -> impl Iterator<Item = Run> {
        let all = Control::value_variants().iter().copied();
        all.filter(move |control| only.is_none_or(|only| only == *control)).map(|control| self.control(control))
    }

    fn t2(&self) -> Run {
        let model = self.timed(self.members, self.faults, self.moves, Watches::Prompt);
        Run::safety("T2", bounds(&model), model, self.effort)
    }

    fn t2_late_watches(&self) -> Run {
        let model = self.timed(self.members.min(2), self.faults, self.moves, Watches::Late);
        Run::safety("T2, late watches", bounds(&model), model, self.effort)
    }

    fn t1(&self) -> Run {
        let model = self.fenced(self.changes, false);
        Run::safety("T1", fenced_bounds(&model), model, self.effort)
    }

    fn t1_two_servers(&self) -> Run {
        let model = self.fenced(self.changes.min(3), true);
        Run::safety("T1, two API servers", fenced_bounds(&model), model, self.effort)
    }

    fn owned_again(&self) -> Run {
        let model = self.timed(self.members, self.faults.min(1), self.moves, Watches::Prompt);
        Run::owned_again("owned again", bounds(&model), &model)
    }

    pub fn control(&self, control: Control) -> Run {
        let name = control.name();
        let max_steps = self.effort.max_steps;
        let timed = |members, faults, moves, watches| {
            let mut model = self.timed(members, faults, moves, watches);
            model.control = Some(control);
            Run::control(&name, bounds(&model), model, max_steps)
        };
        let fenced = |changes, lagging| {
            let mut model = self.fenced(changes, lagging);
            model.control = Some(control);
            Run::control(&name, fenced_bounds(&model), model, max_steps)
        };
        match control.theorem() {
            Theorem::T2 => timed(self.members, 1, 0, Watches::Prompt),
            Theorem::T2Moves => timed(self.members, 0, 1, Watches::Prompt),
            Theorem::T2LateWatches => {
                let (faults, moves) = control.budget();
                timed(self.members.min(2), faults, moves, Watches::Late)
            }
            Theorem::T1 => fenced(self.changes, false),
            Theorem::T1TwoServers => fenced(self.changes.min(3), true),
        }
    }

    fn timed(&self, members: usize, faults: u8, moves: u8, watches: Watches) -> Timed {
        Timed { faults, moves, watches, ..Timed::new(members, self.shards, self.clock) }
    }

    fn fenced(&self, changes: u8, lagging: bool) -> Fenced {
        let forgeries = u8::from(lagging);
        Fenced { members: self.members, shards: self.shards, changes, forgeries, lagging, control: None }
    }
}

fn bounds(model: &Timed) -> String {
    let Clock { lease, request, drift, .. } = model.clock;
    format!(
        "{} members, {} shards, D={lease} T={request} drift={drift}, {} faults, {} moves",
        model.members, model.shards, model.faults, model.moves
    )
}

fn fenced_bounds(model: &Fenced) -> String {
    let forgeries = if model.lagging { format!(", {} forgery", model.forgeries) } else { String::new() };
    format!("{} members, {} shards, {} changes of the table{forgeries}", model.members, model.shards, model.changes)
}
