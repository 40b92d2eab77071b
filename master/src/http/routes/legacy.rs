//! docker-shef's calls.

use actix_web::web;

use super::{
    super::{legacy, openapi::bodies},
    call::{Body, Call, Param, Tag, VIEWER},
};
use crate::access::Need;

const NAME: (&str, &str, &str) = ("serviceName", "string", "The service's name.");
const IMAGE: (&str, &str, &str) = ("image", "string", "The image that its replicas run.");
const REPLICAS: (&str, &str, &str) = ("replicas", "integer", "How many replicas should run.");

/// docker-shef's calls, with its names and messages.
pub fn calls() -> Vec<Call> {
    let name =
        Param { name: "serviceName", about: "The service's name, unless the body says it.", example: "web" };
    vec![
        Call::new(
            Tag::DockerShef,
            VIEWER,
            "get",
            "/service",
            || web::get().to(legacy::get),
            "Reads a service",
        )
        .query(&[name])
        .body(Body::Fields { fields: &[NAME], required: &[] })
        .json::<bodies::Anything>(200, "The service."),
        Call::new(
            Tag::DockerShef,
            Need::Service,
            "post",
            "/service",
            || web::post().to(legacy::create),
            "Creates a service and waits until it runs",
        )
        .body(Body::Fields { fields: &[NAME, IMAGE, REPLICAS], required: &["serviceName", "image"] })
        .json::<bodies::Anything>(200, "The service."),
        Call::new(
            Tag::DockerShef,
            Need::Service,
            "put",
            "/service",
            || web::put().to(legacy::scale),
            "Changes the number of replicas of a service",
        )
        .body(Body::Fields { fields: &[NAME, REPLICAS], required: &["serviceName", "replicas"] })
        .json::<bodies::Anything>(200, "The service."),
        Call::new(
            Tag::DockerShef,
            Need::Service,
            "delete",
            "/service",
            || web::delete().to(legacy::delete),
            "Deletes a service",
        )
        .body(Body::Fields { fields: &[NAME], required: &["serviceName"] })
        .json::<bodies::Anything>(200, "The service is deleted.")
        .json::<bodies::Anything>(
            202,
            "The service is deleted; some hosts have not removed its containers yet.",
        ),
        Call::new(
            Tag::DockerShef,
            // docker-shef's bootstraps have no tokens, and the call only records that they are there.
            Need::Nothing,
            "post",
            "/node",
            || web::post().to(legacy::node),
            "Reports that a host's bootstrap runs",
        )
        .body(Body::Fields {
            fields: &[
                ("node", "string", "The host's IPv4 address."),
                ("master", "boolean", "Whether a master is started there."),
            ],
            required: &["node", "master"],
        })
        .json::<bodies::Anything>(200, "The report is accepted."),
        Call::new(
            Tag::DockerShef,
            VIEWER,
            "get",
            "/state",
            || web::get().to(legacy::state),
            "Reads hosts, runners, containers and services",
        )
        .json::<bodies::Anything>(200, "The state."),
        Call::new(
            Tag::DockerShef,
            VIEWER,
            "get",
            "/stats",
            || web::get().to(legacy::stats),
            "Counts since the cluster's beginning",
        )
        .json::<bodies::Anything>(200, "The counts."),
    ]
}
