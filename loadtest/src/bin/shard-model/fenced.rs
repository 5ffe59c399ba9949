//! T1: the protocol with a fence in the API server. Nothing is assumed of time: every compare-and-swap that a rule
//! could lead to may happen at any moment, and a write with any stamp that was ever given out may arrive at any moment.
//! docs/model.md says what is left out, and why nothing is lost by that.

pub mod action;
mod object;
pub mod state;
mod table;

use stateright::{Model, Property};

use crate::control::Control;
use action::{Action, Server};
use state::{MEMBERS, SHARDS, State};

/// The name of the property with one API server.
pub const NO_OLD_STAMP: &str = "no write with a stamp other than the table's present entry is admitted";
/// The name of the property with a second API server that lags.
pub const NOTHING_NEWER_OVERWRITTEN: &str = "nothing of a newer holder is overwritten by an older one";

#[derive(Clone, Debug)]
pub struct Fenced {
    pub members: usize,
    pub shards: usize,
    /// How often the table may change, in all.
    pub changes: u8,
    /// How often a tenant may forge a stamp.
    pub forgeries: u8,
    /// Is there a second API server, which sees the table late?
    pub lagging: bool,
    pub control: Option<Control>,
}

impl Fenced {
    fn lacks(&self, control: Control) -> bool {
        self.control == Some(control)
    }

    fn has_changes(&self, state: &State) -> bool {
        state.version < self.changes
    }
}

impl Model for Fenced {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self.members, self.shards, self.forgeries)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.has_changes(state) {
            self.table_actions(state, actions);
        }
        if self.lagging {
            self.object_actions(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        let happens = match action {
            Action::CatchUp
            | Action::Write { .. }
            | Action::SendRestamp { .. }
            | Action::Restamp { .. }
            | Action::Forge { .. }
            | Action::Delete { .. } => self.object_step(&mut next, action),
            _ => self.table_step(&mut next, action),
        };
        (happens && next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let property = match self.lagging {
            false => Property::always(NO_OLD_STAMP, |_, state: &State| state.ambiguous_stamp().is_none()),
            true => Property::always(NOTHING_NEWER_OVERWRITTEN, |_, state: &State| !state.overwritten),
        };
        vec![property]
    }
}

/// The entries that an API server compares stamps with.
fn entries(state: &State, server: Server) -> &state::Entries {
    match server {
        Server::Present => &state.history[state.version as usize],
        Server::Lagging => &state.history[state.view as usize],
    }
}

/// All members and shards of a run, as the numbers that actions use.
fn numbers(count: usize, limit: usize) -> std::ops::Range<u8> {
    0..count.min(limit) as u8
}

impl Fenced {
    fn all_members(&self) -> std::ops::Range<u8> {
        numbers(self.members, MEMBERS)
    }

    fn all_shards(&self) -> std::ops::Range<u8> {
        numbers(self.shards, SHARDS)
    }
}
