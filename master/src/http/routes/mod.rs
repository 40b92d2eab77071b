//! Every address of the API, in one table: the server's routes and the OpenAPI
//! document are both made of it, so neither knows a call that the other does not.

pub mod audited;
pub mod call;
mod legacy;
mod v1;

use std::sync::OnceLock;

use actix_web::{HttpResponse, web};
use serde_json::json;

pub use self::call::Call;
use self::call::{Tag, VIEWER};
use super::{
    access::guarded,
    audit::noted,
    login,
    openapi::{self, bodies, page},
    wrong_method,
};

/// Every call that is not between master and agents.
pub fn calls() -> Vec<Call> {
    let mut calls = v1::calls();
    calls.push(
        Call::new(Tag::Server, VIEWER, "get", "/", || web::get().to(index), "Lists the addresses of the API")
            .json::<bodies::Index>(200, "The addresses."),
    );
    calls.push(
        Call::new(
            Tag::Server,
            VIEWER,
            "get",
            "/openapi.json",
            || web::get().to(document),
            "Describes the API as OpenAPI 3.1",
        )
        .json::<bodies::Anything>(200, "The document."),
    );
    calls.extend(page::calls());
    calls.extend(login::calls());
    calls.extend(legacy::calls());
    calls
}

/// Registers every call; an address that does not take a method says so.
pub fn register(config: &mut web::ServiceConfig) {
    let mut calls = calls();
    while let Some(path) = calls.first().map(|call| call.path) {
        let (of_path, others): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.path == path);
        let allowed: Vec<String> = of_path.iter().map(|call| call.method.to_ascii_uppercase()).collect();
        let resource = of_path.into_iter().fold(web::resource(path), |resource, call| {
            // The last one is asked first.
            resource.route(noted(guarded((call.route)(), call.needs), call.method, path))
        });
        config.service(resource.default_service(wrong_method(allowed.join(", ").into())));
        calls = others;
    }
}

/// `GET /openapi.json`
async fn document() -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| openapi::described(&calls()).to_string());
    HttpResponse::Ok().content_type("application/json").body(text.as_str())
}

/// `GET /`: what is here.
async fn index() -> HttpResponse {
    let mut addresses: Vec<&str> = calls().iter().map(|call| call.path).collect();
    addresses.sort_unstable();
    addresses.dedup();
    HttpResponse::Ok().json(json!({
        "name": "shef",
        "version": env!("CARGO_PKG_VERSION"),
        "addresses": addresses,
    }))
}
