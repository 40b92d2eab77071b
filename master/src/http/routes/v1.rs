//! The calls of `/v1`, and those without a family.

mod ca;
mod contents;
mod hosts;
mod replicas;
mod services;
mod tokens;

use actix_web::web;
use shef_common::problem::Code;

use self::{
    ca::ca_calls, contents::content_calls, hosts::host_calls, replicas::replica_calls,
    services::service_calls, tokens::token_calls,
};
use super::super::{
    audit, backup, disk, events, health, nodes, openapi::bodies, registries, services::Written,
};
use super::call::{ADMIN, Body, Call, OPERATOR, Param, Tag, VIEWER};
use crate::access::Need;

const LIMIT: Param =
    Param { name: "limit", about: "How many at most, 1 to 1000; by default 100.", example: "10" };
const AFTER: Param = Param {
    name: "after",
    about: "Only what comes after this name: the `next` of the page before.",
    example: "a",
};
const REPLICAS: Param = Param {
    name: "replicas",
    about: "`true`: with the replicas of each service; by default without.",
    example: "true",
};
const AFTER_REPLICA: Param = Param {
    name: "after",
    about: "Only what comes after this id: the `next` of the page before.",
    example: "web-000001",
};
const WAIT: Param = Param {
    name: "wait",
    about: "Holds the answer until the service has converged, but no longer than this: 500ms, 30s, 5m; at \
            most 10m.",
    example: "50ms",
};
const IF_MATCH: Param = Param {
    name: "If-Match",
    about: "The version that the service must have, as in its ETag; otherwise 412 and nothing is changed.",
    example: "\"3\"",
};
const LOGS: [Param; 4] = [
    Param {
        name: "follow",
        about: "`true`: go on with new lines until the client ends the call.",
        example: "false",
    },
    Param {
        name: "since",
        about: "Only lines after this: a span (90s, 10m, 2h, 1d), a time in RFC 3339, or seconds since 1970.",
        example: "10m",
    },
    Param {
        name: "tail",
        about: "At most so many of the last lines of each replica, or `all`.",
        example: "5",
    },
    Param { name: "timestamps", about: "`true`: the time before each line of text.", example: "true" },
];
const ACCEPT: Param = Param {
    name: "Accept",
    about: "`application/x-ndjson`: a JSON object for each line; otherwise text.",
    example: "application/x-ndjson",
};
const DRY_RUN: Param = Param {
    name: "dry_run",
    about: "`true`: change nothing, and answer the plan, as `POST /v1/services/{name}/plan` does.",
    example: "true",
};
const NOTHING: Body = Body::Fields { fields: &[], required: &[] };

impl Call {
    /// A write that leads what is under way: what it takes, and what it answers.
    fn leads(self, body: Body) -> Self {
        self.query(&[WAIT])
            .header(IF_MATCH)
            .body(body)
            .json::<Written<'static>>(200, "Stored.")
            .json::<Written<'static>>(202, "Stored; the service has not converged within `wait`.")
    }
}

/// The calls to build on.
pub fn calls() -> Vec<Call> {
    let mut calls = service_calls();
    calls.extend(replica_calls());
    calls.extend(host_calls());
    calls.extend(other_calls());
    calls.extend(content_calls());
    calls.extend(token_calls());
    calls.extend(ca_calls());
    calls
}

fn other_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Cluster,
            VIEWER,
            "get",
            "/v1/events",
            || web::get().to(events::get),
            "Streams events of services, replicas and hosts, as server-sent events",
        )
        .query(&[
            Param { name: "service", about: "Only events of this service.", example: "web" },
            Param { name: "host", about: "Only events of this host.", example: "h0" },
            Param { name: "after", about: "Resumes after the event with this id.", example: "1-0" },
            Param {
                name: "audit",
                about: "`true`: tells lines of the audit log too, whatever they are about; for administrators.",
                example: "false",
            },
        ])
        .header(Param { name: "Last-Event-ID", about: "As `after`; it wins.", example: "1-0" })
        .stream("text/event-stream", "Events without end."),
        Call::new(
            Tag::Registries,
            VIEWER,
            "get",
            "/v1/registries",
            || web::get().to(registries::list),
            "Lists the registries for which credentials are stored",
        )
        .json::<bodies::RegistryList>(200, "Registries and users, without passwords."),
        Call::new(
            Tag::Registries,
            OPERATOR,
            "put",
            "/v1/registries/{name}",
            || web::put().to(registries::put),
            "Stores the credentials of a registry",
        )
        .fails(&[Code::CredentialsRefused, Code::SecretKeyUnavailable])
        .query(&[Param {
            name: "check",
            about: "`true`: a host asks the registry first. If the registry refuses them, the call \
                        answers 400 `credentials_refused`, and nothing is stored.",
            example: "false",
        }])
        .body(Body::Fields {
            fields: &[
                ("username", "string", "The user."),
                (
                    "password",
                    "string",
                    "The password or token. It is stored encrypted, and no call \
                                            answers it.",
                ),
            ],
            required: &["username", "password"],
        })
        .json::<registries::RegistrySet>(200, "Replaced, or the same already.")
        .json::<registries::RegistrySet>(201, "Stored."),
        Call::new(
            Tag::Registries,
            OPERATOR,
            "delete",
            "/v1/registries/{name}",
            || web::delete().to(registries::delete),
            "Deletes the credentials of a registry",
        )
        .fails(&[Code::RegistryNotFound])
        .json::<bodies::DeletedRegistry>(200, "Deleted."),
        Call::new(
            Tag::Cluster,
            VIEWER,
            "get",
            "/v1/system/df",
            || web::get().to(disk::df),
            "Reads how much disk the images of shef take on each host",
        )
        .json::<disk::SystemUsage>(200, "The usage of each host."),
        Call::new(
            Tag::Cluster,
            OPERATOR,
            "post",
            "/v1/system/prune",
            || web::post().to(disk::prune),
            "Removes images that no replica and no kept generation needs, on all hosts",
        )
        .json::<disk::SystemUsage>(200, "For each host, what was removed and what is left."),
        Call::new(
            Tag::Cluster,
            ADMIN,
            "get",
            "/v1/audit",
            || web::get().to(audit::get),
            "Reads the latest lines of this master's audit log",
        )
        .query(&[
            LIMIT,
            Param {
                name: "before",
                about: "Only lines before the one of this number: the `next` of the page before.",
                example: "1000",
            },
        ])
        .json::<audit::AuditPage>(200, "The lines, the latest first."),
        Call::new(
            Tag::Cluster,
            ADMIN,
            "get",
            "/v1/backup",
            || web::get().to(backup::get),
            "Reads a consistent backup of the store",
        )
        .fails(&[Code::StoreUnavailable, Code::NotLeader])
        .stream("application/x-ndjson", "The backup, as `shef backup` writes it."),
        Call::new(
            Tag::Cluster,
            VIEWER,
            "get",
            "/v1/stats",
            || web::get().to(nodes::stats),
            "Reads counters and sums over the cluster",
        )
        .json::<bodies::Stats>(200, "The sums."),
        Call::new(
            Tag::Server,
            Need::Nothing,
            "get",
            "/healthz",
            || web::get().to(health::healthz),
            "Answers while the process runs",
        )
        .json::<bodies::Status>(200, "The process answers."),
        Call::new(
            Tag::Server,
            Need::Nothing,
            "get",
            "/readyz",
            || web::get().to(health::readyz),
            "Answers whether this master leads and can store changes",
        )
        .json::<bodies::Ready>(200, "It can.")
        .json::<bodies::Ready>(503, "It cannot; `reason` says why."),
    ]
}
