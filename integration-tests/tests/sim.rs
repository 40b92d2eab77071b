//! The simulator's seeds, by profile.

use shef_integration_tests::sim::{Profile, check_seeds};

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
