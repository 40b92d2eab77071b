use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{Engine, as_name};
use crate::system::{
    Wanted,
    tests::{config, facts},
    wanted,
};

/// The id of the one image of [`engine_with_an_id`].
const ID: &str = "sha256:cafe000000000000000000000000000000000000000000000000000000000000";

/// Answers a call as an engine does whose only image has [`ID`] and no name: it takes `cafe` for the
/// beginning of that id.
fn answer(path: &str) -> (&'static str, String) {
    let image = path.strip_prefix("/images/").and_then(|rest| rest.strip_suffix("/json"));
    match image {
        None => ("200 OK", "\"OK\"".to_owned()),
        Some("cafe" | "sha256:cafe" | "sha256%3Acafe") => ("200 OK", format!("{{\"Id\":\"{ID}\"}}")),
        Some(_) => ("404 Not Found", "{\"message\":\"No such image\"}".to_owned()),
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|header| !header.is_empty()) {}
    let (status, body) = answer(request.split(' ').nth(1).unwrap_or_default());
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n",
        body.len()
    );
    write.write_all((head + &body).as_bytes()).await
}

/// An engine that has one image, which has no name.
async fn engine_with_an_id() -> Engine {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = serve(stream).await;
        }
    });
    Engine::connect(&url).await.unwrap()
}

#[actix_rt::test]
async fn a_name_that_could_be_an_id_finds_no_image_by_its_id() {
    let engine = engine_with_an_id().await;
    for name in ["cafe", "sha256:cafe"] {
        assert_eq!(engine.image(name).await, Ok(None), "{name}");
        let agent = wanted(&config(&[]), &facts("a")).remove(2);
        let agent = Wanted { image: ID.to_owned(), image_name: name.to_owned(), ..agent };
        assert_eq!(engine.shown_image(&agent).await, Ok(ID.to_owned()), "{name}");
    }
}

#[test]
fn a_whole_id_stays_one_and_what_is_no_name_is_refused() {
    assert_eq!(as_name(ID), Ok(ID.to_owned()));
    assert_eq!(as_name("cafe:1"), Ok("docker.io/library/cafe:1".to_owned()));
    assert_eq!(as_name("registry.example/shef:1"), Ok("registry.example/shef:1".to_owned()));
    assert!(as_name("Shef").unwrap_err().0.contains("must be a Docker image reference"));
    assert!(as_name(&"c".repeat(64)).unwrap_err().0.contains("an image id where a name is needed"));
}

#[actix_rt::test]
async fn a_socket_that_is_missing_is_named_with_the_mount_that_brings_it() {
    let refused = Engine::connect("unix:///no/such.sock").await.err().map(|error| error.0);
    let refused = refused.unwrap_or_default();
    assert!(
        refused.starts_with("no Docker engine answers at unix:///no/such.sock: ")
            && refused.ends_with("; in a container, mount it with -v /no/such.sock:/no/such.sock"),
        "{refused}"
    );
}
