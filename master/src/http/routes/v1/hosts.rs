//! The calls of hosts.

use actix_web::web;
use shef_common::problem::Code;

use super::super::call::{Body, Call, OPERATOR, Param, Tag, VIEWER};
use super::{AFTER, LIMIT, NOTHING};
use crate::{
    http::{nodes, openapi::bodies, operator},
    runner::NodeView,
};

pub(super) fn host_calls() -> Vec<Call> {
    vec![
        Call::new(
            Tag::Nodes,
            VIEWER,
            "get",
            "/v1/nodes",
            || web::get().to(nodes::list),
            "Lists hosts, ordered by name",
        )
        .query(&[LIMIT, AFTER])
        .json::<bodies::NodePage>(200, "A page of hosts."),
        Call::new(
            Tag::Nodes,
            VIEWER,
            "get",
            "/v1/nodes/{name}",
            || web::get().to(nodes::get),
            "Reads a host and its state",
        )
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Nodes,
            OPERATOR,
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
            OPERATOR,
            "post",
            "/v1/nodes/{name}/cordon",
            || web::post().to(operator::cordon),
            "Stops placing new replicas on a host; its replicas keep running",
        )
        .body(NOTHING)
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Nodes,
            OPERATOR,
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
            OPERATOR,
            "post",
            "/v1/nodes/{name}/activate",
            || web::post().to(operator::activate),
            "Lets a host take replicas again",
        )
        .body(NOTHING)
        .json::<NodeView>(200, "The host."),
        Call::new(
            Tag::Cluster,
            VIEWER,
            "get",
            "/v1/cluster",
            || web::get().to(operator::cluster),
            "Reads which master leads, the states of hosts, and the brake",
        )
        .json::<bodies::Overview>(200, "The cluster."),
        Call::new(
            Tag::Cluster,
            OPERATOR,
            "post",
            "/v1/cluster/resume",
            || web::post().to(operator::resume),
            "Releases the brake: replicas are replaced although many hosts are down",
        )
        .json::<bodies::Overview>(200, "The cluster."),
        Call::new(
            Tag::Cluster,
            OPERATOR,
            "post",
            "/v1/cluster/take-over",
            || web::post().to(operator::take_over),
            "Makes this master the leader in the place of another one",
        )
        .json::<bodies::Overview>(202, "Accepted; the cluster as it was before."),
    ]
}
