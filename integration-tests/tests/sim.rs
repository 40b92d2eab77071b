//! The simulator's seeds, by profile.

use shef_integration_tests::sim::{Plant, Profile, check_seeds, find};

/// How many seeds of each profile are part of every test run.
const SEEDS: u64 = 30;

macro_rules! profiles {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            check_seeds(&Profile::$name(), 0..SEEDS);
        }
    )*};
}

profiles!(calm, messages, crashes, hosts, engines, store, store_loss, emptied, everything);

/// How many seeds may be needed to find a planted bug.
const SEEDS_TO_FIND: u64 = 200;

macro_rules! planted {
    ($($name:ident: $plant:ident by $profile:ident),* $(,)?) => {
        mod planted {
            use super::*;
            $(
                #[test]
                fn $name() {
                    let found = find(Plant::$plant, &Profile::$profile(), 0..SEEDS_TO_FIND);
                    println!("{found:?}");
                    assert!(found.is_some(), "{SEEDS_TO_FIND} seeds do not find it");
                }
            )*
        }
    };
}

planted! {
    removes_the_first: RemovesTheFirst by calm,
    deletes_on_absence: DeletesOnAbsence by crashes,
    skips_import: SkipsImport by emptied,
    migrates_again: MigratesAgain by hosts,
    retries_at_once: RetriesAtOnce by engines,
    orders_before_commit: OrdersBeforeCommit by store,
    writes_unchecked: WritesUnchecked by store,
    one_lost_report: OneLostReport by messages,
    deleted_while_held: DeletedWhileHeld by calm,
    acknowledges_early: AcknowledgesEarly by store,
    accepts_stale_fence: AcceptsStaleFence by crashes,
    wrong_base: WrongBase by messages,
    forgets_ledger: ForgetsLedger by crashes,
    removes_original_first: RemovesOriginalFirst by calm,
}
