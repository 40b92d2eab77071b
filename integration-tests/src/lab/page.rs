//! The commands of a page of documentation, and the output that the page shows for
//! them. Pure: `lan::reader` runs them.
//!
//! A block of commands is fenced as `sh`. A word behind it says more: `sh on h2`
//! runs on host 2 instead of host 1, and one command of `sh fails` must end with an
//! error. A block that is fenced as `text` is the output of the commands before it:
//! `…` stands for any text within a line, or alone for any number of lines, and
//! spaces count once. A `diagram` is for the eye alone.

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of the page on which it begins.
    pub line: usize,
    /// The host on which it runs, counted from 1.
    pub host: usize,
    /// Whether a command in it must end with an error; otherwise none may.
    pub fails: bool,
    /// The commands.
    pub commands: String,
    /// The output that the page shows; `None`: the page shows none.
    pub output: Option<String>,
}

/// The blocks of a page, in their order.
///
/// # Errors
/// The line of a block that is neither commands nor their output.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut found: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate().map(|(n, line)| (n + 1, line));
    while let Some((line, start)) = lines.next() {
        let Some(kind) = start.strip_prefix("```") else { continue };
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let text = inside.collect::<Vec<_>>().join("\n");
        let (host, fails) = match kind.split(' ').collect::<Vec<_>>()[..] {
            ["sh"] => (1, false),
            ["sh", "fails"] => (1, true),
            ["sh", "on", host] => {
                let number = host.strip_prefix('h').and_then(|number| number.parse().ok());
                (number.ok_or_else(|| format!("line {line}: {host:?} is not a host such as h2"))?, false)
            }
            // For the eye alone.
            ["diagram"] => continue,
            ["text"] => {
                let before = found.last_mut().filter(|block| block.output.is_none());
                before.ok_or_else(|| format!("line {line}: no commands precede this output"))?.output =
                    Some(text);
                continue;
            }
            _ => return Err(format!("line {line}: a block is `sh` or `text`, not {kind:?}")),
        };
        found.push(Block { line, host, fails, commands: text, output: None });
    }
    Ok(found)
}

/// Whether `printed` is what the page shows.
#[must_use]
pub fn fits(shown: &str, printed: &str) -> bool {
    let lines = |text: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.trim().lines().map(words).collect::<Vec<_>>()
    };
    lines_fit(&lines(shown), &lines(printed))
}

fn lines_fit(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "…" => (0..=printed.len()).any(|n| lines_fit(rest, &printed[n..])),
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| line_fits(line, first) && lines_fit(rest, others)),
    }
}

fn line_fits(shown: &str, printed: &str) -> bool {
    match shown.split_once('…') {
        None => shown == printed,
        Some((start, rest)) => printed.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| line_fits(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_blocks_of_commands_with_their_output() {
        let page = "# A page\n\n```sh\na\nb\n```\nprints\n```text\nc\n```\n\n```sh on h2\nd\n```\n```sh \
                    fails\ne\n```\n";
        let block = |line, host, fails, commands: &str, output: Option<&str>| Block {
            line,
            host,
            fails,
            commands: commands.to_owned(),
            output: output.map(str::to_owned),
        };
        let expected = [
            block(3, 1, false, "a\nb", Some("c")),
            block(12, 2, false, "d", None),
            block(15, 1, true, "e", None),
        ];
        assert_eq!(blocks(page).unwrap(), expected);
        let without_commands = blocks("```text\nc\n```").unwrap_err();
        assert_eq!(without_commands, "line 1: no commands precede this output");
        let unknown = blocks("a\n```toml\nc\n```").unwrap_err();
        assert_eq!(unknown, "line 2: a block is `sh` or `text`, not \"toml\"");
        assert_eq!(blocks("```sh on two\n```").unwrap_err(), "line 1: \"two\" is not a host such as h2");
    }

    #[test]
    fn output_fits_where_only_what_the_page_leaves_open_differs() {
        for (shown, printed) in [
            ("a  b", "a b\n"),
            ("a … c", "a b b c"),
            ("a\n…\nd", "a\nb\nc\nd"),
            ("a\n…\nd", "a\nd"),
            ("…", ""),
            ("since … s ago", "since 3 s ago"),
        ] {
            assert!(fits(shown, printed), "{shown:?} {printed:?}");
        }
        for (shown, printed) in
            [("a", "b"), ("a", "a\nb"), ("a\nb", "a"), ("a … c", "a b"), ("a\n…\nd", "a\nb"), ("", "a")]
        {
            assert!(!fits(shown, printed), "{shown:?} {printed:?}");
        }
    }
}
