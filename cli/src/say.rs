//! What a command prints at the terminal while it works.

use std::io::Write as _;

/// One step, as one short line. A closed terminal is no reason to fail.
pub(crate) fn step(text: impl std::fmt::Display) {
    line(format_args!("==> {text}"));
}

/// One plain line.
pub(crate) fn line(text: impl std::fmt::Display) {
    _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes one plain line. Returns whether standard output is still read.
pub(crate) fn try_line(text: impl std::fmt::Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}
