//! Which numbers and names of a registration are taken. A host may bring any number: one message must not use
//! up the epochs or generations that are left. And a replica belongs to the service that its name says.

use shef_common::{
    bounds::{MOST_ADOPTED, REACH},
    ids::Fence,
    protocol::Registration,
};

/// Why the registration's numbers are refused, and what to do. `ours`: our fence; `None` in a cluster without
/// members, which goes above every epoch that its first host remembers.
pub(super) fn refusal(registration: &Registration, ours: Option<&Fence>) -> Option<String> {
    let node = &registration.node;
    if let Some(accepted) = &registration.accepted {
        let epoch = accepted.fence.epoch;
        let most = ours.map_or(MOST_ADOPTED, |ours| ours.epoch.0.saturating_add(REACH));
        if epoch.0 > most {
            return Some(format!(
                "host {node} says that it follows epoch {epoch}, and this master takes at most {most}: no \
                 leadership of this cluster has had that number; if the host belongs here, stop its agent, \
                 move the agent's ledger away and start it anew"
            ));
        }
    }
    if let Some(odd) = registration.holds.iter().find(|held| held.replica.service() != held.service.as_str())
    {
        return Some(format!(
            "host {node} holds {} as a replica of service {}, and the name says another one; remove that \
             container",
            odd.replica, odd.service
        ));
    }
    let absurd = registration.holds.iter().find(|held| held.generation.0 > REACH)?;
    Some(format!(
        "host {node} holds {} of generation {}, and generations up to {REACH} are taken over: no service \
         has changed that often; remove that container",
        absurd.replica, absurd.generation
    ))
}
