//! A crash at every operation of a workload, and at every operation of the recovery from one; a sync
//! that fails, at every sync of the workload.

use storage::fs::{CrashPolicy, SimFileSystem};

use crate::plan::Plan;
use crate::support::{START_MICROS, clock_at, open, scaled};

fn policies(seed: u64) -> Vec<CrashPolicy> {
    let random = (0..scaled(6, 90)).map(|coin| CrashPolicy::Random(seed * 100 + coin));
    [CrashPolicy::LoseUnsynced, CrashPolicy::KeepAll].into_iter().chain(random).collect()
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let plan = Plan::record_alterations();
    let mut states = 0;
    for operations in 0..=plan.operations {
        let run = plan.run(operations);
        for policy in policies(operations) {
            let context = format!("crash after {operations} operations, {policy:?}");
            let fs = run.fs.crash(policy);
            let store = plan.judge(&fs, &run, &context);
            plan.assert_goes_on(&fs, store, &context);
            states += 1;
        }
    }
    println!("{states} states of {} operations", plan.operations);
    assert!(states >= scaled(2_000, 20_000), "{states} states of {} operations", plan.operations);
}

#[test]
fn a_crash_during_recovery_loses_nothing_either() {
    let plan = Plan::record_alterations();
    let mut states = 0;
    for operations in (0..=plan.operations).step_by(7) {
        let run = plan.run(operations);
        let image = run.fs.crash(CrashPolicy::Random(operations));
        let context = format!("crash after {operations} operations, Random({operations})");
        let whole = image.fork();
        drop(plan.judge(&whole, &run, &context));
        for stop in 0..=whole.operations() {
            let fs = image.fork();
            fs.stop_after(stop);
            drop(open(&fs, &clock_at(START_MICROS)));
            let random = CrashPolicy::Random(operations * 100 + stop);
            for policy in [CrashPolicy::LoseUnsynced, CrashPolicy::KeepAll, random] {
                let context = format!("{context}, then after {stop} of recovery, {policy:?}");
                let again = fs.crash(policy);
                let store = plan.judge(&again, &run, &context);
                if policy == random {
                    plan.assert_goes_on(&again, store, &context);
                }
                states += 1;
            }
        }
    }
    assert!(states >= 500, "{states} states of {} operations", plan.operations);
}

#[test]
fn no_failed_sync_loses_what_was_acknowledged() {
    let plan = Plan::record_rounds(12);
    let syncs = plan.syncs.min(scaled(60, 200));
    assert!(plan.syncs >= 200, "{} syncs", plan.syncs);
    for sync in 0..syncs {
        let fs = SimFileSystem::default();
        fs.fail_sync_after(sync);
        let run = plan.run_on(fs);
        for policy in policies(sync) {
            let context = format!("sync {sync} fails, then {policy:?}");
            let fs = run.fs.crash(policy);
            let store = plan.judge(&fs, &run, &context);
            plan.assert_goes_on(&fs, store, &context);
        }
    }
}
