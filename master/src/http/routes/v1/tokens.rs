//! The calls of tokens.

use actix_web::web;
use shef_common::problem::Code;

use super::super::call::{ADMIN, Body, Call, Tag};
use crate::{
    access::Created,
    http::{openapi::bodies, tokens},
};

pub(super) fn token_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Tokens,
            ADMIN,
            "get",
            "/v1/tokens",
            || web::get().to(tokens::list),
            "Lists the tokens of the API, and those that hosts join with",
        )
        .json::<bodies::TokenList>(200, "The tokens, without what proves them."),
        Call::new(
            Tag::Tokens,
            ADMIN,
            "put",
            "/v1/tokens/{name}",
            || web::put().to(tokens::put),
            "Makes a token",
        )
        .fails(&[Code::TokenExists, Code::InvalidParameter])
        .body(Body::Fields {
            fields: &[
                (
                    "role",
                    "string",
                    "`viewer`, `deployer`, `operator` or `admin`; `agent`: hosts join with it.",
                ),
                (
                    "services",
                    "string",
                    "For a deployer: the beginning of the names of the services that it may change; by \
                     default all services.",
                ),
                (
                    "uses",
                    "integer",
                    "For `agent`: how many hosts may join with it, 1 to 1,000; by default 1.",
                ),
                (
                    "expires_in",
                    "string",
                    "For how long it counts, such as `30d`; by default for ever, and for `agent` 1 h \
                     (at most 30 days).",
                ),
            ],
            required: &["role"],
        })
        .json::<Created>(201, "The token. Its text is answered here alone."),
        Call::new(
            Tag::Tokens,
            ADMIN,
            "delete",
            "/v1/tokens/{name}",
            || web::delete().to(tokens::delete),
            "Revokes a token at once",
        )
        .fails(&[Code::TokenNotFound])
        .json::<bodies::RevokedToken>(200, "Revoked."),
    ]
}
