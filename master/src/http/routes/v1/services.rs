//! The calls of services.

use actix_web::web;
use shef_common::problem::Code;

use super::super::call::{Body, Call, Tag, VIEWER};
use super::{AFTER, AFTER_REPLICA, DRY_RUN, IF_MATCH, LIMIT, NOTHING, REPLICAS, WAIT};
use crate::{
    access::Need,
    http::{listing, openapi::bodies, plan, rollouts, services},
    service::{Preview, ServiceView},
};

pub(super) fn service_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Services,
            VIEWER,
            "get",
            "/v1/services",
            || web::get().to(services::list),
            "Lists services, ordered by name",
        )
        .query(&[LIMIT, AFTER, REPLICAS])
        .json::<bodies::ServicePage>(200, "A page of services."),
        Call::new(
            Tag::Services,
            Need::Service,
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
            VIEWER,
            "get",
            "/v1/services/{name}",
            || web::get().to(services::get),
            "Reads a service, its state and its replicas",
        )
        .json::<ServiceView>(200, "The service; its version is the ETag."),
        Call::new(
            Tag::Services,
            Need::Service,
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
            Need::Service,
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
            Need::Service,
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
            Need::Service,
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
            Need::Service,
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
            Need::Service,
            "post",
            "/v1/services/{name}/slots/{slot}/release",
            || web::post().to(rollouts::release),
            "Gives up the volume data that binds a slot to a lost or drained host; the slot is placed on \
             another host, without the data",
        )
        .fails(&[Code::SlotNotFound, Code::RolloutConflict])
        .leads(NOTHING),
        Call::new(
            Tag::Rollouts,
            Need::Service,
            "post",
            "/v1/services/{name}/rollout/{lead}",
            || web::post().to(rollouts::command),
            "Steers a rollout: `pause`, `resume`, `abort`, or `promote` a canary",
        )
        .fails(&[Code::NotFound, Code::RolloutConflict])
        .leads(NOTHING),
        Call::new(
            Tag::Rollouts,
            Need::Service,
            "post",
            "/v1/services/{name}/restart",
            || web::post().to(rollouts::restart),
            "Replaces every replica by a rollout, with the same spec",
        )
        .fails(&[Code::RolloutConflict])
        .leads(NOTHING),
        Call::new(
            Tag::Rollouts,
            Need::Service,
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
            VIEWER,
            "get",
            "/v1/services/{name}/replicas",
            || web::get().to(services::replicas),
            "Lists a service's replicas, ordered by id",
        )
        .query(&[LIMIT, AFTER_REPLICA])
        .json::<listing::ReplicaPage>(200, "A page of replicas."),
    ]
}
