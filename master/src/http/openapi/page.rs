//! `GET /docs`: Swagger UI, whose files `build.rs` packs into the program. Everybody may have it; what it
//! shows it asks for as its reader.

use actix_web::{HttpResponse, http::header, web};

use super::super::routes::call::{Call, Tag};
use crate::access::Need;

/// What the page may load: its own files and the document.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'self'; img-src 'self' data:; \
                      style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";
const SCRIPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
const STYLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));
/// For how long a browser may keep the files, in seconds: the next version of shef may have others.
const KEPT: &str = "max-age=3600";

/// The page and its files.
pub fn calls() -> Vec<Call> {
    let part = "Serves a part of the page `/docs`";
    vec![
        Call::new(
            Tag::Server,
            Need::Nothing,
            "get",
            "/docs",
            || web::get().to(page),
            "Shows this document, and sends calls",
        )
        .stream("text/html", "The page."),
        Call::new(Tag::Server, Need::Nothing, "get", "/docs/start.js", || web::get().to(start), part)
            .stream("text/javascript", "How the page starts."),
        Call::new(
            Tag::Server,
            Need::Nothing,
            "get",
            "/docs/swagger-ui-bundle.js",
            || web::get().to(script),
            part,
        )
        .stream("text/javascript", "Swagger UI, compressed by gzip."),
        Call::new(Tag::Server, Need::Nothing, "get", "/docs/swagger-ui.css", || web::get().to(style), part)
            .stream("text/css", "Its style, compressed by gzip."),
    ]
}

async fn page() -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    answer.content_type("text/html; charset=utf-8").body(include_str!("page.html"))
}

async fn start() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(include_str!("start.js"))
}

async fn script() -> HttpResponse {
    packed("text/javascript; charset=utf-8", SCRIPT)
}

async fn style() -> HttpResponse {
    packed("text/css; charset=utf-8", STYLE)
}

fn packed(media: &str, file: &'static [u8]) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_ENCODING, "gzip")).insert_header((header::CACHE_CONTROL, KEPT));
    answer.content_type(media).body(file)
}
