//! This terminal in another mode, for a while.

use std::io::{Stdin, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal in another mode, until this is dropped.
pub(crate) struct Mode {
    stdin: Stdin,
    before: Termios,
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
        // If this fails there is nobody left to tell.
        _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}
