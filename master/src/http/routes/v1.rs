//! The calls of `/v1`, and those without a family.

use actix_web::web;

use super::{
    super::{
        backup, disk, events, exec, health, listing, logs, nodes, openapi::bodies, operator, plan,
        registries, rollouts, services, usage,
    },
    call::{Body, Call, Param},
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
    about: "Holds the answer until the service has converged, but no longer than this: 500ms, 30s, 5m; at most 10m.",
    example: "50ms",
};
const IF_MATCH: Param = Param {
    name: "If-Match",
    about: "The version that the service must have, as in its ETag; otherwise 412 and nothing is changed.",
    example: "\"3\"",
};
const LOGS: [Param; 4] = [
    Param { name: "follow", about: "`true`: goes on with what is yet to be written.", example: "false" },
    Param {
        name: "since",
        about: "Nothing older: a span (90s, 10m, 2h, 1d), a time in RFC 3339, or seconds since 1970.",
        example: "10m",
    },
    Param { name: "tail", about: "So many of each replica's last lines at most, or `all`.", example: "5" },
    Param { name: "timestamps", about: "`true`: the time before each line of text.", example: "true" },
];
const ACCEPT: Param = Param {
    name: "Accept",
    about: "`application/x-ndjson`: a JSON object for each line; otherwise text.",
    example: "application/x-ndjson",
};
const DRY_RUN: Param = Param {
    name: "dry_run",
    about: "`true`: nothing is done; the answer is what would be, as of `POST /v1/services/{name}/plan`.",
    example: "true",
};
const NOTHING: Body = Body::Fields { fields: &[], required: &[] };

impl Call {
    /// A write that leads what is under way: what it takes, and what it answers.
    fn leads(self, body: Body) -> Self {
        self.query(&[WAIT])
            .header(IF_MATCH)
            .body(body)
            .json::<services::Written<'static>>(200, "It is written.")
            .json::<services::Written<'static>>(202, "It is written, and has not converged in time.")
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
        Call::new("get", "/v1/services", || web::get().to(services::list), "Services, in the order of their names")
            .query(&[LIMIT, AFTER, REPLICAS])
            .json::<bodies::ServicePage>(200, "A page of services."),
        Call::new("post", "/v1/services", || web::post().to(services::create), "Creates a service")
            .query(&[WAIT])
            .body(Body::Spec)
            .json::<services::Written<'static>>(201, "It is written, and durable."),
        Call::new("get", "/v1/services/{name}", || web::get().to(services::get), "A service and how it fares")
            .json::<ServiceView>(200, "The service; its version is the ETag."),
        Call::new("put", "/v1/services/{name}", || web::put().to(services::put), "Creates a service or replaces its spec")
            .query(&[WAIT, DRY_RUN])
            .header(IF_MATCH)
            .body(Body::NamedSpec)
            .json::<services::Written<'static>>(200, "It is replaced, or was so already.")
            .json::<Preview>(200, "With `dry_run`: what would be done.")
            .json::<services::Written<'static>>(201, "It is created.")
            .json::<services::Written<'static>>(202, "It is written, and has not converged in time."),
        Call::new("patch", "/v1/services/{name}", || web::patch().to(services::patch), "Changes parts of a service's spec")
            .query(&[WAIT, DRY_RUN])
            .header(IF_MATCH)
            .body(Body::Patch)
            .json::<services::Written<'static>>(200, "It is written.")
            .json::<Preview>(200, "With `dry_run`: what would be done.")
            .json::<services::Written<'static>>(202, "It is written, and has not converged in time."),
        Call::new("delete", "/v1/services/{name}", || web::delete().to(services::delete), "Deletes a service")
            .query(&[WAIT])
            .header(IF_MATCH)
            .json::<services::Written<'static>>(200, "Nothing is left of it.")
            .json::<services::Written<'static>>(202, "It is written; hosts have still to remove their replicas."),
        Call::new(
            "post",
            "/v1/services/{name}/plan",
            || web::post().to(plan::plan),
            "What a `PUT` of the same spec would do, field by field and slot by slot",
        )
        .header(IF_MATCH)
        .body(Body::NamedSpec)
        .json::<Preview>(200, "What would be done. Nothing is."),
        Call::new(
            "post",
            "/v1/services/{name}/rebalance",
            || web::post().to(services::rebalance),
            "Moves replicas to hosts that have fewer, until the service is balanced",
        )
        .body(Body::Fields {
            fields: &[("per_minute", "integer", "At most so many moves a minute: 1 to 1000; by default 60.")],
            required: &[],
        })
        .json::<ServiceView>(202, "It begins."),
        Call::new(
            "post",
            "/v1/services/{name}/slots/{slot}/release",
            || web::post().to(rollouts::release),
            "Gives up the volume data that binds a slot to a host that is lost or drained: the slot is placed anew, without it",
        )
        .leads(NOTHING),
        Call::new(
            "post",
            "/v1/services/{name}/rollout/{lead}",
            || web::post().to(rollouts::lead),
            "Leads a rollout: `pause`, `resume`, `abort`, or `promote` a canary",
        )
        .leads(NOTHING),
        Call::new(
            "post",
            "/v1/services/{name}/restart",
            || web::post().to(rollouts::restart),
            "Replaces every replica, with the same spec",
        )
        .leads(NOTHING),
        Call::new(
            "post",
            "/v1/services/{name}/rollback",
            || web::post().to(rollouts::rollback),
            "Goes back to a generation that is kept",
        )
        .leads(Body::Fields {
            fields: &[("generation", "integer", "Which one; without it, the last good one before.")],
            required: &[],
        }),
        Call::new("get", "/v1/services/{name}/replicas", || web::get().to(services::replicas), "A service's replicas")
            .query(&[LIMIT, AFTER_REPLICA])
            .json::<listing::ReplicaPage>(200, "A page of replicas."),
    ]
}

fn replica_calls() -> Vec<Call> {
    let log = "Lines of text, or JSON objects; what cannot be read is named among them.";
    vec![
        Call::new(
            "get",
            "/v1/services/{name}/logs",
            || web::get().to(logs::service),
            "What a service's replicas write",
        )
        .query(&LOGS)
        .header(ACCEPT)
        .stream("text/plain", log),
        Call::new(
            "get",
            "/v1/services/{name}/replicas/{id}/logs",
            || web::get().to(logs::replica),
            "What a replica writes",
        )
        .query(&LOGS)
        .header(ACCEPT)
        .stream("text/plain", log),
        Call::new(
            "get",
            "/v1/services/{name}/stats",
            || web::get().to(usage::service),
            "What a service's replicas use now",
        )
        .json::<usage::ServiceUsage>(200, "What is known, and what is not."),
        Call::new(
            "get",
            "/v1/services/{name}/replicas/{id}/stats",
            || web::get().to(usage::replica),
            "What a replica uses now",
        )
        .json::<usage::ReplicaUse>(200, "What it uses."),
        Call::new(
            "get",
            "/v1/services/{name}/replicas/{id}/exec",
            || web::get().to(exec::get),
            "Runs a command in a replica, over a WebSocket",
        )
        .query(&[
            Param {
                name: "cmd",
                about: "The command, and again for each argument: at most 64, 4096 bytes.",
                example: "ls",
            },
            Param { name: "tty", about: "`true`: the command gets a terminal.", example: "true" },
            Param { name: "user", about: "As whom; by default the container's own user.", example: "root" },
            Param {
                name: "workdir",
                about: "Where, as an absolute path; by default the container's own.",
                example: "/tmp",
            },
        ]),
    ]
}

fn host_calls() -> Vec<Call> {
    vec![
        Call::new("get", "/v1/nodes", || web::get().to(nodes::list), "Hosts, in the order of their names")
            .query(&[LIMIT, AFTER])
            .json::<bodies::NodePage>(200, "A page of hosts."),
        Call::new("get", "/v1/nodes/{name}", || web::get().to(nodes::get), "A host and how it fares")
            .json::<NodeView>(200, "The host."),
        Call::new(
            "delete",
            "/v1/nodes/{name}",
            || web::delete().to(operator::forget),
            "Forgets a host that does not come back",
        )
        .query(&[Param { name: "force", about: "`true`: also one that is there.", example: "false" }])
        .json::<bodies::Forgotten>(200, "It is no member any more."),
        Call::new(
            "post",
            "/v1/nodes/{name}/cordon",
            || web::post().to(operator::cordon),
            "A host takes nothing new",
        )
        .body(NOTHING)
        .json::<NodeView>(200, "The host."),
        Call::new(
            "post",
            "/v1/nodes/{name}/drain",
            || web::post().to(operator::drain),
            "What a host runs moves to others",
        )
        .body(Body::Fields {
            fields: &[(
                "deadline_s",
                "integer",
                "What is left after so many seconds is removed: 1 to 86400.",
            )],
            required: &[],
        })
        .json::<NodeView>(200, "The host."),
        Call::new(
            "post",
            "/v1/nodes/{name}/activate",
            || web::post().to(operator::activate),
            "A host takes replicas again",
        )
        .body(NOTHING)
        .json::<NodeView>(200, "The host."),
        Call::new(
            "get",
            "/v1/cluster",
            || web::get().to(operator::cluster),
            "Who leads, how hosts fare, and the brake",
        )
        .json::<bodies::Overview>(200, "The cluster."),
        Call::new(
            "post",
            "/v1/cluster/resume",
            || web::post().to(operator::resume),
            "Replacement goes on though many hosts are down",
        )
        .json::<bodies::Overview>(200, "The cluster."),
        Call::new(
            "post",
            "/v1/cluster/take-over",
            || web::post().to(operator::take_over),
            "A master that another one has deposed starts again and leads; the other one stands down",
        )
        .json::<bodies::Overview>(202, "The cluster, as it was before."),
    ]
}

fn other_calls() -> Vec<Call> {
    vec![
        Call::new("get", "/v1/events", || web::get().to(events::get), "What happens, as server-sent events")
            .query(&[
                Param { name: "service", about: "Only what concerns this service.", example: "web" },
                Param { name: "host", about: "Only what concerns this host.", example: "h0" },
                Param { name: "after", about: "Resumes after the event with this id.", example: "1-0" },
            ])
            .header(Param { name: "Last-Event-ID", about: "As `after`; it wins.", example: "1-0" })
            .stream("text/event-stream", "Events without end."),
        Call::new("get", "/v1/registries", || web::get().to(registries::list), "For which registries credentials are kept")
            .json::<bodies::RegistryList>(200, "Hosts and users; never a password."),
        Call::new("put", "/v1/registries/{name}", || web::put().to(registries::put), "Sets what a registry is shown")
            .query(&[Param {
                name: "check",
                about: "`true`: a host asks the registry first; if it refuses them, 400 `credentials_refused`, and nothing is kept.",
                example: "false",
            }])
            .body(Body::Fields {
                fields: &[
                    ("username", "string", "As whom images are fetched."),
                    ("password", "string", "The password or token; kept encrypted, and never answered."),
                ],
                required: &["username", "password"],
            })
            .json::<registries::RegistrySet>(200, "It is replaced, or was so already.")
            .json::<registries::RegistrySet>(201, "It is kept."),
        Call::new("delete", "/v1/registries/{name}", || web::delete().to(registries::delete), "Forgets what a registry is shown")
            .json::<bodies::DeletedRegistry>(200, "Nothing is kept any more."),
        Call::new("get", "/v1/system/df", || web::get().to(disk::df), "What images take on the hosts")
            .json::<disk::SystemUsage>(200, "By host."),
        Call::new(
            "post",
            "/v1/system/prune",
            || web::post().to(disk::prune),
            "Images that nothing needs are removed on all hosts",
        )
        .json::<disk::SystemUsage>(200, "What was removed, and what is left, by host."),
        Call::new("get", "/v1/backup", || web::get().to(backup::get), "Everything that the store keeps, at one moment")
            .stream("application/x-ndjson", "What `shef backup` writes."),
        Call::new("get", "/v1/stats", || web::get().to(nodes::stats), "What was done, and sums over the cluster")
            .json::<bodies::Stats>(200, "The sums."),
        Call::new("get", "/healthz", || web::get().to(health::healthz), "Whether the process answers")
            .json::<bodies::Status>(200, "It does."),
        Call::new("get", "/readyz", || web::get().to(health::readyz), "Whether writes can be made durable")
            .json::<bodies::Ready>(200, "They can.")
            .json::<bodies::Ready>(503, "They cannot; the reason."),
    ]
}
