//! Services as bodies of answers. They are written part by part, as the reader
//! takes them: an answer holds one part and one service's view at a time, however
//! many services and replicas it shows.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use shef_common::ids::{ReplicaId, ServiceName};

use crate::{
    service::{Cursor, ReplicaView, ServiceView},
    view::ClusterView,
};

/// A part ends once it has this many bytes; the last item that it takes may be longer.
const PART_BYTES: usize = 16 * 1024;

/// A service's view, written with its replicas.
pub struct ServiceParts {
    cluster: Arc<ClusterView>,
    service: Option<Service>,
}

/// A page of services, each read when its turn comes.
pub struct PageParts {
    cluster: Arc<ClusterView>,
    after: Option<ServiceName>,
    left: usize,
    with_replicas: bool,
    service: Option<Service>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    FirstService,
    LaterServices,
    End,
}

/// A service whose replicas are being written.
struct Service {
    view: Arc<ServiceView>,
    next: Cursor,
}

impl ServiceParts {
    /// Writes `view` with its replicas' addresses, which only the hosts and the engines together tell.
    pub fn new(cluster: Arc<ClusterView>, view: Arc<ServiceView>) -> Self {
        Self { cluster, service: Some(Service { view, next: Cursor::default() }) }
    }
}

impl Iterator for ServiceParts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut part = Vec::new();
        while part.len() < PART_BYTES {
            let Some(service) = &mut self.service else { break };
            if !service.write_step(&self.cluster, &mut part) {
                self.service = None;
            }
        }
        (!part.is_empty()).then(|| part.into())
    }
}

impl PageParts {
    /// At most `limit` services after `after`, with their replicas or without.
    pub fn new(
        cluster: Arc<ClusterView>,
        after: Option<ServiceName>,
        limit: usize,
        with_replicas: bool,
    ) -> Self {
        Self { cluster, after, left: limit, with_replicas, service: None, stage: Stage::Start }
    }

    fn write_step(&mut self, part: &mut Vec<u8>) {
        if let Some(service) = &mut self.service {
            if !service.write_step(&self.cluster, part) {
                self.service = None;
            }
            return;
        }
        if self.stage == Stage::Start {
            part.extend_from_slice(b"{\"services\":[");
            self.stage = Stage::FirstService;
            return;
        }
        let Some(view) = self.cluster.services(self.after.as_ref(), 1).pop() else {
            return self.end(part, None);
        };
        if self.left == 0 {
            let last = self.after.clone();
            return self.end(part, last);
        }
        if self.stage == Stage::LaterServices {
            part.push(b',');
        }
        self.stage = Stage::LaterServices;
        self.left -= 1;
        self.after = Some(view.spec.name.clone());
        if self.with_replicas {
            self.service = Some(Service { view, next: Cursor::default() });
        } else {
            write_json(part, &view.head);
        }
    }

    fn end(&mut self, part: &mut Vec<u8>, next: Option<ServiceName>) {
        part.extend_from_slice(b"],\"next\":");
        write_json(part, &next);
        part.push(b'}');
        self.stage = Stage::End;
    }
}

impl Iterator for PageParts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut part = Vec::new();
        while part.len() < PART_BYTES && self.stage != Stage::End {
            self.write_step(&mut part);
        }
        (!part.is_empty()).then(|| part.into())
    }
}

impl Service {
    /// Writes the head, a replica or the end; whether there is more.
    fn write_step(&mut self, cluster: &ClusterView, part: &mut Vec<u8>) -> bool {
        if self.next == Cursor::default() {
            write_json(part, &self.view.head);
            // The head is an object with fields: the replicas are one field more.
            part.pop();
            part.extend_from_slice(b",\"replica_states\":[");
        }
        let Some((replica, next)) = self.view.replica_states.next(self.next) else {
            part.extend_from_slice(b"]}");
            return false;
        };
        if self.next != Cursor::default() {
            part.push(b',');
        }
        self.next = next;
        if replica.ports.is_empty() {
            write_json(part, replica);
        } else {
            write_json(part, &addressed(cluster, replica));
        }
        true
    }
}

/// With the addresses under which its ports are reached.
fn addressed(cluster: &ClusterView, replica: &ReplicaView) -> ReplicaView {
    let host = cluster.host(&replica.node).map(|host| host.view.host.address.into());
    ReplicaView { addresses: replica.ports.iter().map(|port| port.shown(host)).collect(), ..replica.clone() }
}

/// Plain structs of strings and numbers, written to memory: this always works.
fn write_json(part: &mut Vec<u8>, item: &impl Serialize) {
    let _ = serde_json::to_writer(part, item);
}

/// A page of a service's replicas.
#[derive(Serialize, schemars::JsonSchema)]
pub struct ReplicaPage {
    /// The replicas, in the order of their ids.
    replicas: Vec<ReplicaView>,
    /// The id to go on after; null: there are no more.
    next: Option<ReplicaId>,
}

/// At most `limit` replicas after `after`.
pub fn replica_page(
    cluster: &ClusterView,
    view: &ServiceView,
    after: Option<&ReplicaId>,
    limit: usize,
) -> ReplicaPage {
    let comes_after = |replica: &&ReplicaView| after.is_none_or(|after| replica.id > *after);
    let mut replicas: Vec<_> = view.replica_states.iter().filter(comes_after).collect();
    replicas.sort_by(|a, b| a.id.cmp(&b.id));
    let more = replicas.len() > limit;
    replicas.truncate(limit);
    let replicas: Vec<_> = replicas.into_iter().map(|replica| addressed(cluster, replica)).collect();
    let next = if more { replicas.last().map(|replica| replica.id.clone()) } else { None };
    ReplicaPage { replicas, next }
}

/// `parts` as a body; each is made when the connection has room for it.
pub fn body(parts: impl Iterator<Item = Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(parts.map(Ok))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::view::samples;

    /// A cluster with `services` services of `replicas` replicas each.
    fn cluster(services: usize, replicas: usize) -> Arc<ClusterView> {
        let view = ClusterView::default();
        view.show_host(samples::host("h1", 1, 1_000));
        for n in 0..services {
            let (name, shown) = samples::service(&format!("s{n:03}"), &vec!["h1"; replicas]);
            view.show_service(&name, shown);
        }
        Arc::new(view)
    }

    fn read(parts: impl Iterator<Item = Bytes>) -> Value {
        serde_json::from_slice(&parts.collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn what_a_list_builds_does_not_grow_with_the_replicas() {
        let page = |replicas| {
            PageParts::new(cluster(20, replicas), None, 1_000, false).map(|part| part.len()).sum::<usize>()
        };
        // `wanted`, `running` and `replicas` have more digits.
        assert!(page(5_000) < page(1) + 20 * 16, "{} bytes of {}", page(5_000), page(1));
    }

    #[test]
    fn no_more_than_a_part_is_built_ahead_of_its_reader() {
        let (cluster, longest) = (cluster(20, 500), 1_024);
        let mut parts = PageParts::new(cluster.clone(), None, 1_000, true);
        let mut bytes = 0;
        while let Some(part) = parts.next() {
            assert!(part.len() <= PART_BYTES + longest, "a part of {} bytes", part.len());
            bytes += part.len();
            // Nothing beyond the written part is read yet: later services are read when their turn comes.
            let seen = 20 - parts.cluster.services(parts.after.as_ref(), 1_000).len();
            assert!(seen <= bytes / (500 * 100) + 1, "{seen} services read after {bytes} bytes");
        }
        assert!(bytes > 100 * PART_BYTES, "{bytes} bytes are many parts");
    }

    #[test]
    fn pages_show_every_service_once_and_replicas_where_they_are_asked_for() {
        let cluster = cluster(5, 3);
        for with_replicas in [false, true] {
            let (mut names, mut after) = (Vec::new(), None);
            loop {
                let page = read(PageParts::new(cluster.clone(), after, 2, with_replicas));
                for service in page["services"].as_array().unwrap() {
                    names.push(service["name"].as_str().unwrap().to_owned());
                    let replicas = service.get("replica_states").map(|all| all.as_array().unwrap().len());
                    assert_eq!(replicas, with_replicas.then_some(3));
                }
                let Some(next) = page["next"].as_str() else { break };
                after = Some(ServiceName::parse(next).unwrap());
            }
            assert_eq!(names, ["s000", "s001", "s002", "s003", "s004"]);
        }
        let full = read(PageParts::new(cluster.clone(), None, 5, false));
        assert_eq!(
            (full["services"].as_array().unwrap().len(), &full["next"]),
            (5, &Value::Null),
            "a last page says so"
        );
        assert_eq!(
            read(PageParts::new(Arc::default(), None, 5, true)),
            serde_json::json!({"services": [], "next": null})
        );
    }

    #[test]
    fn a_service_is_written_as_its_view_reads() {
        let cluster = cluster(1, 200);
        let view = cluster.service(&ServiceName::parse("s000").unwrap()).unwrap();
        let written: ServiceView =
            serde_json::from_value(read(ServiceParts::new(cluster, view.clone()))).unwrap();
        assert_eq!(written, *view);
    }
}
