//! Env files, by the rules that Docker and Compose share, and by Compose's where
//! Docker has none (quotes, comments behind values). Pure.
//!
//! A line is `KEY=VALUE`, or `KEY` alone, which takes the client's own value and
//! is left out if there is none. Blank lines and lines that begin with `#` say
//! nothing; `export ` in front is allowed. A value without quotes ends at the
//! line's end or before ` #`. Within `'…'` everything is as it stands; within
//! `"…"` there are `\n`, `\r`, `\t`, `\"`, `\\` and `\$`. Both may go over several
//! lines. `$` is a character like any other: nothing is put in its place. What
//! comes later wins.

use std::collections::BTreeMap;

/// What is wrong with an env file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct EnvFileError {
    /// Where, counted from 1.
    line: usize,
    /// Why the line is no variable.
    why: InvalidVariable,
}

/// Why a variable cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVariable {
    /// Its name.
    #[error("must be KEY=VALUE or KEY, KEY without spaces and quotes, but KEY is {0:?}")]
    Key(String),
    /// A quote is opened and not closed.
    #[error("the value of {key} begins with {quote} and does not end with it")]
    NotClosed {
        /// The variable.
        key: String,
        /// The quote that opens.
        quote: char,
    },
    /// More than a comment stands behind the value.
    #[error("behind the closing {quote} of {key} must be nothing but a comment, but there is {behind:?}")]
    BehindQuote {
        /// The variable.
        key: String,
        /// The quote that closes.
        quote: char,
        /// What stands there.
        behind: String,
    },
    /// A variable of a process ends there.
    #[error("the value of {0} holds a zero byte")]
    ZeroByte(String),
}

/// Reads the text of an env file; `own` is the client's environment.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(
    text: &str,
    own: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, EnvFileError> {
    let mut found = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split('\n').enumerate();
    while let Some((index, line)) = lines.next() {
        let fail = |why| EnvFileError { line: index + 1, why };
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (line.trim_end(), None),
        };
        check_key(key).map_err(fail)?;
        let key = key.to_owned();
        let Some(value) = value else {
            if let Some(value) = own(&key) {
                found.insert(key, value);
            }
            continue;
        };
        let begun = value.trim_start();
        let value = match begun.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let mut rest = begun[1..].to_owned();
                let (value, behind) = loop {
                    if let Some(parts) = unquoted(&rest, quote) {
                        break parts;
                    }
                    let Some((_, next)) = lines.next() else {
                        return Err(fail(InvalidVariable::NotClosed { key: shown(&key), quote }));
                    };
                    rest = format!("{rest}\n{}", next.strip_suffix('\r').unwrap_or(next));
                };
                if !(behind.is_empty() || behind.starts_with('#')) {
                    let (key, behind) = (shown(&key), shown(&behind));
                    return Err(fail(InvalidVariable::BehindQuote { key, quote, behind }));
                }
                value
            }
            // A value that is nothing but a comment is empty.
            Some('#') if begun.len() < value.len() => String::new(),
            Some(_) | None => plain(begun).to_owned(),
        };
        if value.contains('\0') {
            return Err(fail(InvalidVariable::ZeroByte(shown(&key))));
        }
        found.insert(key, value);
    }
    Ok(found)
}

/// As much of `text` as is shown.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether `key` can name a variable.
///
/// # Errors
/// [`InvalidVariable::Key`].
pub(crate) fn check_key(key: &str) -> Result<(), InvalidVariable> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '=' | '"' | '\'' | '#');
    if key.is_empty() || key.contains(odd) {
        return Err(InvalidVariable::Key(shown(key)));
    }
    Ok(())
}

/// A value without quotes, up to a comment behind it.
fn plain(value: &str) -> &str {
    let comment =
        value.char_indices().zip(value.chars().skip(1)).find(|&((_, a), b)| a.is_whitespace() && b == '#');
    comment.map_or(value, |((at, _), _)| &value[..at]).trim_end()
}

/// The value before the closing quote, and the text behind the quote; `None`: there is no closing quote.
fn unquoted(text: &str, quote: char) -> Option<(String, String)> {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            _ if c == quote => return Some((value, rest.as_str().trim().to_owned())),
            '\\' if quote == '"' => match rest.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own(key: &str) -> Option<String> {
        (key == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn each_line_is_read_as_compose_reads_it() {
        for (text, wanted) in [
            ("A=1", Some(("A", "1"))),
            ("  A=1  ", Some(("A", "1"))),
            ("A=1\r", Some(("A", "1"))),
            ("\u{feff}A=1", Some(("A", "1"))),
            ("A=", Some(("A", ""))),
            ("A=b=c", Some(("A", "b=c"))),
            ("A= b", Some(("A", "b"))),
            ("export A=1", Some(("A", "1"))),
            ("A.b-c_1=x", Some(("A.b-c_1", "x"))),
            ("A=two words", Some(("A", "two words"))),
            ("A=b # why", Some(("A", "b"))),
            ("A=b\t# why", Some(("A", "b"))),
            ("A=b#c", Some(("A", "b#c"))),
            ("A=#b", Some(("A", "#b"))),
            ("A= # why", Some(("A", ""))),
            ("A=$B ${C}", Some(("A", "$B ${C}"))),
            ("A=it's", Some(("A", "it's"))),
            ("A=\"\"", Some(("A", ""))),
            ("A=\" b \" # why", Some(("A", " b "))),
            ("A=\"b # c\"", Some(("A", "b # c"))),
            (r#"A="\"b\" \\ \n\t\$x \d""#, Some(("A", "\"b\" \\ \n\t$x \\d"))),
            (r"A='\n \' ", Some(("A", r"\n \"))),
            ("A='one\r\ntwo'", Some(("A", "one\ntwo"))),
            ("A=\" one \n#two\n\"", Some(("A", " one \n#two\n"))),
            ("HOME \r", Some(("HOME", "/root"))),
            ("HOME=", Some(("HOME", ""))),
            ("NOT_SET", None),
            ("# A=1", None),
            ("   ", None),
            ("", None),
            ("A=1\nA=2", Some(("A", "2"))),
        ] {
            let wanted: BTreeMap<_, _> =
                wanted.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(parse(text, own), Ok(wanted), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, word) in [
            ("A=1\n=b", 2, "KEY is \"\""),
            ("A B=c", 1, "KEY is \"A B\""),
            ("A =c", 1, "KEY is \"A \""),
            ("\n\nA: b", 3, "KEY is \"A: b\""),
            ("A=\"b", 1, "the value of A begins with \" and does not end with it"),
            ("A=1\nB='b\nC=d", 2, "the value of B begins with '"),
            ("A=\"b\\\"", 1, "the value of A"),
            ("A=\"b\"c", 1, "there is \"c\""),
            ("A=b\0c", 1, "zero byte"),
        ] {
            let error = parse(text, own).unwrap_err();
            assert!(error.line == line && error.to_string().contains(word), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_within_double_quotes(value in "[^\0\r]*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let read = parse(&format!("A=1\nB=\"{escaped}\"\nC=3"), own).unwrap();
            prop_assert_eq!(read.get("B"), Some(&value));
            prop_assert_eq!(read.len(), 3);
        }

        #[test]
        fn no_text_makes_it_fail_otherwise_than_in_words(text in any::<String>()) {
            if let Ok(found) = parse(&text, own) {
                prop_assert!(found.keys().all(|key| check_key(key).is_ok()));
            }
        }
    }
}
