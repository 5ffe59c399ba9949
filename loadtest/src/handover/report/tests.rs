//! What a run must show, with a report that does, changed in one thing.

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// A run of 200 faults that showed everything.
fn good() -> Report {
    let flags = ["handover", "--handovers", "200", "--lease-duration-seconds", "15"];
    let mut report = Report::new(&Arguments::parse_from(flags).options);
    report.faults = [("kill", 30), ("terminate", 33), ("edit-table", 2), ("delete-table", 1)].into();
    (report.judged, report.judged_statuses, report.audited) = (70_335, 60_371, 70_289);
    (report.takeovers, report.handovers) = (vec![14.4], vec![0.4]);
    report.moves = vec![(64, 64); 63];
    report.fullest = 1.004;
    report
}

#[track_caller]
fn fails(change: impl FnOnce(&mut Report)) {
    let mut report = good();
    report.check().expect("a good run");
    change(&mut report);
    assert!(report.check().is_err(), "{report:?}");
}

#[test]
fn times_that_nobody_measured_are_not_within_their_limit() {
    fails(|report| report.takeovers.clear());
    fails(|report| report.handovers.clear());
    fails(|report| report.moves.clear());
}

#[test]
fn a_run_with_short_leases_must_have_told_some_times() {
    fails(|report| {
        report.lease = 5.0;
        report.handovers.clear();
    });
}

#[test]
fn a_judge_that_was_blind_for_a_moment_proves_nothing() {
    fails(|report| report.unseen = vec![17]);
    fails(|report| report.gaps = vec!["NetworkPolicies since 17".to_owned()]);
    fails(|report| report.judged_statuses = 0);
}

#[test]
fn deletes_and_statuses_of_others_fail_the_run() {
    fails(|report| report.stale_others = vec!["status of team-0000/policy-0@17".to_owned()]);
}

#[test]
fn hand_edits_excuse_only_so_many_writes() {
    fails(|report| report.overlaps = 61);
    fails(|report| report.strangers_after_edit = 61);
}

#[test]
fn shards_that_move_for_nothing_and_uneven_shares_fail_the_run() {
    fails(|report| report.moves[0] = (65, 64));
    fails(|report| report.fullest = 1.06);
}

#[test]
fn a_control_run_needs_stale_writes_and_strangers() {
    let mut report = good();
    report.fenced = false;
    report.stale = vec!["team-0000/egress-policy-0@17".to_owned()];
    assert!(report.check().is_err());
    report.by_strangers = report.stale.clone();
    report.check().expect("stale writes, by strangers");
}
