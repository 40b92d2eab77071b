//! The calls of secrets and configs.

use actix_web::web;
use shef_common::problem::Code;

use super::super::call::{Body, Call, Tag, VIEWER};
use crate::{
    access::Need,
    http::{
        contents::{self, ConfigWithContent, Configs, ContentStored, Secrets},
        openapi::bodies,
    },
};

const DATA: Body = Body::Fields {
    fields: &[("data", "string", "The content in base64: at most 500 KB.")],
    required: &["data"],
};

pub(super) fn content_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Secrets,
            VIEWER,
            "get",
            "/v1/secrets",
            || web::get().to(contents::list::<Secrets>),
            "Lists secrets, without their contents",
        )
        .json::<bodies::SecretList>(200, "Secrets, and the services that mount them."),
        Call::new(
            Tag::Secrets,
            Need::Service,
            "put",
            "/v1/secrets/{name}",
            || web::put().to(contents::put::<Secrets>),
            "Stores a content of a secret; services that mount the secret are updated to it",
        )
        .fails(&[Code::SecretKeyUnavailable])
        .body(DATA)
        .json::<ContentStored>(200, "It is the secret's newest content already.")
        .json::<ContentStored>(201, "Stored."),
        Call::new(
            Tag::Secrets,
            Need::Service,
            "delete",
            "/v1/secrets/{name}",
            || web::delete().to(contents::delete::<Secrets>),
            "Removes a secret that no service mounts",
        )
        .fails(&[Code::ContentNotFound, Code::ContentInUse])
        .json::<bodies::DeletedContent>(200, "Removed, with all its contents."),
        Call::new(
            Tag::Secrets,
            VIEWER,
            "get",
            "/v1/configs",
            || web::get().to(contents::list::<Configs>),
            "Lists configs, without their contents",
        )
        .json::<bodies::ConfigList>(200, "Configs, and the services that mount them."),
        Call::new(
            Tag::Secrets,
            VIEWER,
            "get",
            "/v1/configs/{name}",
            || web::get().to(contents::config),
            "Reads a config with its newest content",
        )
        .fails(&[Code::ContentNotFound])
        .json::<ConfigWithContent>(200, "The config."),
        Call::new(
            Tag::Secrets,
            Need::Service,
            "put",
            "/v1/configs/{name}",
            || web::put().to(contents::put::<Configs>),
            "Stores a content of a config; services that mount the config are updated to it",
        )
        .body(DATA)
        .json::<ContentStored>(200, "It is the config's newest content already.")
        .json::<ContentStored>(201, "Stored."),
        Call::new(
            Tag::Secrets,
            Need::Service,
            "delete",
            "/v1/configs/{name}",
            || web::delete().to(contents::delete::<Configs>),
            "Removes a config that no service mounts",
        )
        .fails(&[Code::ContentNotFound, Code::ContentInUse])
        .json::<bodies::DeletedContent>(200, "Removed, with all its contents."),
    ]
}
