//! `SHEF_FUZZ=<parser> cargo fuzz run --features libfuzzer strangers`: see CONTRIBUTING.md.
#![no_main]

use std::sync::LazyLock;

use shef_fuzz::{PARSERS, Parser};

static PARSER: LazyLock<&Parser> = LazyLock::new(|| {
    let names: Vec<&str> = PARSERS.iter().map(|parser| parser.name).collect();
    let wanted = std::env::var("SHEF_FUZZ").unwrap_or_default();
    PARSERS
        .iter()
        .find(|parser| parser.name == wanted)
        .unwrap_or_else(|| panic!("SHEF_FUZZ is {wanted:?}, but must be one of {}", names.join(", ")))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (PARSER.reads)(bytes));
