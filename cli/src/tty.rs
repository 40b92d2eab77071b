//! This terminal in another mode, for a while.

use std::io::{Stdin, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::Failure;

/// The terminal in another mode, until this is dropped.
pub(crate) struct Mode {
    stdin: Stdin,
    before: Termios,
}

/// The first line of standard input, unseen where that is a terminal, which is asked with `prompt`.
///
/// # Errors
/// It cannot be read.
pub(crate) fn secret_line(prompt: &str) -> Result<String, Failure> {
    let mut line = String::new();
    let silent = Mode::silent();
    if silent.is_some() {
        eprint!("{prompt}");
    }
    let read = stdin().read_line(&mut line);
    if silent.is_some() {
        eprintln!();
    }
    read.map_err(|error| Failure::because("standard input cannot be read", &error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl Mode {
    /// Keys go to the program as they are typed. `None`: standard input is no terminal.
    pub(crate) fn raw() -> Option<Self> {
        Self::change(Termios::make_raw)
    }

    /// What is typed is not shown. `None`: standard input is no terminal.
    pub(crate) fn silent() -> Option<Self> {
        Self::change(|mode| mode.local_modes.remove(LocalModes::ECHO))
    }

    fn change(change: impl FnOnce(&mut Termios)) -> Option<Self> {
        let stdin = stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut after = before.clone();
        change(&mut after);
        // At once: what was typed ahead is for the program, too.
        tcsetattr(&stdin, OptionalActions::Now, &after).ok()?;
        Some(Self { stdin, before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // If this fails, no caller is left to be told.
        _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}
