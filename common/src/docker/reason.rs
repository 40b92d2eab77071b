//! Why an engine does not answer, in plain words: an HTTP client's own only say that a request failed.

use std::{error::Error as StdError, io};

use bollard::errors::Error;

const NO_SOCKET: &str = "there is no such socket";

/// The innermost cause of `error`; for what the operating system says of a connection, what that means here.
#[must_use]
pub fn reason(error: &(dyn StdError + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if matches!(inner.downcast_ref(), Some(Error::SocketNotFoundError(_))) {
        return NO_SOCKET.to_owned();
    }
    let system = inner.downcast_ref::<io::Error>().filter(|error| error.raw_os_error().is_some());
    match system.map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => NO_SOCKET.to_owned(),
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens there".to_owned(),
        Some(io::ErrorKind::PermissionDenied) => {
            "this user may not use the socket (root and members of the group docker may)".to_owned()
        }
        _ => inner.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::{ConnectError, DockerAddress, DockerTls};

    /// Why the engine at `url` does not answer.
    async fn why(url: &str) -> String {
        let answer = match DockerAddress::parse(url, &DockerTls::default()).unwrap().client(5) {
            Ok(client) => client.ping().await.map(drop).map_err(ConnectError::from),
            Err(error) => Err(error),
        };
        reason(&answer.unwrap_err())
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_told_in_plain_words() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let url = format!("unix://{}", socket.display());
        assert_eq!(why(&url).await, "there is no such socket");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert_eq!(why(&url).await, "nobody listens there");
        assert_eq!(why("tcp://127.0.0.1:1").await, "nobody listens there");
        let other = Error::from(io::Error::other("the ssh command ended"));
        assert_eq!(reason(&other), "the ssh command ended");
    }
}
