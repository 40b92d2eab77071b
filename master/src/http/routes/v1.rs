//! The calls of `/v1`, and those without a family.

use actix_web::web;
use shef_common::problem::Code;

use super::{
    super::{
        backup, disk, events, exec, health, listing, logs, nodes, openapi::bodies, operator, plan,
        registries, rollouts, services, usage,
    },
    call::{Body, Call, Param, Tag},
};
use crate::{
    runner::NodeView,
    service::{Preview, ServiceView},
};

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
            .json::<services::Written<'static>>(200, "Stored.")
            .json::<services::Written<'static>>(202, "Stored; the service has not converged within `wait`.")
    }
}

/// The calls to build on.
pub fn calls() -> Vec<Call> {
    let mut calls = service_calls();
    calls.extend(replica_calls());
    calls.extend(host_calls());
    calls.extend(other_calls());
    calls
}

fn service_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Services,
            "get",
            "/v1/services",
            || web::get().to(services::list),
            "Lists services, ordered by name",
        )
        .query(&[LIMIT, AFTER, REPLICAS])
        .json::<bodies::ServicePage>(200, "A page of services."),
        Call::new(
            Tag::Services,
            "post",
            "/v1/services",
            || web::post().to(services::create),
            "Creates a service",
        )
        .fails(&[Code::ServiceExists])
        .query(&[WAIT])
        .body(Body::Spec)
        .json::<services::Written<'static>>(201, "Created and durable."),
        Call::new(
            Tag::Services,
            "get",
            "/v1/services/{name}",
            || web::get().to(services::get),
            "Reads a service, its state and its replicas",
        )
        .json::<ServiceView>(200, "The service; its version is the ETag."),
        Call::new(
            Tag::Services,
            "put",
            "/v1/services/{name}",
            || web::put().to(services::put),
            "Creates a service or replaces its spec",
        )
        .query(&[WAIT, DRY_RUN])
        .header(IF_MATCH)
        .body(Body::NamedSpec)
        .json::<services::Written<'static>>(200, "Replaced, or the same already.")
        .json::<Preview>(200, "With `dry_run`: the plan.")
        .json::<services::Written<'static>>(201, "Created.")
        .json::<services::Written<'static>>(202, "Stored; the service has not converged within `wait`."),
        Call::new(
            Tag::Services,
            "patch",
            "/v1/services/{name}",
            || web::patch().to(services::patch),
            "Changes parts of a service's spec",
        )
        .query(&[WAIT, DRY_RUN])
        .header(IF_MATCH)
        .body(Body::Patch)
        .json::<services::Written<'static>>(200, "Stored.")
        .json::<Preview>(200, "With `dry_run`: the plan.")
        .json::<services::Written<'static>>(202, "Stored; the service has not converged within `wait`."),
        Call::new(
            Tag::Services,
            "delete",
            "/v1/services/{name}",
            || web::delete().to(services::delete),
            "Deletes a service",
        )
        .query(&[WAIT])
        .header(IF_MATCH)
        .json::<services::Written<'static>>(200, "Deleted; no container is left.")
        .json::<services::Written<'static>>(
            202,
            "Accepted; some hosts have not removed their \
                                                      replicas yet.",
        ),
        Call::new(
            Tag::Rollouts,
            "post",
            "/v1/services/{name}/plan",
            || web::post().to(plan::plan),
            "Says what a `PUT` of the same spec would change, field by field and slot by slot",
        )
        .header(IF_MATCH)
        .body(Body::NamedSpec)
        .json::<Preview>(200, "The plan. Nothing is changed."),
        Call::new(
            Tag::Rollouts,
            "post",
            "/v1/services/{name}/rebalance",
            || web::post().to(services::rebalance),
            "Moves replicas to hosts that have fewer of the service, until it is balanced",
        )
        .fails(&[Code::RolloutConflict])
        .body(Body::Fields {
            fields: &[("per_minute", "integer", "At most so many moves a minute: 1 to 1000; by default 60.")],
            required: &[],
        })
        .json::<ServiceView>(202, "The rebalance is accepted."),
        Call::new(
            Tag::Rollouts,
            "post",
            "/v1/services/{name}/slots/{slot}/release",
            || web::post().to(rollouts::release),
            "Gives up the volume data that binds a slot to a lost or drained host; the slot is placed on \
             another host, without the data",
        )
        .fails(&[Code::RolloutConflict])
        .leads(NOTHING),
        Call::new(
            Tag::Rollouts,
            "post",
            "/v1/services/{name}/rollout/{lead}",
            || web::post().to(rollouts::command),
            "Steers a rollout: `pause`, `resume`, `abort`, or `promote` a canary",
        )
        .fails(&[Code::NotFound, Code::RolloutConflict])
        .leads(NOTHING),
        Call::new(
            Tag::Rollouts,
            "post",
            "/v1/services/{name}/restart",
            || web::post().to(rollouts::restart),
            "Replaces every replica by a rollout, with the same spec",
        )
        .fails(&[Code::RolloutConflict])
        .leads(NOTHING),
        Call::new(
            Tag::Rollouts,
            "post",
            "/v1/services/{name}/rollback",
            || web::post().to(rollouts::rollback),
            "Rolls a service back to an earlier generation",
        )
        .fails(&[Code::RolloutConflict])
        .leads(Body::Fields {
            fields: &[(
                "generation",
                "integer",
                "The generation, one of the service's `history`; by \
                                                 default the last good one.",
            )],
            required: &[],
        }),
        Call::new(
            Tag::Replicas,
            "get",
            "/v1/services/{name}/replicas",
            || web::get().to(services::replicas),
            "Lists a service's replicas, ordered by id",
        )
        .query(&[LIMIT, AFTER_REPLICA])
        .json::<listing::ReplicaPage>(200, "A page of replicas."),
    ]
}

fn replica_calls() -> Vec<Call> {
    let log = "Lines of text, or JSON objects; what cannot be read is named among them.";
    vec![
        Call::new(
            Tag::Replicas,
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
            "get",
            "/v1/services/{name}/stats",
            || web::get().to(usage::service),
            "Measures what the replicas of a service use",
        )
        .json::<usage::ServiceUsage>(200, "The measurements, and the replicas that could not be measured."),
        Call::new(
            Tag::Replicas,
            "get",
            "/v1/services/{name}/replicas/{id}/stats",
            || web::get().to(usage::replica),
            "Measures what a replica uses",
        )
        .fails(&[Code::ReplicaUnreachable])
        .json::<usage::ReplicaUse>(200, "The measurements."),
        Call::new(
            Tag::Replicas,
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
                        has begun.",
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

fn host_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Nodes,
            "get",
            "/v1/nodes",
            || web::get().to(nodes::list),
            "Lists hosts, ordered by name",
        )
        .query(&[LIMIT, AFTER])
        .json::<bodies::NodePage>(200, "A page of hosts."),
        Call::new(
            Tag::Nodes,
            "get",
            "/v1/nodes/{name}",
            || web::get().to(nodes::get),
            "Reads a host and its state",
        )
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Nodes,
            "delete",
            "/v1/nodes/{name}",
            || web::delete().to(operator::forget),
            "Removes a host that does not come back from the cluster",
        )
        .fails(&[Code::NodePresent])
        .query(&[Param {
            name: "force",
            about: "`true`: remove the host although it is \
                                                there.",
            example: "false",
        }])
        .json::<bodies::Forgotten>(200, "The host is removed from the cluster."),
        Call::new(
            Tag::Nodes,
            "post",
            "/v1/nodes/{name}/cordon",
            || web::post().to(operator::cordon),
            "Stops placing new replicas on a host; its replicas keep running",
        )
        .body(NOTHING)
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Nodes,
            "post",
            "/v1/nodes/{name}/drain",
            || web::post().to(operator::drain),
            "Moves a host's replicas to other hosts",
        )
        .body(Body::Fields {
            fields: &[(
                "deadline_s",
                "integer",
                "After so many seconds, replicas that have not moved are removed: 1 to 86400; by default \
                 they stay.",
            )],
            required: &[],
        })
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Nodes,
            "post",
            "/v1/nodes/{name}/activate",
            || web::post().to(operator::activate),
            "Lets a host take replicas again",
        )
        .body(NOTHING)
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Cluster,
            "get",
            "/v1/cluster",
            || web::get().to(operator::cluster),
            "Reads which master leads, the states of hosts, and the brake",
        )
        .json::<bodies::Overview>(200, "The cluster."),
        Call::new(
            Tag::Cluster,
            "post",
            "/v1/cluster/resume",
            || web::post().to(operator::resume),
            "Releases the brake: replicas are replaced although many hosts are down",
        )
        .json::<bodies::Overview>(200, "The cluster."),
        Call::new(
            Tag::Cluster,
            "post",
            "/v1/cluster/take-over",
            || web::post().to(operator::take_over),
            "Makes this master the leader in the place of another one",
        )
        .json::<bodies::Overview>(202, "Accepted; the cluster as it was before."),
    ]
}

fn other_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Cluster,
            "get",
            "/v1/events",
            || web::get().to(events::get),
            "Streams events of services, replicas and hosts, as server-sent events",
        )
        .query(&[
            Param { name: "service", about: "Only what concerns this service.", example: "web" },
            Param { name: "host", about: "Only what concerns this host.", example: "h0" },
            Param { name: "after", about: "Resumes after the event with this id.", example: "1-0" },
        ])
        .header(Param { name: "Last-Event-ID", about: "As `after`; it wins.", example: "1-0" })
        .stream("text/event-stream", "Events without end."),
        Call::new(
            Tag::Registries,
            "get",
            "/v1/registries",
            || web::get().to(registries::list),
            "Lists the registries for which credentials are stored",
        )
        .json::<bodies::RegistryList>(200, "Registries and users, without passwords."),
        Call::new(
            Tag::Registries,
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
            "delete",
            "/v1/registries/{name}",
            || web::delete().to(registries::delete),
            "Deletes the credentials of a registry",
        )
        .fails(&[Code::RegistryNotFound])
        .json::<bodies::DeletedRegistry>(200, "Deleted."),
        Call::new(
            Tag::Cluster,
            "get",
            "/v1/system/df",
            || web::get().to(disk::df),
            "Reads how much disk the images of shef take on each host",
        )
        .json::<disk::SystemUsage>(200, "The usage of each host."),
        Call::new(
            Tag::Cluster,
            "post",
            "/v1/system/prune",
            || web::post().to(disk::prune),
            "Removes images that no replica and no kept generation needs, on all hosts",
        )
        .json::<disk::SystemUsage>(200, "For each host, what was removed and what is left."),
        Call::new(
            Tag::Cluster,
            "get",
            "/v1/backup",
            || web::get().to(backup::get),
            "Reads a consistent backup of the store",
        )
        .fails(&[Code::StoreUnavailable, Code::NotLeader])
        .stream("application/x-ndjson", "The backup, as `shef backup` writes it."),
        Call::new(
            Tag::Cluster,
            "get",
            "/v1/stats",
            || web::get().to(nodes::stats),
            "Reads counters and sums over the cluster",
        )
        .json::<bodies::Stats>(200, "The sums."),
        Call::new(
            Tag::Server,
            "get",
            "/healthz",
            || web::get().to(health::healthz),
            "Answers while the process runs",
        )
        .json::<bodies::Status>(200, "The process answers."),
        Call::new(
            Tag::Server,
            "get",
            "/readyz",
            || web::get().to(health::readyz),
            "Answers whether this master leads and can store changes",
        )
        .json::<bodies::Ready>(200, "It can.")
        .json::<bodies::Ready>(503, "It cannot; `reason` says why."),
    ]
}
