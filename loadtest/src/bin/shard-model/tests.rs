//! The smallest configurations: they show in seconds that the model can fail.

use clap::ValueEnum;

use crate::clock::Clock;
use crate::control::{Control, Theorem};
use crate::plan::{Check, Plan};
use crate::run::{Effort, Verdict};

/// Writes commit at once, which saves states where watches are late.
const SHORT: Clock = Clock { lease: 3, request: 0, drift: 1, slack: 1, skew: 3 };

fn small(moves: u8) -> Plan {
    Plan {
        members: 2,
        shards: 1,
        clock: Clock { lease: 4, request: 1, drift: 1, slack: 1, skew: 3 },
        faults: 1,
        moves,
        changes: 4,
        effort: Effort { threads: 2, max_steps: 20_000_000 },
    }
}

#[test]
fn without_a_fence_no_write_commits_while_another_process_holds_the_shard() {
    let run = small(1).check(Check::T2);
    assert_eq!(run.verdict, Verdict::Holds, "{run}\n{}", run.trace.join("\n"));
}

#[test]
fn late_watches_lead_to_no_overlap() {
    let run = Plan { clock: SHORT, ..small(0) }.check(Check::T2LateWatches);
    assert_eq!(run.verdict, Verdict::Holds, "{run}\n{}", run.trace.join("\n"));
}

#[test]
fn with_a_fence_no_stamp_of_the_past_is_admitted() {
    let run = small(1).check(Check::T1);
    assert_eq!(run.verdict, Verdict::Holds, "{run}\n{}", run.trace.join("\n"));
}

#[test]
fn a_lagging_api_server_lets_no_older_holder_overwrite_a_newer_one() {
    let run = small(1).check(Check::T1TwoServers);
    assert_eq!(run.verdict, Verdict::Holds, "{run}\n{}", run.trace.join("\n"));
}

#[test]
fn after_the_last_fault_every_shard_can_find_an_owner() {
    let run = small(1).check(Check::OwnedAgain);
    assert_eq!(run.verdict, Verdict::Holds, "{run}\n{}", run.trace.join("\n"));
}

/// These two need a million states, which takes too long without optimisation; the full run looks for them.
const LONG: [Control; 2] = [Control::LeaseCreatedAgain, Control::NoneOutlivesIncarnation];

#[test]
fn every_protocol_that_lacks_a_rule_is_found_out() {
    for control in Control::value_variants().iter().filter(|control| !LONG.contains(control)) {
        let mut plan = small(1);
        if control.theorem() == Theorem::T2LateWatches {
            plan.clock = SHORT;
        }
        let run = plan.control(*control);
        assert_eq!(run.verdict, Verdict::Caught, "{run}");
        assert!(run.trace.len() > 1, "{run} tells no story: {:?}", run.trace);
    }
}
