//! The reason of a host's condition, for people.

use shef_common::clock::{DurationMs, WallMs};

use super::Host;
use crate::membership::{HostCondition, Standing, liveness::Evidence};

/// What led to `condition`, for people.
pub(super) fn why(host: &Host, condition: HostCondition, flap_hold: DurationMs) -> Option<String> {
    let flaps = || {
        let minutes = flap_hold.0 / 60_000;
        format!(
            "it went down three times within ten minutes, and takes new replicas once it has been up for \
             {minutes} min"
        )
    };
    match condition.standing {
        Standing::Awaited => Some("it has not called in since the master started".to_owned()),
        Standing::Ready => condition.flapping.then(flaps),
        Standing::Suspect => Some(match host.liveness.evidence() {
            Some(Evidence::Answers { via: None }) => "it answers probes, but its reports do not \
                                                      arrive"
                .to_owned(),
            Some(Evidence::Answers { via: Some(via) }) => {
                format!("it answers probes (through {via}), but its reports do not arrive")
            }
            Some(Evidence::AgentSilent { .. }) | None => match host.liveness.not_probed() {
                Some(why) => format!(
                    "its reports do not arrive, and it cannot be probed, which says \
                                      nothing of it ({why})"
                ),
                None => "its reports do not arrive; it is being probed".to_owned(),
            },
        }),
        Standing::AgentDown => {
            let since = host.last_report.map_or_else(|| "the master started".to_owned(), WallMs::iso);
            let how = match host.liveness.evidence() {
                Some(Evidence::AgentSilent { why }) => format!(" ({why})"),
                Some(Evidence::Answers { .. }) | None => String::new(),
            };
            Some(format!(
                "the host is there, its agent is not{how}; what runs there is not known since \
                          {since}"
            ))
        }
        Standing::EngineDown => Some("its engine does not answer".to_owned()),
        Standing::Down if condition.held => Some(
            "neither reports nor probes reach it; so many hosts went down together that its replicas are \
             not replaced for now (see /v1/cluster)"
                .to_owned(),
        ),
        Standing::Down if host.unanswered => {
            Some("its agent does not answer, and neither does any published port of its replicas".to_owned())
        }
        Standing::Down => Some("neither reports nor probes reach it".to_owned()),
    }
}
