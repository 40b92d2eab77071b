//! What a command prints. Most of it contains text from elsewhere, so all of it goes through here: control
//! characters are made visible on a terminal. A file or a pipe gets every byte as it is.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::visible::{Parts, visible};

/// Whether a terminal, too, gets what is printed as it is.
static RAW: AtomicBool = AtomicBool::new(false);

/// Prints to a terminal what is to be printed as it is, whatever it has the terminal do.
pub(crate) fn raw() {
    RAW.store(true, Relaxed);
}

/// Whether what is printed to `stream` is as it is.
fn is_raw(stream: &impl IsTerminal) -> bool {
    RAW.load(Relaxed) || !stream.is_terminal()
}

/// One step, as one short line. A closed terminal is no reason to fail.
pub(crate) fn step(text: impl std::fmt::Display) {
    line(format_args!("==> {text}"));
}

/// One plain line.
pub(crate) fn line(text: impl std::fmt::Display) {
    _ = print(&mut io::stdout(), text);
}

/// Writes one plain line. Returns whether standard output is still read.
pub(crate) fn try_line(text: impl std::fmt::Display) -> bool {
    let mut out = io::stdout().lock();
    print(&mut out, text).and_then(|()| out.flush()).is_ok()
}

/// One line beside what is printed, on standard error.
pub(crate) fn note(text: impl std::fmt::Display) {
    _ = print(&mut io::stderr(), text);
}

fn print(stream: &mut (impl Write + IsTerminal), text: impl std::fmt::Display) -> io::Result<()> {
    if is_raw(stream) {
        return writeln!(stream, "{text}");
    }
    let text = text.to_string();
    writeln!(stream, "{}", visible(&text))
}

/// A stream that is printed as it comes, part by part.
pub(crate) struct Printer<S> {
    stream: S,
    parts: Option<Parts>,
}

impl<S: Write + IsTerminal> Printer<S> {
    /// Prints to `stream`.
    pub(crate) fn new(stream: S) -> Self {
        let parts = (!is_raw(&stream)).then(Parts::default);
        Self { stream, parts }
    }

    /// Prints every byte as it is, to a terminal, too: a command's own terminal speaks to this one.
    pub(crate) const fn raw(stream: S) -> Self {
        Self { stream, parts: None }
    }

    /// Prints the next part.
    ///
    /// # Errors
    /// The operating system's own.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.parts {
            None => self.stream.write_all(bytes),
            Some(parts) => self.stream.write_all(parts.take(bytes).as_bytes()),
        }?;
        self.stream.flush()
    }

    /// Prints what is left when nothing more comes.
    ///
    /// # Errors
    /// The operating system's own.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let rest = self.parts.as_mut().map_or_else(String::new, Parts::end);
        self.stream.write_all(rest.as_bytes()).and_then(|()| self.stream.flush())
    }
}
