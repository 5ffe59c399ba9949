//! What may happen to a policy, played to the machine and to the model.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::model::Model;
use super::sim::Sim;
use super::wanted::{NAMES, Wanted, wanted};
use crate::answer::{Family, LookupFailure};
use crate::api::BOOK_ANNOTATION;
use crate::machine::Input;
use crate::settings::Settings;

/// A line of a stored book: name, last octet, whether IPv6, age in minutes (negative: the future).
type Line = (usize, u8, bool, i32);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Answer(usize, Vec<u8>),
    AnswerOneFamily(usize, Family, Vec<u8>),
    NxDomain(usize),
    Fail(usize, LookupFailure),
    Advance(u32),
    Restart,
    Spec(Wanted),
    Quota(usize),
    Widen,
    Delete,
    /// Somebody puts another book in the place of the stored one while the controller is down.
    Book(Vec<Line>),
    /// The same with none, or with one that does not read.
    LoseBook(Option<&'static str>),
    RecreatePolicy,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let octets = || vec(0..12_u8, 0..5);
    let failure = select(vec![LookupFailure::Timeout, LookupFailure::ServFail, LookupFailure::Refused]);
    let line = (name.clone(), 0..14_u8, any::<bool>(), -2_000..20_000_i32);
    let lost = select(vec![None, Some("garbage"), Some(r#"{"v":99,"hosts":{}}"#)]);
    prop_oneof![
        6 => (name.clone(), octets()).prop_map(|(n, all)| Op::Answer(n, all)),
        2 => (name.clone(), select(vec![Family::V4, Family::V6]), octets())
            .prop_map(|(n, family, all)| Op::AnswerOneFamily(n, family, all)),
        1 => name.clone().prop_map(Op::NxDomain),
        3 => (name, failure).prop_map(|(n, failure)| Op::Fail(n, failure)),
        3 => (1..7_200_u32).prop_map(Op::Advance),
        1 => (7_200..400_000_u32).prop_map(Op::Advance),
        1 => Just(Op::Restart),
        3 => wanted().prop_map(Op::Spec),
        1 => (0..4_usize).prop_map(Op::Quota),
        1 => Just(Op::Widen),
        1 => Just(Op::Delete),
        2 => vec(line, 0..24).prop_map(Op::Book),
        1 => lost.prop_map(Op::LoseBook),
        1 => Just(Op::RecreatePolicy),
    ]
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..40)
}

pub(super) fn v4(octet: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, octet).into()
}

pub(super) fn v6(octet: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, octet.into()).into()
}

pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) model: Model,
    pub(super) quota: usize,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let wanted = Wanted::every_name();
        let sim = Sim::with(wanted.json(), None, settings);
        Self { sim, model: Model::new(wanted), quota: usize::MAX }
    }

    /// Few enough that the answers meet both caps.
    pub(super) fn capped() -> Self {
        Self::new(Settings { max_addresses_per_host: 8, max_addresses_per_policy: 20, ..Settings::default() })
    }

    pub(super) fn play(&mut self, op: &Op) {
        match op {
            Op::Answer(n, octets) => {
                for family in [Family::V4, Family::V6] {
                    self.answer(*n, family, octets);
                }
            }
            Op::AnswerOneFamily(n, family, octets) => self.answer(*n, *family, octets),
            Op::NxDomain(n) => {
                for family in [Family::V4, Family::V6] {
                    self.model.answer(*n, family, &[], self.sim.now.unix.0);
                }
                self.sim.nxdomain(NAMES[*n]);
            }
            Op::Fail(n, failure) => self.sim.fail(NAMES[*n], *failure),
            Op::Advance(seconds) => self.sim.advance(Duration::from_secs((*seconds).into())),
            Op::Restart => {
                self.reload();
                self.sim.restart();
            }
            Op::Spec(wanted) => {
                self.model.spec(wanted.clone());
                self.sim.spec(wanted.json());
            }
            Op::Quota(quota) => {
                self.quota = *quota;
                self.sim.input(Input::HostQuota(*quota));
            }
            Op::Widen if self.sim.stored.is_some() => self.sim.hand_edit(|object| {
                object.spec = serde_json::from_value(json!({"policyTypes": ["Egress"], "egress": [{}]})).unwrap();
            }),
            Op::Delete if self.sim.stored.is_some() => self.sim.hand_delete(),
            Op::Book(lines) => self.start_with_book(Some(&self.book_text(lines))),
            Op::LoseBook(text) => self.start_with_book(*text),
            Op::RecreatePolicy => {
                self.reload();
                self.sim.recreate_policy();
            }
            Op::Widen | Op::Delete => {}
        }
    }

    fn answer(&mut self, n: usize, family: Family, octets: &[u8]) {
        let all: Vec<IpAddr> =
            octets.iter().map(|octet| if family == Family::V4 { v4(*octet) } else { v6(*octet) }).collect();
        self.model.answer(n, family, &all, self.sim.now.unix.0);
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        self.sim.answer_family(NAMES[n], family, &all.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    }

    fn book_text(&self, lines: &[Line]) -> String {
        let now = i64::try_from(self.sim.now.unix.0 / 60).unwrap();
        let mut book: BTreeMap<&str, BTreeMap<IpAddr, i64>> = BTreeMap::new();
        for (n, octet, is_v6, age) in lines {
            let address = if *is_v6 { v6(*octet) } else { v4(*octet) };
            book.entry(NAMES[*n]).or_default().insert(address, now - i64::from(*age));
        }
        json!({"v": 1, "hosts": book}).to_string()
    }

    fn start_with_book(&mut self, text: Option<&str>) {
        if self.sim.stored.is_none() {
            return;
        }
        self.sim.edit_while_down(|object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.remove(BOOK_ANNOTATION);
            annotations.extend(text.map(|text| (BOOK_ANNOTATION.to_owned(), text.to_owned())));
        });
        self.reload();
        self.sim.restart();
    }

    fn reload(&mut self) {
        self.quota = usize::MAX;
        self.model.reload(self.sim.stored.as_ref());
    }
}
