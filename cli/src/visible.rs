//! Makes control characters and other invisible ones visible. Text of a container, a registry or a host must
//! not move the cursor, rename the window, type for the user or show its parts in another order.

use std::{borrow::Cow, fmt::Write as _, str};

use shef_common::visible::is_invisible;

/// `text` with its invisible characters made visible: `^[` for escape, `\u202e` for one beyond ASCII. Lines
/// and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    made_visible(text, |c, next| match c {
        '\n' | '\t' => true,
        // Before the end of a line it moves nothing.
        '\r' => matches!(next, None | Some('\n')),
        _ => false,
    })
}

/// `text` as part of one line, such as a cell of a table: where a line or a tab ends is a space.
pub(crate) fn visible_cell(text: &str) -> String {
    made_visible(&text.replace(['\n', '\r', '\t'], " "), |_, _| false).into_owned()
}

fn made_visible(text: &str, stays: impl Fn(char, Option<char>) -> bool) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if !is_invisible(c) || stays(c, chars.peek().copied()) {
            shown.push(c);
        } else if let Some(caret) = u8::try_from(c).ok().filter(u8::is_ascii) {
            shown.extend(['^', char::from(caret ^ 0x40)]);
        } else {
            // Writing to a string cannot fail.
            _ = write!(shown, "\\u{:04x}", u32::from(c));
        }
    }
    Cow::Owned(shown)
}

/// The same of a text that comes in parts, which may break off within a character.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Bytes that cannot be shown before more arrive: part of a character, or a carriage return.
    rest: Vec<u8>,
}

impl Parts {
    /// The text that can be shown once `part` has arrived. Bytes that are no text are shown as replacement
    /// characters.
    pub(crate) fn take(&mut self, part: &[u8]) -> String {
        self.rest.extend_from_slice(part);
        let whole = match self.rest.utf8_chunks().last() {
            Some(last) if is_begun(last.invalid()) => self.rest.len() - last.invalid().len(),
            _ => self.rest.len(),
        };
        let whole = if self.rest[..whole].ends_with(b"\r") { whole - 1 } else { whole };
        let ready: Vec<u8> = self.rest.drain(..whole).collect();
        visible(&String::from_utf8_lossy(&ready)).into_owned()
    }

    /// The rest, at the end of the text.
    pub(crate) fn end(&mut self) -> String {
        visible(&String::from_utf8_lossy(&std::mem::take(&mut self.rest))).into_owned()
    }
}

/// Whether these bytes are the beginning of a character.
fn is_begun(bytes: &[u8]) -> bool {
    !bytes.is_empty() && str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears the screen, sets the window's title, asks the terminal to type, and moves on in 8-bit controls.
    const EVIL: &str = "a\x1b[2Jb\x1b]0;t\x07c\u{9b}6nd\x7f\x08e\rf";
    const SHOWN: &str = "a^[[2Jb^[]0;t^Gc\\u009b6nd^?^He^Mf";

    #[test]
    fn invisible_characters_are_shown_and_lines_tabs_and_every_script_stay() {
        assert_eq!(visible(EVIL), SHOWN);
        let plain = "ü 日本 🚢\tend\r\nnext\n";
        assert_eq!(visible(plain), plain);
        assert_eq!(visible("web\u{202e}x\u{200b}"), "web\\u202ex\\u200b");
        assert_eq!(visible_cell("two\nlines\t\x1b"), "two lines ^[");
    }

    #[test]
    fn what_comes_in_parts_is_shown_as_the_whole() {
        let text = format!("{EVIL}ü日🚢\r\n\u{9d}x\r\n");
        for size in 1..8 {
            let mut parts = Parts::default();
            let mut shown: String = text.as_bytes().chunks(size).map(|part| parts.take(part)).collect();
            shown.push_str(&parts.end());
            assert_eq!(shown, visible(&text), "in parts of {size}");
        }
        let mut parts = Parts::default();
        assert_eq!(
            parts.take(b"\x9b2J\xff\xc3") + &parts.take(b"\xbc\xc2") + &parts.end(),
            "\u{fffd}2J\u{fffd}ü\u{fffd}"
        );
    }
}
