//! Characters that a terminal does not show, or that change how it shows others.

use std::cmp::Ordering;

/// The characters of the categories Cf, Zl and Zp (`DerivedGeneralCategory.txt` of Unicode 16), without the
/// prepended marks such as U+0600, which are seen. U+202E, for example, turns the order of a line around.
const UNSEEN: [(char, char); 14] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Whether a terminal obeys `c`, or shows nothing for it.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    let beside = |&(first, last): &(char, char)| match (last < c, first > c) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        (false, false) => Ordering::Equal,
    };
    c.is_control() || UNSEEN.binary_search_by(beside).is_ok()
}

/// `text` with its invisible characters as in Rust: `\n`, `\u{202e}`.
pub fn escaped(text: impl IntoIterator<Item = char>) -> String {
    let mut shown = String::new();
    for c in text {
        if is_invisible(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_hides_or_ends_a_line_is_escaped_and_every_script_stays() {
        assert!(UNSEEN.windows(2).all(|pair| pair[0].1 < pair[1].0), "it is searched in order");
        let ranges = [
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{2064}',
            '\u{2066}'..='\u{2069}',
            '\u{feff}'..='\u{feff}',
        ];
        for c in ranges.into_iter().flatten().chain(['\u{1b}', '\u{9b}', '\n', '\u{ad}', '\u{e0041}']) {
            assert!(is_invisible(c), "{c:?}");
        }
        let plain = "aü日本 ไทย हिन्दी العربية \u{600} é🚢\u{fe0f}";
        assert_eq!(escaped(plain.chars()), plain);
        assert_eq!(escaped("a\n\u{202e}b\u{200b}".chars()), "a\\n\\u{202e}b\\u{200b}");
    }
}
