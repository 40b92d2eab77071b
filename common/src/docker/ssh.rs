//! An engine behind `ssh://`: the system's `ssh` runs `docker system dial-stdio` on the other host, as the
//! docker command does.
//!
//! Keys, known hosts and every other setting are those of the user's `ssh`. It never asks for a password,
//! because an agent has no terminal to type one.

use std::{
    fmt, io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use super::{host_and_port, is_host_name};

/// How long ssh may take to connect, in seconds; the docker command's own limit.
const CONNECT_LIMIT_S: u32 = 30;
/// The most bytes of what ssh prints that are shown.
const MAX_COMPLAINT_BYTES: u64 = 2_000;

/// Whom ssh is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SshTarget {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket on the other host, where it is not the usual one.
    socket: Option<String>,
}

impl SshTarget {
    /// Reads `[USER@]HOST[:PORT][/PATH]`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (authority, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(": a password cannot be given, use a key"),
            Some((user, host)) if is_host_name(user) => (Some(user.to_owned()), host),
            Some(_) => return Err(": the user's name has characters that no user's name has"),
            None => (None, authority),
        };
        let (name, port) = host_and_port(host, 0).ok_or("")?;
        // The other host's shell reads the path.
        if !path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_')) {
            return Err(": the socket's path may hold letters, digits and / . - _ only");
        }
        let socket = Some(path).filter(|path| path.len() > 1).map(str::to_owned);
        Ok(Self { user, host: name, port: (port > 0).then_some(port), socket })
    }

    /// The arguments of ssh.
    fn arguments(&self) -> Vec<String> {
        let mut words = vec![
            "-o".to_owned(),
            format!("ConnectTimeout={CONNECT_LIMIT_S}"),
            "-o".to_owned(),
            "BatchMode=yes".to_owned(),
        ];
        words.push("-T".to_owned());
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.extend(["--".to_owned(), self.host.trim_matches(['[', ']']).to_owned(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            words.extend(["--host".to_owned(), format!("unix://{socket}")]);
        }
        words.extend(["system", "dial-stdio"].map(str::to_owned));
        words
    }

    /// A stream to the engine. Whether it gets there is seen when it is read.
    pub(super) fn dial(&self) -> io::Result<SshStream> {
        let mut child = Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Signals of the terminal, such as Ctrl-C, are meant for this process and not for ssh.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("the program ssh cannot be run: {error}"))
            })?;
        let missing = || io::Error::other("ssh was started without its pipes");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        let complaint = tokio::spawn(async move {
            let mut first = Vec::new();
            let _ = (&mut stderr).take(MAX_COMPLAINT_BYTES).read_to_end(&mut first).await;
            // Whatever else is written has to go somewhere, or ssh waits.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&first).trim().replace('\n', "; ")
        });
        let complained = None;
        Ok(SshStream { stdin: Some(stdin), stdout, complaint, complained, answered: false, _child: child })
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

/// A connection through ssh. ssh ends with it.
pub(super) struct SshStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    complaint: JoinHandle<String>,
    complained: Option<String>,
    answered: bool,
    _child: Child,
}

impl SshStream {
    /// ssh ended before the engine said anything: it says itself why.
    fn poll_complaint(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.complained.is_none() {
            self.complained = Some(ready!(Pin::new(&mut self.complaint).poll(cx)).unwrap_or_default());
        }
        let said = self.complained.as_deref().filter(|said| !said.is_empty());
        let said = said.unwrap_or("it ended without a word");
        Poll::Ready(io::Error::other(format!("ssh does not reach the engine: {said}")))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stdout).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.answered = true;
        } else if !this.answered {
            return this.poll_complaint(cx).map(Err);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(stdin) = &mut this.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match ready!(Pin::new(stdin).poll_write(cx, buf)) {
            // It may be gone before it was asked anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !this.answered => {
                this.poll_complaint(cx).map(Err)
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(stdin) = &mut this.stdin {
            ready!(Pin::new(stdin).poll_shutdown(cx))?;
        }
        // A pipe ends when it is closed, and the engine sees the end of its input then.
        this.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_told_what_the_docker_command_tells_it() {
        let arguments = |text| SshTarget::parse(text).unwrap().arguments().join(" ");
        assert_eq!(
            arguments("host"),
            "-o ConnectTimeout=30 -o BatchMode=yes -T -- host docker system dial-stdio"
        );
        assert_eq!(
            arguments("me@[fd00::1]:2222/run/my.sock"),
            "-o ConnectTimeout=30 -o BatchMode=yes -T -l me -p 2222 -- fd00::1 docker --host \
             unix:///run/my.sock system dial-stdio"
        );
    }

    #[tokio::test]
    async fn what_ssh_says_is_told_whether_it_ends_before_or_after_it_is_asked() {
        use tokio::io::AsyncWriteExt as _;
        let target = SshTarget::parse("127.0.0.1:1").unwrap();
        let mut stream = target.dial().unwrap();
        let read = stream.read(&mut [0]).await.unwrap_err().to_string();
        assert!(read.starts_with("ssh does not reach the engine: "), "{read}");
        // A write fails once ssh has ended.
        let written = loop {
            if let Err(error) = stream.write(b"GET / HTTP/1.1").await {
                break error.to_string();
            }
        };
        assert_eq!(written, read);
    }
}
