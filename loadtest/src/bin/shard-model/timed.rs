//! T2: the protocol without a fence in the API server. Time passes in ticks, and writes stay in flight for a bounded
//! time. docs/model.md says what is left out, and why nothing is lost by that.

pub mod action;
mod fault;
mod hand_over;
mod join;
mod kill;
pub mod member;
mod renewal;
pub mod state;
mod symmetry;
mod time;

use stateright::{Model, Property};

use crate::clock::Clock;
use crate::control::Control;
use action::Action;
use member::{Fence, MEMBERS, Member, SHARDS, Seen};
use state::{Holder, State};
use symmetry::Symmetry;

/// The name of the one safety property.
pub const NO_OVERLAP: &str = "no write commits while the table names another process";

/// When a change of a Lease reaches those who watch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watches {
    Prompt,
    Late,
}

#[derive(Clone, Debug)]
pub struct Timed {
    pub members: usize,
    pub shards: usize,
    pub clock: Clock,
    pub watches: Watches,
    pub control: Option<Control>,
    /// Crashes, deletions and edits by somebody else, in all.
    pub faults: u8,
    /// Hand-overs and terminations, in all.
    pub moves: u8,
    pub symmetry: Symmetry,
}

impl Timed {
    pub fn new(members: usize, shards: usize, clock: Clock) -> Self {
        let symmetry = Symmetry::of(members, shards);
        Self { members, shards, clock, watches: Watches::Prompt, control: None, faults: 0, moves: 0, symmetry }
    }

    fn lacks(&self, control: Control) -> bool {
        self.control == Some(control)
    }

    /// Everybody has just renewed, and the shards are dealt out.
    pub fn initial(&self) -> State {
        let mut members = [Member::absent(); MEMBERS];
        for member in 0..self.members {
            members[member] = Member::joined();
            for other in (0..self.members).filter(|&other| other != member) {
                members[member].seen[other] = Seen::Lease { age: 0, current: true };
            }
        }
        let mut holders = [Holder::Free { age: 0 }; SHARDS];
        for (shard, holder) in holders.iter_mut().enumerate().take(self.shards) {
            let owner = shard % self.members;
            members[owner].mine = members[owner].mine.with(shard);
            *holder = Holder::Member(owner as u8);
        }
        let (faults, moves) = (self.faults, self.moves);
        let mut state = State { members, holders, table: true, kills: [false; MEMBERS], faults, moves };
        self.settle(&mut state);
        state
    }

    /// What holds after every step: who may write has a write in flight that was just sent.
    fn settle(&self, state: &mut State) {
        for member in &mut state.members {
            for shard in 0..self.shards {
                if member.writes(shard) {
                    member.flights[shard] = Some(0);
                }
            }
        }
        for member in 0..MEMBERS {
            state.kills[member] &= state.members[member].listed();
        }
        // A shard that this run does not have is never assigned.
        for holder in &mut state.holders[self.shards..] {
            *holder = Holder::Free { age: 0 };
        }
    }

    /// The state after `action`, with everybody under the name that they had before.
    pub fn step(&self, state: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut next = *state;
        let at = |member: u8| member as usize;
        let happens = match action {
            Tick => self.tick(&mut next),
            RenewLease(m) => self.renew_lease(&mut next, at(m)),
            ReadTable(m) => self.read_table(&mut next, at(m)),
            TakeAnswer(m) => self.take_answer(&mut next, at(m)),
            Lapse(m) => next.members[at(m)].valid() && self.lapse(&mut next.members[at(m)]),
            WriteOwnLease(m) => self.write_own_lease(&mut next, at(m)),
            Join(m) => self.join(&mut next, at(m)),
            CreateTable(m) => self.create_table(&mut next, at(m)),
            Watch { observer, member } => self.watch(&mut next, at(observer), at(member)),
            ConfirmDeath { observer, member } => self.confirm_death(&mut next, at(observer), at(member)),
            Kill { member, to } => self.kill(&mut next, at(member), to),
            AssignFree { to } => self.assign_free(&mut next, to),
            Drain { member, shard } => self.drain(&mut next, at(member), shard as usize),
            Drained(m) => self.drained(&mut next, at(m)),
            SendHandOver(m) => self.send_hand_over(&mut next, at(m)),
            HandOver { member, to } => self.hand_over(&mut next, at(member), to),
            Resume(m) => self.resume(&mut next, at(m)),
            Leave { member, to } => self.leave(&mut next, at(member), to),
            Start { member, same_pod } => self.start(&mut next, at(member), same_pod),
            fault => self.fault(&mut next, fault),
        };
        if !happens {
            return None;
        }
        self.settle(&mut next);
        (next != *state).then_some(next)
    }
}

impl Model for Timed {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.symmetry.representative(&self.initial())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.push(Tick);
        for m in 0..self.members as u8 {
            actions.extend([RenewLease(m), ReadTable(m), TakeAnswer(m), Lapse(m), WriteOwnLease(m), Join(m)]);
            actions.extend([CreateTable(m), Drained(m), SendHandOver(m), Resume(m)]);
            actions.extend((0..self.shards as u8).map(|shard| Drain { member: m, shard }));
            for observer in 0..self.members as u8 {
                actions.push(ConfirmDeath { observer, member: m });
                if self.watches == Watches::Late {
                    actions.push(Watch { observer, member: m });
                }
            }
            self.placed(state, m, actions);
            actions.extend([Start { member: m, same_pod: true }, Start { member: m, same_pod: false }]);
            if state.faults > 0 {
                actions.extend([Crash(m), DeleteLease(m), ChangeLease(m)]);
                if self.lacks(Control::RenewTimeCompared) {
                    actions.push(RestoreLease(m));
                }
            }
        }
        self.free_placed(state, actions);
        if state.faults > 0 {
            actions.push(DeleteTable);
            actions.extend((0..self.shards as u8).map(GarbleEntry));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = self.step(state, action)?;
        Some(self.symmetry.representative(&next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(NO_OVERLAP, |_, state: &State| state.overlap().is_none())]
    }
}

impl Timed {
    /// The compare-and-swaps of one member that have several outcomes.
    fn placed(&self, state: &State, m: u8, actions: &mut Vec<Action>) {
        let member = m as usize;
        let others: Vec<usize> = state.listed().filter(|&other| other != member).collect();
        let ripe = state.free(self.clock.expiry());
        let all = |shards: Vec<usize>| State::placements(shards.into_iter().collect(), &others);
        if state.kills[member] {
            let shards = state.holdings(member).iter().chain(ripe.iter()).collect();
            actions.extend(all(shards).into_iter().map(|to| Action::Kill { member: m, to }));
        }
        if !state.members[member].handing.is_empty() && !others.is_empty() {
            let shards = state.members[member].handing.iter().collect();
            actions.extend(all(shards).into_iter().map(|to| Action::HandOver { member: m, to }));
        }
        if state.moves > 0 && state.members[member].fence != Fence::Lapsed {
            let shards = state.holdings(member).iter().collect();
            actions.extend(all(shards).into_iter().map(|to| Action::Leave { member: m, to }));
        }
    }

    fn free_placed(&self, state: &State, actions: &mut Vec<Action>) {
        let ripe = state.free(self.clock.expiry());
        let targets: Vec<usize> = state.listed().collect();
        if !ripe.is_empty() && !targets.is_empty() {
            actions.extend(State::placements(ripe, &targets).into_iter().map(|to| Action::AssignFree { to }));
        }
    }
}
