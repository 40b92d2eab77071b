//! Makes whole lines of what the engine sends. Pure.

use shef_common::logs::{LogLine, LogTime, MAX_LINE_BYTES, Output};

use super::LogPiece;

/// Puts lines together that the engine keeps in parts, and drops what is older than asked for.
#[derive(Debug, Default)]
pub struct Lines {
    since: Option<LogTime>,
    /// How many lines are left out, from the first on.
    skip: u64,
    /// The beginnings of lines whose ends have not come, by output.
    begun: [Option<Begun>; 2],
}

#[derive(Debug)]
struct Begun {
    time: LogTime,
    text: Vec<u8>,
}

impl Lines {
    /// Lines not older than `since`.
    #[must_use]
    pub fn since(since: Option<LogTime>) -> Self {
        Self { since, ..Self::default() }
    }

    /// Leaves out the first `skip` lines.
    #[must_use]
    pub const fn skipping(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Takes one piece; the lines that are whole with it.
    pub fn take(&mut self, piece: &LogPiece) -> Vec<LogLine> {
        let (time, mut rest) = timed(&piece.bytes);
        let mut whole = Vec::new();
        while !rest.is_empty() {
            let slot = &mut self.begun[index(piece.stream)];
            // A line without a time has that of the line before, or else the oldest possible one.
            let begun =
                slot.get_or_insert_with(|| Begun { time: time.unwrap_or_default(), text: Vec::new() });
            let room = MAX_LINE_BYTES - begun.text.len();
            let end = rest.iter().take(room).position(|c| *c == b'\n');
            let taken = end.unwrap_or(room.min(rest.len()));
            begun.text.extend_from_slice(&rest[..taken]);
            rest = &rest[taken + usize::from(end.is_some())..];
            if end.is_some() || begun.text.len() == MAX_LINE_BYTES {
                let line = self.finish(piece.stream);
                whole.extend(line.filter(|_| self.skip == 0));
            }
            if end.is_some() {
                self.skip = self.skip.saturating_sub(1);
            }
        }
        whole
    }

    /// The lines that never ended.
    pub fn end(&mut self) -> Vec<LogLine> {
        [Output::Stdout, Output::Stderr].into_iter().filter_map(|stream| self.finish(stream)).collect()
    }

    fn finish(&mut self, stream: Output) -> Option<LogLine> {
        let begun = self.begun[index(stream)].take()?;
        let text = begun.text.strip_suffix(b"\r").unwrap_or(&begun.text);
        let line = LogLine { stream, time: begun.time, line: String::from_utf8_lossy(text).into_owned() };
        self.since.is_none_or(|since| line.time >= since).then_some(line)
    }
}

const fn index(stream: Output) -> usize {
    match stream {
        Output::Stdout => 0,
        Output::Stderr => 1,
    }
}

/// Takes the time off that the engine has put before an entry.
fn timed(bytes: &[u8]) -> (Option<LogTime>, &[u8]) {
    let time = bytes.iter().take(40).position(|c| *c == b' ').and_then(|space| {
        let text = std::str::from_utf8(&bytes[..space]).ok()?;
        Some((LogTime::parse(text).ok()?, &bytes[space + 1..]))
    });
    time.map_or((None, bytes), |(time, rest)| (Some(time), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: Output, text: &str) -> LogPiece {
        LogPiece { stream, bytes: text.to_owned().into() }
    }

    fn texts(lines: &[LogLine]) -> Vec<(Output, &str)> {
        lines.iter().map(|line| (line.stream, line.line.as_str())).collect()
    }

    #[test]
    fn a_line_in_parts_becomes_one_and_the_outputs_stay_apart() {
        use Output::{Stderr, Stdout};
        let mut lines = Lines::default();
        assert_eq!(lines.take(&piece(Stdout, "2026-01-31T09:30:00.000000001Z one, ")), []);
        let other = lines.take(&piece(Stderr, "2026-01-31T09:30:00.000000002Z oops\r\n"));
        assert_eq!(texts(&other), [(Stderr, "oops")]);
        let whole = lines.take(&piece(Stdout, "2026-01-31T09:30:00.000000003Z still one\n"));
        assert_eq!(texts(&whole), [(Stdout, "one, still one")]);
        assert_eq!(whole[0].time.to_string(), "2026-01-31T09:30:00.000000001Z");
        let _ = lines.take(&piece(Stdout, "2026-01-31T09:30:01Z no end"));
        assert_eq!(texts(&lines.end()), [(Stdout, "no end")]);
        assert_eq!(lines.end(), []);
    }

    #[test]
    fn empty_lines_are_lines_and_what_is_not_text_is_replaced() {
        let mut lines = Lines::default();
        assert_eq!(
            texts(&lines.take(&piece(Output::Stdout, "2026-01-31T09:30:00Z \n"))),
            [(Output::Stdout, "")]
        );
        let bytes = bytes::Bytes::from_static(b"2026-01-31T09:30:00Z \xff\n");
        assert_eq!(lines.take(&LogPiece { stream: Output::Stdout, bytes })[0].line, "\u{fffd}");
    }

    #[test]
    fn lines_that_are_skipped_are_skipped_whole() {
        let mut lines = Lines::default().skipping(1);
        assert_eq!(
            lines.take(&piece(Output::Stdout, "2026-01-31T09:30:00Z the end of a line that was cut, ")),
            []
        );
        assert_eq!(lines.take(&piece(Output::Stdout, "2026-01-31T09:30:01Z still that line\n")), []);
        assert_eq!(
            texts(&lines.take(&piece(Output::Stdout, "2026-01-31T09:30:02Z whole\n"))),
            [(Output::Stdout, "whole")]
        );
        // A long line that comes in parts is one line.
        let mut lines = Lines::default().skipping(1);
        assert_eq!(
            lines.take(&piece(
                Output::Stdout,
                &format!("2026-01-31T09:30:00Z {}\n", "x".repeat(2 * MAX_LINE_BYTES))
            )),
            []
        );
        assert_eq!(
            texts(&lines.take(&piece(Output::Stdout, "2026-01-31T09:30:02Z whole\n"))),
            [(Output::Stdout, "whole")]
        );
    }

    #[test]
    fn nothing_older_than_asked_for_is_shown() {
        let mut lines = Lines::since(LogTime::parse("2026-01-31T09:30:00.5Z").ok());
        assert_eq!(lines.take(&piece(Output::Stdout, "2026-01-31T09:30:00.499Z old\n")), []);
        assert_eq!(lines.take(&piece(Output::Stdout, "2026-01-31T09:30:00.5Z new\n")).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_and_no_line_is_longer_than_the_bound(
            parts in proptest::collection::vec((0..40_000_usize, proptest::bool::ANY), 1..12),
        ) {
            let mut lines = Lines::default();
            let (mut shown, mut written) = (Vec::new(), 0);
            for (length, ends) in &parts {
                written += length;
                let end = if *ends { "\n" } else { "" };
                let text = format!("2026-01-31T09:30:00Z {}{end}", "x".repeat(*length));
                shown.extend(lines.take(&piece(Output::Stdout, &text)));
            }
            shown.extend(lines.end());
            proptest::prop_assert!(shown.iter().all(|line| line.line.len() <= MAX_LINE_BYTES));
            proptest::prop_assert_eq!(shown.iter().map(|line| line.line.len()).sum::<usize>(), written);
        }
    }
}
