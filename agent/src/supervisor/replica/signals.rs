//! Signals by number, as engines tell of them, and by name, as specs write them. The numbers are those of
//! Linux.

/// Asks a program to end; the stop signal of an image that names no other.
const TERM: u8 = 15;
/// Ends any program.
const KILL: u8 = 9;
/// The first of the real-time signals, as C libraries count them.
const RTMIN: u8 = 34;
/// The last of the real-time signals.
const RTMAX: u8 = 64;

/// Signals that ask a program for something else than its end.
const HARMLESS: [u8; 11] = [1, 10, 12, 17, 18, 19, 20, 21, 22, 23, 28];

const NAMES: [(u8, &str); 34] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (6, "IOT"),
    (7, "BUS"),
    (8, "FPE"),
    (KILL, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (TERM, "TERM"),
    (16, "STKFLT"),
    (17, "CHLD"),
    (17, "CLD"),
    (18, "CONT"),
    (19, "STOP"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (28, "WINCH"),
    (29, "IO"),
    (29, "POLL"),
    (30, "PWR"),
    (31, "SYS"),
];

/// The number of a signal that a spec names: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
fn number_of(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let offset = |sign: &str| name.strip_prefix(sign).and_then(|offset| offset.parse::<u8>().ok());
    match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => offset("RTMIN+")
            .and_then(|offset| RTMIN.checked_add(offset))
            .or_else(|| offset("RTMAX-").and_then(|offset| RTMAX.checked_sub(offset)))
            .or_else(|| NAMES.iter().find(|(_, other)| *other == name).map(|(number, _)| *number)),
    }
}

/// Whether `signal` tells a program to end that is stopped with `stop_signal`; empty: the spec names none.
pub(super) fn is_stop(signal: u8, stop_signal: &str) -> bool {
    matches!(signal, TERM | KILL) || number_of(stop_signal) == Some(signal)
}

/// Whether a process may end because of `signal`: of any but the harmless ones and the one that its spec
/// names.
pub(super) fn may_end(signal: u8, stop_signal: &str) -> bool {
    is_stop(signal, stop_signal) || !HARMLESS.contains(&signal)
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn a_signal_of_a_spec_has_the_number_that_the_engine_tells_of() {
        let numbers =
            ["SIGTERM", "QUIT", "28", "SIGWINCH", "SIGRTMIN+3", "RTMAX-2", "RTMIN", ""].map(number_of);
        assert_eq!(numbers, [Some(15), Some(3), Some(28), Some(28), Some(37), Some(62), Some(34), None]);
    }
}
