//! Every parser that sees a stranger's bytes, with what has to hold whatever these are: it does not panic,
//! says no more than so many bytes, and understands what it would write itself.

mod parsers;
pub mod samples;

pub use parsers::PARSERS;

/// The most bytes that may be said of what is wrong, whatever it is.
const MOST_SAID: usize = 64 * 1024;

/// One parser.
#[derive(Debug)]
pub struct Parser {
    /// As `SHEF_FUZZ` names it.
    pub name: &'static str,
    /// Reads any bytes.
    ///
    /// # Panics
    /// If something does not hold.
    pub reads: fn(&[u8]),
    /// What it understands.
    pub samples: fn() -> Vec<Vec<u8>>,
}

/// What is said of input that is wrong.
fn is_short(said: &str) {
    assert!(said.len() <= MOST_SAID, "{} bytes are said of what is wrong", said.len());
}
