//! The calls of the cluster's CA.

use actix_web::web;
use shef_common::problem::Code;

use super::{
    super::call::{ADMIN, Body, Call, Tag, VIEWER},
    NOTHING,
};
use crate::{http::ca, rotation::CaView};

pub(super) fn ca_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Cluster,
            VIEWER,
            "get",
            "/v1/ca",
            || web::get().to(ca::show),
            "Shows the cluster's CA, how its rotation goes, and which hosts it waits for",
        )
        .fails(&[Code::NotFound])
        .json::<CaView>(200, "The CA."),
        Call::new(
            Tag::Cluster,
            ADMIN,
            "post",
            "/v1/ca/rotate",
            || web::post().to(ca::rotate),
            "Begins to replace the cluster's CA by a new one, while everything goes on",
        )
        .fails(&[Code::NotFound, Code::RotationConflict, Code::SecretKeyUnavailable])
        .body(Body::Fields {
            fields: &[(
                "compromised",
                "boolean",
                "`true`: others may know the CA's key. Then nothing leads from the old CA to the new one: \
                 hosts that are down meanwhile need a new join token, and users the new digest.",
            )],
            required: &[],
        })
        .json::<CaView>(202, "Begun. `GET /v1/ca` shows how it goes on."),
        Call::new(
            Tag::Cluster,
            ADMIN,
            "post",
            "/v1/ca/continue",
            || web::post().to(ca::go_on),
            "Goes on with the rotation without the hosts that it waits for",
        )
        .fails(&[Code::NotFound, Code::RotationConflict])
        .body(NOTHING)
        .json::<CaView>(202, "The next phase has begun."),
    ]
}
