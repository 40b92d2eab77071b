//! Replicas that a host holds without an order of its runner. The
//! service of their name decides about them. Where there is no such service, the
//! cluster does, and names them for removal.

use std::collections::BTreeMap;

use shef_common::ids::{NodeName, ReplicaId};

use super::ClusterCore;
use crate::{
    cluster::{events::Effect, state::Phase},
    runner::RunnerEvent,
    service::ServiceEvent,
};

impl ClusterCore {
    pub(super) fn unknown(&self, node: &NodeName, replicas: Vec<ReplicaId>, effects: &mut Vec<Effect>) {
        match self.phase {
            // A service that has not been read from the store yet would own nothing. No host is admitted
            // before that, and the first report of one that is admitted is full. A master that does not lead
            // names nothing.
            Phase::Recovering(_) | Phase::Deposed(_) => return,
            Phase::Leading => {}
        }
        let mut by_service: BTreeMap<String, Vec<ReplicaId>> = BTreeMap::new();
        for replica in replicas {
            by_service.entry(replica.service().to_owned()).or_default().push(replica);
        }
        let mut remove = Vec::new();
        for (name, replicas) in by_service {
            match self.service(&name) {
                Some(name) => {
                    let event = ServiceEvent::Unknown { node: node.clone(), replicas };
                    effects.push(Effect::ToService(name.clone(), event));
                }
                None => remove.extend(replicas),
            }
        }
        if !remove.is_empty() {
            effects.push(Effect::ToRunner(node.clone(), RunnerEvent::Order { set: Vec::new(), remove }));
        }
    }
}

#[cfg(test)]
mod tests {
    use shef_common::{
        clock::{DurationMs, Now, WallMs},
        ids::{ClusterId, Epoch, Fence, LeaderId, ServiceName, Version},
        image::ImageRef,
        spec::{ServiceSpec, Template},
    };

    use super::*;
    use crate::{
        cluster::{ClusterEvent, ClusterOptions, Recovered},
        service::{ServiceRecord, Stored, Versions},
        store::Leadership,
    };

    fn id(text: &str) -> ReplicaId {
        ReplicaId::parse(text).unwrap()
    }

    /// A cluster with the service `web` in its store.
    fn cluster() -> ClusterCore {
        let fence = Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000aa").unwrap() };
        let leadership = Leadership { cluster: ClusterId::parse("00000000000000cc").unwrap(), fence };
        let template = Template::of(ImageRef::parse("nginx").unwrap());
        let record =
            ServiceRecord::new(ServiceSpec::of(ServiceName::parse("web").unwrap(), 1, template), WallMs(1));
        let recovered = Recovered {
            services: vec![Stored { record, versions: Versions::of_whole(Version(1)) }],
            ..Recovered::default()
        };
        let options = ClusterOptions {
            report_interval: DurationMs(500),
            history_limit: 10,
            wave: crate::service::WAVE,
            forgotten_limit: 10,
            takes_over: false,
            has_ca: false,
            seed: 1,
        };
        ClusterCore::new(options, leadership, recovered, Now::default()).0
    }

    fn ask(core: &mut ClusterCore) -> Vec<String> {
        let replicas = vec![id("web-000001"), id("db-000001"), id("web-000002")];
        let event = ClusterEvent::Unknown { node: NodeName::parse("h1").unwrap(), replicas };
        core.handle(event, Now::default()).iter().map(|effect| format!("{effect:?}")).collect()
    }

    #[test]
    fn what_no_service_owns_is_removed_only_after_recovery() {
        let mut core = cluster();
        assert_eq!(ask(&mut core), [] as [String; 0], "nothing is read from the store yet");
        let _ = core.handle(ClusterEvent::Continue, Now::default());
        assert_eq!(ask(&mut core), [] as [String; 0], "the service has not said what its record means");
        let _ = core.handle(ClusterEvent::Recovered(ServiceName::parse("web").unwrap()), Now::default());
        let effects = ask(&mut core);
        assert_eq!(effects.len(), 2, "{effects:?}");
        assert!(
            effects[0].starts_with("ToService")
                && effects[0].contains("web-000001")
                && effects[0].contains("web-000002")
        );
        assert!(
            effects[1].starts_with("ToRunner") && effects[1].contains("remove: [db-000001]"),
            "{}",
            effects[1]
        );
    }
}
