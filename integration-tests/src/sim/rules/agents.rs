//! What must hold of agents, their ledgers and the containers they touch.

use shef_agent::{engine::Container, supervisor::ledger::Ledger};
use shef_common::{
    ids::{ClusterId, Fence, ReplicaId, Revision},
    labels,
    protocol::{Accepted, LedgerDigest, Push},
};
use shef_master::service::ReplicaRecord;

use crate::sim::{
    agent::Release,
    engine::{CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE},
    rules::Rules,
    world::World,
};

/// What identifies a push.
#[derive(Debug, Clone)]
pub struct PushHead {
    /// Under which fence.
    pub fence: Fence,
    /// On what it builds.
    pub base: Option<Revision>,
    /// What the ledger is to hold before it.
    pub holds: Option<LedgerDigest>,
    /// What it leads to.
    pub revision: Revision,
}

impl Rules {
    /// A host's disk says nothing any more.
    pub fn ledger_lost(&mut self, host: usize, cluster: Option<ClusterId>) {
        self.was_of.insert(host, cluster);
        self.accepted.remove(&host);
        self.applied.retain(|(of, ..)| *of != host);
    }

    /// A host's agent knows of what it has accepted only the fence.
    pub fn ledger_downgraded(&mut self, host: usize, accepted: Option<Accepted>) {
        self.accepted.insert(host, (accepted, None));
        self.applied.retain(|(of, ..)| *of != host);
    }
}

impl World {
    /// A host is pushed to: its agent understands what it is to run.
    pub fn rules_understands(&mut self, host: usize, push: &Push) {
        let is_older = self.hosts[host].release != Release::This;
        if let Some(newer) = push.set.iter().find(|set| is_older && !set.template.group_add.is_empty()) {
            let rule = format!(
                "h{} is told to run {}, which its agent does not understand",
                host + 1,
                newer.replica
            );
            self.violated(rule);
        }
    }

    /// A ledger is about to be on disk: its fence and revision never go back.
    pub fn rules_ledger(&mut self, host: usize, ledger: &Ledger) {
        let (last, _) = self.rules.accepted.entry(host).or_default().clone();
        let goes_back = match (&last, &ledger.accepted) {
            (Some(last), Some(next)) => {
                !next.fence.admits_over(&last.fence)
                    || next.fence == last.fence && next.revision < last.revision
            }
            (Some(_), None) => true,
            (None, _) => false,
        };
        if goes_back {
            let node = &self.hosts[host].node;
            return self
                .violated(format!("the ledger of {node} goes back from {last:?} to {:?}", ledger.accepted));
        }
        if last != ledger.accepted {
            self.rules.accepted.insert(host, (ledger.accepted.clone(), last));
        }
    }

    /// An agent says yes to a push: what it acts on is on its disk. What a master knows to be gone, it may
    /// have forgotten only in memory.
    pub fn rules_on_disk(&mut self, host: usize, acts_on: &Ledger) {
        let disk = &self.hosts[host].ledger;
        let is_there = disk.accepted == acts_on.accepted
            && disk.assignments == acts_on.assignments
            && disk.unlisted == acts_on.unlisted
            && acts_on.removals.iter().all(|(id, grace_s)| disk.removals.get(id) == Some(grace_s));
        if !is_there {
            let node = &self.hosts[host].node;
            self.violated(format!("{node} accepts a push, and its disk says something else than it acts on"));
        }
    }

    /// An agent says yes to a push: it was admitted, and a change builds on what was there.
    pub fn rules_accepts(&mut self, host: usize, push: &PushHead) {
        let node = self.hosts[host].node.clone();
        let (now, before) = self.rules.accepted.entry(host).or_default().clone();
        let key = (host, push.fence.leader.to_string(), push.fence.epoch.0, push.revision);
        let again = self.rules.applied.contains(&key);
        let Some(now) = now else {
            return self.violated(format!("{node} accepts a push without writing it down"));
        };
        let of_lost_host = |leader| self.lost.as_ref().is_some_and(|lost| lost.led_as(leader));
        let followed_another = before.as_ref().is_some_and(|before| !of_lost_host(&before.fence.leader));
        if followed_another && of_lost_host(&push.fence.leader) {
            return self.violated(format!("{node} follows the master of the lost host, whose state is old"));
        }
        if !push.fence.admits_over(&now.fence) {
            return self
                .violated(format!("{node} follows epoch {} after {}", push.fence.epoch, now.fence.epoch));
        }
        if let Some(base) = push.base.filter(|_| !again && now.revision == push.revision) {
            let builds = before.is_some_and(|before| before.fence == push.fence && before.revision == base);
            if !builds {
                return self.violated(format!(
                    "{node} applies change {} to something else than its base {base}",
                    push.revision
                ));
            }
        }
        self.rules.applied.insert(key);
    }

    /// An agent registers with what it has accepted: never less than it has on disk, or had just before.
    pub fn rules_reports_accepted(&mut self, host: usize, reported: Option<&Accepted>) {
        let (now, before) = self.rules.accepted.entry(host).or_default().clone();
        if reported != now.as_ref() && reported != before.as_ref() {
            let node = &self.hosts[host].node;
            self.violated(format!("{node} says it has accepted {reported:?}, but it has {now:?}"));
        }
    }

    /// A container runs. While nothing fails, a service never has more of them
    /// than it wants and an update may add.
    pub fn rules_runs(&mut self, container: &Container) {
        let Some(id) = labels::replica(&container.name, &container.labels) else { return };
        let name = id.service().to_owned();
        if self.rules.only_made.contains(&id) {
            return self.violated(format!("{id} runs, and was only to be made ready"));
        }
        self.rules.stopped_alone.remove(&id);
        self.rules.ran.insert(id);
        self.now_serves(&name);
        if !self.profile.is_calm() {
            return;
        }
        let Some((_, record)) = self.rules.stored.get(name.as_str()) else { return };
        let up = |id: &ReplicaId| self.hosts.iter().any(|host| host.engine.runs(id));
        // What crashes is replaced at once, and takes nobody's place while it happens to be up.
        let fails = |image: &str| {
            [CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE].iter().any(|bad| image.contains(bad))
        };
        let crashes = |r: &&ReplicaRecord| fails(&record.assignment(r).template.image.pinned());
        let running = record.wanted().filter(|replica| !crashes(replica) && up(&replica.id)).count();
        let replicas = record.spec.replicas;
        // An update that was under way when the service was scaled down ends with the surge it began with.
        let log = self.rules.log.get(name.as_str()).into_iter().flatten();
        let ever =
            log.filter_map(|(_, record)| Some(record.as_ref()?.spec.replicas)).max().unwrap_or(replicas);
        let asked = self.user.updates_of.get(name.as_str()).into_iter().flatten();
        let surge = asked.map(|update| update.surge(ever)).max().unwrap_or(1);
        let most = (replicas + ever.div_ceil(4).max(surge)) as usize;
        if running > most {
            self.violated(format!(
                "{running} of {name} run, {replicas} are wanted, and an update may make that {most}"
            ));
        }
    }

    /// An agent touches a container: it is ours.
    pub fn rules_ours(&mut self, host: usize, container: &Container) {
        // What an agent has asked of the engine is done after its death, and after its ledger was lost.
        let was_of = self.rules.was_of.get(&host).and_then(Option::as_ref);
        let ours = self.hosts[host]
            .ledger
            .cluster
            .iter()
            .chain(was_of)
            .any(|cluster| container.assignment(cluster).is_some());
        if !ours {
            let (node, name) = (&self.hosts[host].node, &container.name);
            self.violated(format!("{node} touches {name}, which is not ours"));
        }
    }

    /// An agent removes a container: it is ours, and a durable record wanted it gone.
    pub fn rules_removal(&mut self, host: usize, container: &Container) {
        self.rules_ours(host, container);
        let node = self.hosts[host].node.clone();
        let name = &container.name;
        let replica = labels::replica(name, &container.labels);
        let unwanted = replica.as_ref().is_some_and(|id| self.is_unwanted(id));
        let left_behind = || replica.as_ref().is_some_and(|id| self.is_left_behind(&node, id));
        if !unwanted && !self.rules.tail_lost && !left_behind() {
            return self
                .violated(format!("{node} removes {name}, and no durable record ever wanted it gone"));
        }
        let named = replica.is_some_and(|id| self.rules.named.contains(&(host, id)));
        if !named && self.hosts[host].began_as != Release::First {
            self.violated(format!("{node} removes {name}, and nobody has named it"));
        }
    }
}
