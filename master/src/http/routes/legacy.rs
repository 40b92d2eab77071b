//! docker-shef's calls.

use actix_web::web;

use super::{
    super::{legacy, openapi::bodies},
    call::{Body, Call, Param},
};

const NAME: (&str, &str, &str) = ("serviceName", "string", "The service's name.");
const IMAGE: (&str, &str, &str) = ("image", "string", "The image that its replicas run.");
const REPLICAS: (&str, &str, &str) = ("replicas", "integer", "How many replicas should run.");

/// docker-shef's calls, with its names and messages.
pub fn calls() -> Vec<Call> {
    let name =
        Param { name: "serviceName", about: "The service's name, unless the body says it.", example: "web" };
    let mut calls = vec![
        Call::new("get", "/service", || web::get().to(legacy::get), "A service")
            .query(&[name])
            .body(Body::Fields { fields: &[NAME], required: &[] })
            .json::<bodies::Anything>(200, "The service."),
        Call::new(
            "post",
            "/service",
            || web::post().to(legacy::create),
            "Creates a service and waits until it runs",
        )
        .body(Body::Fields { fields: &[NAME, IMAGE, REPLICAS], required: &["serviceName", "image"] })
        .json::<bodies::Anything>(200, "The service."),
        Call::new("put", "/service", || web::put().to(legacy::scale), "Sets how many replicas a service has")
            .body(Body::Fields { fields: &[NAME, REPLICAS], required: &["serviceName", "replicas"] })
            .json::<bodies::Anything>(200, "The service."),
        Call::new("delete", "/service", || web::delete().to(legacy::delete), "Deletes a service")
            .body(Body::Fields { fields: &[NAME], required: &["serviceName"] })
            .json::<bodies::Anything>(200, "It is deleted.")
            .json::<bodies::Anything>(202, "Hosts have still to remove what is left of it."),
        Call::new(
            "post",
            "/node",
            || web::post().to(legacy::node),
            "A host's bootstrap says that it is there",
        )
        .body(Body::Fields {
            fields: &[
                ("node", "string", "The host's IPv4 address."),
                ("master", "boolean", "Whether a master is started there."),
            ],
            required: &["node", "master"],
        })
        .json::<bodies::Anything>(200, "It is noted."),
        Call::new(
            "get",
            "/state",
            || web::get().to(legacy::state),
            "Hosts, runners, containers and services",
        )
        .json::<bodies::Anything>(200, "All there is."),
        Call::new(
            "get",
            "/stats",
            || web::get().to(legacy::stats),
            "What was done since the cluster's beginning",
        )
        .json::<bodies::Anything>(200, "The counts."),
    ];
    calls.iter_mut().for_each(|call| call.is_legacy = true);
    calls
}
