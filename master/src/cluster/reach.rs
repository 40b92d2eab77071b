//! Which numbers, names and addresses of a registration are taken. A host may bring any number: one message
//! must not use up the epochs or generations that are left. A replica belongs to the service that its name
//! says. And an agent's address is one of a host: the master calls it.

use shef_common::{
    bounds::{MOST_ADOPTED, REACH},
    endpoint::agent_address,
    ids::Fence,
    protocol::Registration,
};

use super::not_admitted::NotAdmitted;

/// Why the registration's numbers are refused. `ours`: our fence; `None` in a cluster without
/// members, which goes above every epoch that its first host remembers.
pub(super) fn refusal(registration: &Registration, ours: Option<&Fence>) -> Option<NotAdmitted> {
    let node = &registration.node;
    let agent_url = &registration.host.agent_url;
    let Some(listens) = agent_address(agent_url) else {
        let shown = agent_url.chars().take(200).collect();
        return Some(NotAdmitted::AgentUrl { node: node.clone(), shown });
    };
    // The one is called and has to prove itself, the other is tried at the ports that its host names.
    let address = registration.host.address;
    if listens.ip().to_canonical() != address {
        return Some(NotAdmitted::OtherAddress { node: node.clone(), address, listens });
    }
    if let Some(accepted) = &registration.accepted {
        let epoch = accepted.fence.epoch;
        let most = ours.map_or(MOST_ADOPTED, |ours| ours.epoch.0.saturating_add(REACH));
        if epoch.0 > most {
            return Some(NotAdmitted::Epoch { node: node.clone(), epoch, most });
        }
    }
    if let Some(odd) = registration.holds.iter().find(|held| held.replica.service() != held.service.as_str())
    {
        let (replica, service) = (odd.replica.clone(), odd.service.clone());
        return Some(NotAdmitted::OddReplica { node: node.clone(), replica, service });
    }
    let absurd = registration.holds.iter().find(|held| held.generation.0 > REACH)?;
    let (replica, generation) = (absurd.replica.clone(), absurd.generation);
    Some(NotAdmitted::Generation { node: node.clone(), replica, generation })
}
