//! The calls of replicas.

use actix_web::web;
use shef_common::problem::Code;

use super::super::call::{Call, Param, Tag, VIEWER};
use super::{ACCEPT, LOGS};
use crate::access::Need;
use crate::http::{exec, logs, usage};

pub(super) fn replica_calls() -> Vec<Call> {
    let log = "Lines of text, or JSON objects; what cannot be read is named among them.";
    vec![
        Call::new(
            Tag::Replicas,
            VIEWER,
            "get",
            "/v1/services/{name}/logs",
            || web::get().to(logs::service),
            "Reads the logs of all replicas of a service",
        )
        .query(&LOGS)
        .header(ACCEPT)
        .stream("text/plain", log),
        Call::new(
            Tag::Replicas,
            VIEWER,
            "get",
            "/v1/services/{name}/replicas/{id}/logs",
            || web::get().to(logs::replica),
            "Reads the logs of a replica",
        )
        .query(&LOGS)
        .header(ACCEPT)
        .stream("text/plain", log),
        Call::new(
            Tag::Replicas,
            VIEWER,
            "get",
            "/v1/services/{name}/stats",
            || web::get().to(usage::service),
            "Measures what the replicas of a service use",
        )
        .json::<usage::ServiceUsage>(200, "The measurements, and the replicas that could not be measured."),
        Call::new(
            Tag::Replicas,
            VIEWER,
            "get",
            "/v1/services/{name}/replicas/{id}/stats",
            || web::get().to(usage::replica),
            "Measures what a replica uses",
        )
        .fails(&[Code::ReplicaUnreachable])
        .json::<usage::ReplicaUse>(200, "The measurements."),
        Call::new(
            Tag::Replicas,
            Need::Service,
            "get",
            "/v1/services/{name}/replicas/{id}/exec",
            || web::get().to(exec::get),
            "Runs a command in a replica, over a WebSocket",
        )
        .fails(&[Code::ReplicaUnreachable])
        .query(&[
            Param {
                name: "cmd",
                about: "The command, and again for each argument: at most 256, 16384 bytes with `env`, \
                        `user` and `workdir`.",
                example: "ls",
            },
            Param {
                name: "env",
                about: "A variable beside the container's own, as `NAME=value`, and again for each.",
                example: "DEBUG=1",
            },
            Param {
                name: "detach",
                about: "`true`: the command runs on by itself. The last frame comes, with code 0, once it \
                        has begun. Without it, the command ends with the connection: SIGHUP, and SIGKILL \
                        after 2 s.",
                example: "true",
            },
            Param { name: "tty", about: "`true`: the command gets a terminal.", example: "true" },
            Param { name: "user", about: "The user; by default the container's.", example: "root" },
            Param {
                name: "workdir",
                about: "The working directory, an absolute path; by default the container's.",
                example: "/tmp",
            },
        ]),
    ]
}
