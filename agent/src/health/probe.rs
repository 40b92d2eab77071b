//! One check, carried out.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use shef_common::{open_files::is_shortage, spec::HttpCheck};

use super::{
    CheckFailure, Probe, Target, WrongAnswer,
    listener::{Listener, listener},
    tls,
};

/// A status line is within the first bytes of an answer.
const STATUS_LINE: usize = 64;

/// Makes one check.
///
/// # Errors
/// [`CheckFailure`]: why it has failed, or that it was not made.
pub async fn probe(probe: Probe) -> Result<(), CheckFailure> {
    let limit = Duration::from(probe.timeout);
    match tokio::time::timeout(limit, ask(&probe.target)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(WrongAnswer::TooLate(probe.timeout).into()),
    }
}

async fn ask(target: &Target) -> Result<(), CheckFailure> {
    let address = target.address.ok_or(WrongAnswer::NoAddress)?;
    if let Some(container) = target.shares.clone() {
        let port = address.port();
        // An answer that cannot be read does not count.
        let found = tokio::task::spawn_blocking(move || listener(Path::new("/proc"), &container, port)).await;
        match found.unwrap_or(Listener::Unknown) {
            Listener::Own | Listener::Unknown => {}
            Listener::Another => return Err(WrongAnswer::AnotherListens(port).into()),
            Listener::Nobody => return Err(WrongAnswer::NobodyListens(port).into()),
        }
    }
    let io = |error: std::io::Error| {
        if is_shortage(&error) {
            CheckFailure::NotMade
        } else {
            WrongAnswer::Connection { address, why: error.to_string() }.into()
        }
    };
    let stream = TcpStream::connect(address).await.map_err(io)?;
    let Some(page) = &target.page else { return Ok(()) };
    // The status is all that is wanted: the rest of the answer is not read, and the connection not kept.
    let request = request(page, address);
    // The API refuses such; a template may come from elsewhere.
    let sends_more = |text: &str| text.chars().any(char::is_control);
    if sends_more(&page.path)
        || page.headers.iter().any(|(name, value)| sends_more(name) || sends_more(value))
    {
        return Err(WrongAnswer::ControlCharacters.into());
    }
    let mut stream = speak(stream, page, address).await.map_err(io)?;
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::with_capacity(STATUS_LINE);
    while answer.len() < STATUS_LINE && !answer.contains(&b'\n') {
        let mut part = [0; STATUS_LINE];
        match stream.read(&mut part).await.map_err(io)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    match status(&answer) {
        Some(status) if page.expects(status) => Ok(()),
        Some(status) => Err(WrongAnswer::Status { address, path: page.path.clone(), status }.into()),
        None => Err(WrongAnswer::NoHttp(address).into()),
    }
}

/// A connection over which HTTP is spoken.
trait Connection: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection for T {}

/// The connection over which `page` is asked for.
async fn speak(
    stream: TcpStream,
    page: &HttpCheck,
    address: SocketAddr,
) -> std::io::Result<Box<dyn Connection>> {
    if !page.https {
        return Ok(Box::new(stream));
    }
    let host = page.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map(|(_, host)| host.as_str());
    Ok(Box::new(tls::connect(stream, host, address.ip()).await?))
}

/// What is sent for a page: the spec's headers, and ours where it has none of that name.
fn request(page: &HttpCheck, address: SocketAddr) -> String {
    let host = address.to_string();
    let ours = [("Host", host.as_str()), ("User-Agent", "shef"), ("Accept", "*/*"), ("Connection", "close")];
    let is_given = |name: &str| page.headers.keys().any(|given| given.eq_ignore_ascii_case(name));
    let ours = ours.into_iter().filter(|(name, _)| !is_given(name));
    let given = page.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let lines: Vec<String> = ours.chain(given).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {} HTTP/1.1\r\n{}\r\n", page.path, lines.concat())
}

/// The status of an answer's first line, as in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.split_whitespace();
    words.next()?.strip_prefix("HTTP/")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use shef_common::{clock::DurationMs, ids::ReplicaId};
    use tokio::net::TcpListener;

    use super::*;

    async fn serving(answer: &'static str) -> (std::net::SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 1_024];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.truncate(read);
            asked
        });
        (address, served)
    }

    async fn check(address: Option<std::net::SocketAddr>, path: Option<&str>) -> Result<(), String> {
        let page = |path: &str| HttpCheck {
            port: 80,
            path: path.to_owned(),
            https: false,
            headers: [("host".to_owned(), "a.example".to_owned())].into(),
            status: vec![204, 302],
        };
        let target = Target { address, shares: None, page: path.map(page) };
        let replica = ReplicaId::parse("web-000001").unwrap();
        probe(Probe { replica, run: 1, target, timeout: DurationMs(500) }).await.map_err(|failure| {
            match failure {
                CheckFailure::Failed(answer) => answer.to_string(),
                CheckFailure::NotMade | CheckFailure::Excused => panic!("it was not made"),
            }
        })
    }

    #[tokio::test]
    async fn a_page_passes_by_its_status_alone() {
        let (address, served) = serving("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(check(Some(address), Some("/healthz?full=1")).await, Ok(()));
        assert!(served.await.unwrap().starts_with(b"GET /healthz?full=1 HTTP/1.1\r\nUser-Agent: shef"));
        let (address, served) = serving("HTTP/1.1 302 Found\r\n\r\n").await;
        assert_eq!(check(Some(address), Some("/")).await, Ok(()));
        let asked = String::from_utf8(served.await.unwrap()).unwrap();
        assert!(asked.ends_with("\r\nhost: a.example\r\n\r\n") && !asked.contains("Host:"), "{asked}");
        let (address, _) = serving("HTTP/1.1 200 OK\r\n\r\n").await;
        assert_eq!(check(Some(address), Some("/")).await, Err(format!("{address}/ answered 200")));
        let (address, _) = serving("HTTP/1.0 503 Busy\r\n\r\n").await;
        assert_eq!(check(Some(address), Some("/")).await, Err(format!("{address}/ answered 503")));
        let (address, _) = serving("SSH-2.0-x\r\n").await;
        assert_eq!(check(Some(address), Some("/")).await, Err(format!("{address} does not answer in HTTP")));
    }

    #[tokio::test]
    async fn a_check_over_tls_takes_any_certificate_and_names_the_host() {
        use tokio_rustls::{
            TlsAcceptor,
            rustls::{
                ServerConfig,
                crypto::ring,
                pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
            },
        };
        // Self-signed, and for another name.
        let pem = include_bytes!("tls-test.pem");
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
        let config = ServerConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut asked = [0; 1_024];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            (name, String::from_utf8_lossy(&asked[..read]).into_owned())
        });
        let ask = |address, host: &str| {
            let page = HttpCheck {
                port: 443,
                path: "/healthz".to_owned(),
                https: true,
                headers: [("Host".to_owned(), host.to_owned())].into(),
                status: vec![],
            };
            let target = Target { address: Some(address), shares: None, page: Some(page) };
            let replica = ReplicaId::parse("web-000001").unwrap();
            probe(Probe { replica, run: 1, target, timeout: DurationMs(5_000) })
        };
        assert_eq!(ask(address, "a.example:8443").await, Ok(()));
        let (name, asked) = served.await.unwrap();
        assert_eq!(name.as_deref(), Some("a.example"));
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");

        let (address, _) = serving("HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(matches!(ask(address, "a").await, Err(CheckFailure::Failed(_))), "it speaks no TLS");
    }

    #[tokio::test]
    async fn a_connection_passes_and_what_cannot_be_reached_says_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(check(Some(address), None).await, Ok(()));
        let smuggled = check(Some(address), Some("/\r\nX: 1")).await;
        assert_eq!(smuggled, Err("its path or a header holds control characters".to_owned()));
        let silent = check(Some(address), Some("/")).await;
        assert_eq!(silent, Err("no answer within 500 ms".to_owned()));
        drop(listener);
        assert!(check(Some(address), None).await.unwrap_err().contains("refused"));
        assert_eq!(check(None, None).await, Err("it has no address that could be asked".to_owned()));
    }
}
