//! The command line as a person types it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Output, Stdio},
};

use rustix::{
    io::ioctl_fionbio,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;
use shef_integration_tests::lab::{
    shef::{HostLab, binary},
    wait::until,
};

/// Runs `shef` with `words`, and with `input` as what is typed.
pub async fn shef(site: &HostLab, words: &[&str], input: &str) -> Output {
    let mut shef = Command::new(binary());
    let (verb, rest) = words.split_first().unwrap();
    shef.arg(verb).args(["--api", &site.master.api.url]).args(rest);
    let mut child = shef.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

/// What was written, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it says where it succeeds.
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// What it says where it refuses.
pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text(&output.stderr)
}

/// The JSON that it prints.
pub fn json_of(output: &Output) -> Value {
    serde_json::from_str(&said(output)).unwrap()
}

/// A terminal with `shef` in it: what is typed goes in, what is shown comes out.
pub struct Terminal {
    screen: File,
    /// The end at which the program sits: its mode and its size.
    pub line: OwnedFd,
    /// The program.
    pub child: Child,
    /// What was shown and not waited for yet, and all of it.
    shown: Vec<u8>,
    all: Vec<u8>,
}

impl Terminal {
    /// Runs `shef` with `words` in a new terminal of this size, which is its controlling one.
    pub fn open(site: &HostLab, words: &[&str], size: (u16, u16)) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        // What is shown is read as far as it has come.
        ioctl_fionbio(&screen, true).unwrap();
        let line = ioctl_tiocgptpeer(&screen, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(binary())
            .arg(words[0])
            .args(["--api", &site.master.api.url])
            .args(&words[1..]);
        set_size(&line, size);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { screen: File::from(screen), line, child, shown: Vec::new(), all: Vec::new() }
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the window another size.
    pub fn resize(&self, size: (u16, u16)) {
        set_size(&self.line, size);
    }

    /// How the line treats what is typed.
    pub fn mode(&self) -> LocalModes {
        tcgetattr(&self.line).unwrap().local_modes
    }

    /// Waits until `words` are shown behind what was waited for before.
    pub async fn shows(&mut self, words: &str) {
        let Self { screen, shown, all, .. } = self;
        until(&format!("the terminal shows {words:?}"), async || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut part) {
                shown.extend_from_slice(&part[..length]);
                all.extend_from_slice(&part[..length]);
            }
            let at = shown.windows(words.len()).position(|part| part == words.as_bytes())?;
            shown.drain(..at + words.len());
            Some(())
        })
        .await;
    }

    /// Whether `words` were ever shown, up to what was waited for.
    pub fn has_shown(&self, words: &str) -> bool {
        text(&self.all).contains(words)
    }

    /// Waits until the program has ended, and brings its code.
    pub async fn ends(&mut self) -> Option<i32> {
        let child = &mut self.child;
        until("the program ends", async || child.try_wait().unwrap()).await.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // With the terminal goes whatever still runs in it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(line: &OwnedFd, (rows, cols): (u16, u16)) {
    tcsetwinsize(line, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
