//! I1-I7 over random specs, answers, failures, edits and restarts: checked at every stored revision.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::sim::{Sim, foreign, hosts};
use crate::answer::{Family, LookupFailure};
use crate::settings::Settings;

const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];

#[derive(Clone, Debug)]
enum Op {
    Answer(usize, Vec<u8>),
    AnswerOneFamily(usize, Vec<u8>),
    NxDomain(usize),
    Fail(usize),
    Advance(u32),
    Restart,
    Spec(Vec<usize>),
    Widen,
    Delete,
    LoseBook,
    RecreatePolicy,
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let octets = || prop::collection::vec(0..12_u8, 0..5);
    prop_oneof![
        6 => (name.clone(), octets()).prop_map(|(n, all)| Op::Answer(n, all)),
        2 => (name.clone(), octets()).prop_map(|(n, all)| Op::AnswerOneFamily(n, all)),
        1 => name.clone().prop_map(Op::NxDomain),
        3 => name.clone().prop_map(Op::Fail),
        4 => (1..7_200_u32).prop_map(Op::Advance),
        1 => Just(Op::Restart),
        2 => prop::collection::vec(name, 0..4).prop_map(Op::Spec),
        1 => Just(Op::Widen),
        1 => Just(Op::Delete),
        1 => Just(Op::LoseBook),
        1 => Just(Op::RecreatePolicy),
    ]
}

fn v4(octet: u8) -> String {
    Ipv4Addr::new(192, 0, 2, octet).to_string()
}

fn v6(octet: u8) -> String {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, octet.into()).to_string()
}

/// An address that is fine, or one that the guard rail knows, plainly or inside an IPv6 form.
fn guarded_or_not() -> impl Strategy<Value = String> {
    let bad =
        prop::sample::select(vec![[127, 0, 0, 1], [169, 254, 169, 254], [10, 96, 0, 9], [0, 0, 0, 0], [224, 0, 0, 1]]);
    prop_oneof![
        (0..9_u8).prop_map(v4),
        bad.clone().prop_map(|octets| Ipv4Addr::from(octets).to_string()),
        bad.clone().prop_map(|octets| Ipv4Addr::from(octets).to_ipv6_mapped().to_string()),
        bad.prop_map(|[a, b, c, d]| format!("64:ff9b::{a:02x}{b:02x}:{c:02x}{d:02x}")),
    ]
}

fn run(sim: &mut Sim, op: &Op) {
    match op {
        Op::Answer(n, octets) | Op::AnswerOneFamily(n, octets) => {
            let all: Vec<String> = octets.iter().flat_map(|o| [v4(*o), v6(*o)]).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            match op {
                Op::Answer(..) => sim.answer(NAMES[*n], &all),
                _ => sim.answer_family(NAMES[*n], Family::V4, &all, &[]),
            }
        }
        Op::NxDomain(n) => sim.nxdomain(NAMES[*n]),
        Op::Fail(n) => sim.fail(NAMES[*n], LookupFailure::Timeout),
        Op::Advance(seconds) => sim.advance(Duration::from_secs((*seconds).into())),
        Op::Restart => sim.restart(),
        Op::Spec(names) => {
            let names: Vec<&str> = names.iter().map(|n| NAMES[*n]).collect();
            let mut spec = hosts(&names);
            spec["retentionSeconds"] = json!(RETENTION.as_secs());
            sim.spec(spec);
        }
        Op::Widen if sim.stored.is_some() => sim.hand_edit(|object| {
            object.spec = serde_json::from_value(json!({"policyTypes": ["Egress"], "egress": [{}]})).unwrap();
        }),
        Op::Delete if sim.stored.is_some() => sim.hand_delete(),
        Op::LoseBook if sim.stored.is_some() => {
            sim.edit_while_down(|object| object.metadata.annotations = None);
            sim.restart();
        }
        Op::RecreatePolicy => sim.recreate_policy(),
        Op::Widen | Op::Delete | Op::LoseBook => {}
    }
}

const RETENTION: Duration = Duration::from_secs(3_600);

fn start() -> Sim {
    let mut spec = hosts(&NAMES);
    spec["retentionSeconds"] = json!(RETENTION.as_secs());
    Sim::with(spec, None, Settings { max_addresses_per_host: 8, max_addresses_per_policy: 20, ..Settings::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_revision_of_ours_has_an_empty_list_or_lacks_egress(ops in prop::collection::vec(op(), 1..40)) {
        let mut sim = start();
        for op in &ops {
            run(&mut sim, op);
        }
        for spec in &sim.revisions {
            prop_assert_eq!(spec.policy_types.as_deref(), Some(&["Egress".to_owned()][..]));
            let rules = spec.egress.as_ref().unwrap();
            prop_assert!(!rules.is_empty());
            for rule in rules {
                prop_assert!(rule.to.as_ref().is_some_and(|to| !to.is_empty()));
                prop_assert!(rule.ports.as_ref().is_some_and(|ports| !ports.is_empty()));
            }
        }
    }

    #[test]
    fn every_allowed_address_was_answered_for_a_host_of_the_present_spec(ops in prop::collection::vec(op(), 1..40)) {
        let mut sim = start();
        let mut answered = std::collections::BTreeSet::new();
        let mut named: Vec<usize> = (0..NAMES.len()).collect();
        for op in &ops {
            match op {
                Op::Answer(n, octets) => {
                    answered.extend(octets.iter().flat_map(|o| [(*n, v4(*o)), (*n, v6(*o))]));
                }
                Op::AnswerOneFamily(n, octets) => answered.extend(octets.iter().map(|o| (*n, v4(*o)))),
                Op::Spec(names) => named.clone_from(names),
                _ => {}
            }
            let writes = sim.revisions.len();
            run(&mut sim, op);
            // Frozen and contested states are exempt; what we write must be justified.
            if sim.revisions.len() > writes {
                for address in sim.allowed() {
                    let why = named.iter().any(|n| answered.contains(&(*n, address.clone())));
                    prop_assert!(why, "{} is not justified", address);
                }
            }
        }
    }

    #[test]
    fn failures_and_restarts_remove_nothing(ops in prop::collection::vec(op(), 1..30), fails in prop::collection::vec((0..3_usize, 1..100_000_u32), 1..30)) {
        let mut sim = start();
        // After a lost book a block stays only until its host has answered, and it may have answered already.
        for op in ops.iter().filter(|op| !matches!(op, Op::LoseBook)) {
            run(&mut sim, op);
        }
        sim.advance(Duration::from_secs(1_300));
        let allowed = sim.allowed();
        for (n, seconds) in fails {
            sim.fail(NAMES[n], LookupFailure::ServFail);
            sim.advance(Duration::from_secs(seconds.into()));
            if seconds % 7 == 0 {
                sim.restart();
            }
            let now = sim.allowed();
            prop_assert!(allowed.is_subset(&now), "{allowed:?} became {now:?}");
        }
    }

    #[test]
    fn what_is_as_wanted_is_not_written_again(ops in prop::collection::vec(op(), 1..30)) {
        let mut sim = start();
        for op in &ops {
            run(&mut sim, op);
        }
        // A short retention has no checkpoints; after the drift back-off everything is at rest.
        sim.advance(Duration::from_secs(1_300));
        let writes = sim.revisions.len();
        sim.restart();
        sim.advance(Duration::from_secs(1_300));
        prop_assert_eq!(sim.revisions.len(), writes);
    }

    #[test]
    fn the_caps_hold_at_every_revision(ops in prop::collection::vec(op(), 1..40)) {
        let mut sim = start();
        for op in &ops {
            run(&mut sim, op);
            prop_assert!(sim.machine.book().len() <= 20);
            for name in NAMES {
                prop_assert!(sim.machine.book().count(&super::sim::host(name)) <= 8);
            }
        }
    }

    #[test]
    fn no_revision_of_ours_allows_a_guarded_address(
        answers in prop::collection::vec((0..3_usize, prop::collection::vec(guarded_or_not(), 1..5), 0..4_000_u32), 1..20),
    ) {
        let mut sim = start();
        for (n, addresses, seconds) in answers {
            let all: Vec<&str> = addresses.iter().map(String::as_str).collect();
            sim.answer(NAMES[n], &all);
            sim.advance(Duration::from_secs(seconds.into()));
            for address in sim.allowed() {
                let verdict = sim.cluster.guard.judge(address.parse().unwrap());
                prop_assert_eq!(verdict, crate::guard::Verdict::Fine, "{}", address);
            }
        }
    }

    #[test]
    fn somebody_elses_object_is_never_touched(ops in prop::collection::vec(op(), 1..40)) {
        let theirs = foreign(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}));
        let mut sim = Sim::with(hosts(&NAMES), Some(theirs.clone()), Settings::default());
        for op in ops.iter().filter(|op| !matches!(op, Op::Widen | Op::Delete | Op::LoseBook)) {
            run(&mut sim, op);
        }
        prop_assert_eq!(sim.stored, Some(theirs));
        prop_assert!(sim.revisions.is_empty());
    }
}
