//! The passing of time.

use super::member::{Fence, Request, Seen};
use super::state::{Holder, State, older};
use super::{MEMBERS, Member, Timed};
use crate::control::Control;

impl Timed {
    /// Nobody has to do anything before time goes on: that is how a member can be stopped anywhere, for any time.
    pub(super) fn tick(&self, state: &mut State) -> bool {
        let (fence, expiry) = (self.fence(), self.clock.expiry());
        for member in &mut state.members {
            for flight in member.flights.iter_mut().chain(&mut member.orphans) {
                *flight = older(*flight, self.clock.request);
            }
            member.request = member.request.older(fence);
            for seen in &mut member.seen {
                *seen = seen.older(expiry);
            }
            match member.fence {
                Fence::Since(age) if age < fence => member.fence = Fence::Since(age + 1),
                Fence::Since(_) => {
                    self.lapse(member);
                }
                _ => {}
            }
        }
        if state.table {
            for holder in &mut state.holders {
                if let Holder::Free { age } = holder {
                    *age = expiry.min(*age + 1);
                }
            }
        }
        true
    }

    /// The age of its renewal up to which a member writes.
    pub(super) fn fence(&self) -> u8 {
        self.clock.fence() + if self.lacks(Control::ShortMargin) { self.clock.slack } else { 0 }
    }

    /// R2: nothing is written any more, and what was observed of others no longer counts.
    pub(super) fn lapse(&self, member: &mut Member) -> bool {
        member.fence = Fence::Lapsed;
        member.seen = [Seen::Nothing; MEMBERS];
        member.draining = Default::default();
        member.mine = Default::default();
        if !self.lacks(Control::NoLapse) {
            member.request = Request::None;
        }
        true
    }
}
