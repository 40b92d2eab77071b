//! What every store promises. Run on each of them.

use bytes::Bytes;
use shef_common::ids::{ClusterId, Epoch, Fence, Generation, LeaderId, NodeName, ServiceName, Version};
use shef_master::store::{
    Backup, Key, LeadOutcome, Look, Part, Record, Store, StoreError, Write, WriteOutcome,
    ahead_of_other_stores,
};

/// A leader's identity made of one digit.
pub fn leader(n: u8) -> LeaderId {
    LeaderId::parse(&format!("{n:016x}")).unwrap()
}

/// A cluster's identity made of one digit.
pub fn cluster(n: u8) -> ClusterId {
    ClusterId::parse(&format!("{n:016x}")).unwrap()
}

/// The key of a service.
pub fn service(name: &str) -> Key {
    Key::head(ServiceName::parse(name).unwrap())
}

/// A write that sets.
pub fn set(key: &Key, expect: Option<u64>, value: &str) -> Write {
    Write {
        key: key.clone(),
        expect: expect.map(Version),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }
}

/// A write that deletes.
pub fn delete(key: &Key, expect: u64) -> Write {
    Write { key: key.clone(), expect: Some(Version(expect)), value: None }
}

/// A record.
pub fn record(key: &Key, version: u64, value: &str) -> Record {
    Record { key: key.clone(), version: Version(version), value: Bytes::copy_from_slice(value.as_bytes()) }
}

/// Takes the leadership.
pub async fn lead(store: &dyn Store, n: u8) -> LeadOutcome {
    store.lead(&leader(n), Epoch(0), &cluster(1)).await.unwrap()
}

/// Every promise, one after the other, on a store that is empty at first. `next` is the
/// same store as another master has it. `cut` breaks the connections of `store`, if it has
/// some, and `empty` makes it lose everything behind its back.
pub async fn conforms<F: Future<Output = ()>, C: Future<Output = ()>>(
    store: &dyn Store,
    next: &dyn Store,
    cut: impl Fn() -> C,
    empty: impl Fn() -> F,
) {
    leadership(store).await;
    raising(store).await;
    writes(store).await;
    sending_again_is_harmless(store).await;
    the_parts_of_a_service_are_written_together(store).await;
    fencing(store).await;
    a_lost_leadership_goes_on_writing(store, next, cut).await;
    no_epoch_is_beyond_its_bound(store).await;
    values(store).await;
    emptying(store, &empty).await;
    loading(store, empty).await;
}

async fn leadership(store: &dyn Store) {
    let first = store.lead(&leader(1), Epoch(4), &cluster(1)).await.unwrap();
    assert_eq!(
        (first.fence.epoch, first.was_empty, first.records.len()),
        (Epoch(5), true, 0),
        "above what is asked"
    );
    let second = store.lead(&leader(2), Epoch(0), &cluster(2)).await.unwrap();
    assert_eq!((second.fence.epoch, second.was_empty), (Epoch(6), false), "above what is stored");
    assert_eq!(
        second.cluster,
        cluster(2),
        "a store without services and hosts is free to join another cluster"
    );
    let counters = [set(&Key::Stats, None, "{}")];
    assert_eq!(store.commit(&cluster(1), &second.fence, &counters).await.unwrap(), [WriteOutcome::Done]);
    let third = store.lead(&leader(2), Epoch(0), &cluster(1)).await.unwrap();
    assert_eq!((third.cluster, third.fence.epoch), (cluster(1), Epoch(7)), "counters bind it to none");
    let inhabited = [delete(&Key::Stats, 1), set(&service("member"), None, "1")];
    assert_eq!(store.commit(&cluster(1), &third.fence, &inhabited).await.unwrap(), [WriteOutcome::Done; 2]);
    let fourth = store.lead(&leader(2), Epoch(0), &cluster(9)).await.unwrap();
    assert_eq!(fourth.cluster, cluster(1), "the cluster stays");
    let with_a_ca = [delete(&service("member"), 1), set(&Key::Authority, None, "{}")];
    store.commit(&cluster(1), &fourth.fence, &with_a_ca).await.unwrap();
    let fifth = store.lead(&leader(2), Epoch(0), &cluster(9)).await.unwrap();
    assert_eq!(fifth.cluster, cluster(1), "it stands in the certificates of its CA");
    let raised = store.raise(&fifth.fence, Epoch(0), &cluster(9)).await.unwrap();
    assert_eq!(raised.cluster, cluster(1), "so it does when the epoch is raised");
    store.commit(&cluster(1), &raised.fence, &[delete(&Key::Authority, 1)]).await.unwrap();
    assert_eq!(second.fence.leader, leader(2));
}

/// The epoch is raised for who leads, and for nobody else.
async fn raising(store: &dyn Store) {
    let first = lead(store, 1).await.fence;
    let raised = store.raise(&first, Epoch(0), &cluster(3)).await.unwrap();
    assert_eq!(
        (raised.fence.epoch, &raised.fence.leader),
        (first.epoch.next(), &first.leader),
        "above what is stored"
    );
    assert_eq!(
        raised.cluster,
        cluster(3),
        "a store without services and hosts is free to join another cluster"
    );
    let above = Epoch(raised.fence.epoch.0 + 10);
    let raised = store.raise(&raised.fence, above, &cluster(1)).await.unwrap();
    assert_eq!(raised.fence.epoch, above.next(), "above what is asked");
    store.commit(&cluster(1), &raised.fence, &[set(&service("member"), None, "1")]).await.unwrap();
    let raised = store.raise(&raised.fence, Epoch(0), &cluster(9)).await.unwrap();
    assert_eq!(raised.cluster, cluster(1), "the cluster stays");
    store.commit(&cluster(1), &raised.fence, &[delete(&service("member"), 1)]).await.unwrap();
    let other = lead(store, 2).await.fence;
    for fence in [&first, &raised.fence] {
        let refused = store.raise(fence, Epoch(1_000), &cluster(1)).await;
        assert_eq!(
            refused,
            Err(StoreError::Fenced { stored: other.clone() }),
            "who does not lead any more raises nothing"
        );
    }
    store.check(&other).await.unwrap();
}

async fn writes(store: &dyn Store) {
    let fence = lead(store, 1).await.fence;
    let (a, b, c) = (service("a"), service("b"), Key::Stats);
    let batch = [set(&a, None, "1"), set(&b, None, "1"), set(&c, None, "{}")];
    assert_eq!(store.commit(&cluster(1), &fence, &batch).await.unwrap(), [WriteOutcome::Done; 3]);
    let batch = [set(&a, Some(1), "2"), set(&b, Some(7), "2"), delete(&c, 1)];
    let found = Some(Version(1));
    assert_eq!(
        store.commit(&cluster(1), &fence, &batch).await.unwrap(),
        [WriteOutcome::Done, WriteOutcome::Conflict { found }, WriteOutcome::Done],
        "a conflict stops nothing but itself"
    );
    let conflicts = [set(&a, None, "3"), delete(&b, 9), set(&service("none"), Some(1), "x")];
    assert_eq!(
        store.commit(&cluster(1), &fence, &conflicts).await.unwrap(),
        [
            WriteOutcome::Conflict { found: Some(Version(2)) },
            WriteOutcome::Conflict { found },
            WriteOutcome::Conflict { found: None }
        ]
    );
    let led = lead(store, 1).await;
    assert_eq!(led.records, [record(&a, 2, "2"), record(&b, 1, "1")]);
    let again = [set(&c, None, "{}"), delete(&a, 2), delete(&b, 1)];
    assert_eq!(store.commit(&cluster(1), &led.fence, &again).await.unwrap(), [WriteOutcome::Done; 3]);
    let again = [delete(&c, 1), set(&a, None, "new")];
    assert_eq!(store.commit(&cluster(1), &led.fence, &again).await.unwrap(), [WriteOutcome::Done; 2]);
    assert_eq!(lead(store, 1).await.records, [record(&a, 1, "new")], "a deleted record starts again at 1");
    assert_eq!(store.commit(&cluster(1), &lead(store, 1).await.fence, &[]).await.unwrap(), []);
}

async fn sending_again_is_harmless(store: &dyn Store) {
    let fence = lead(store, 1).await.fence;
    let (a, d) = (service("a"), service("d"));
    for batch in [[set(&a, Some(1), "2"), set(&d, None, "1")], [delete(&a, 2), set(&d, Some(1), "2")]] {
        for _ in 0..3 {
            assert_eq!(store.commit(&cluster(1), &fence, &batch).await.unwrap(), [WriteOutcome::Done; 2]);
        }
    }
    let other_value = [set(&d, Some(1), "other")];
    let found = Some(Version(2));
    assert_eq!(
        store.commit(&cluster(1), &fence, &other_value).await.unwrap(),
        [WriteOutcome::Conflict { found }]
    );
    let led = lead(store, 1).await;
    assert_eq!(led.records, [record(&d, 2, "2")]);
    store.commit(&cluster(1), &led.fence, &[delete(&d, 2)]).await.unwrap();
}

async fn the_parts_of_a_service_are_written_together(store: &dyn Store) {
    let fence = lead(store, 1).await.fence;
    let part = |part| Key::Service(ServiceName::parse("web").unwrap(), part);
    let (head, template) = (part(Part::Head), part(Part::Template(Generation(1))));
    let (page, other) = (part(Part::Slots(0)), service("web-2"));
    let first =
        [set(&head, None, "1"), set(&template, None, "1"), set(&page, None, "1"), set(&other, None, "1")];
    let commit = async |writes: &[Write]| store.commit(&cluster(1), &fence, writes).await.unwrap();
    assert_eq!(commit(&first).await, [WriteOutcome::Done; 4]);
    // The page fits and the head does not: neither is written, and the other service is.
    let found = Some(Version(1));
    let torn =
        [set(&head, Some(7), "2"), delete(&template, 1), set(&page, Some(1), "2"), set(&other, Some(1), "2")];
    let outcomes = [
        WriteOutcome::Conflict { found },
        WriteOutcome::Withheld,
        WriteOutcome::Withheld,
        WriteOutcome::Done,
    ];
    assert_eq!(commit(&torn).await, outcomes);
    let stored =
        [record(&head, 1, "1"), record(&template, 1, "1"), record(&page, 1, "1"), record(&other, 2, "2")];
    let led = lead(store, 1).await;
    assert_eq!(led.records, stored, "the parts of a service are neighbours");
    // A part that is there already holds up none of the others.
    let commit = async |writes: &[Write]| store.commit(&cluster(1), &led.fence, writes).await.unwrap();
    let again = [set(&template, None, "1"), set(&page, Some(1), "2")];
    assert_eq!(commit(&again).await, [WriteOutcome::Done; 2]);
    let gone = [delete(&head, 1), delete(&template, 1), delete(&page, 2), delete(&other, 2)];
    assert_eq!(commit(&gone).await, [WriteOutcome::Done; 4]);
    assert_eq!(lead(store, 1).await.records, []);
}

async fn fencing(store: &dyn Store) {
    let old = lead(store, 1).await.fence;
    let new = lead(store, 2).await.fence;
    let impostor = Fence { epoch: new.epoch, leader: leader(3) };
    for fence in [&old, &impostor] {
        let fenced = StoreError::Fenced { stored: new.clone() };
        assert_eq!(store.check(fence).await, Err(fenced.clone()));
        assert_eq!(store.commit(&cluster(1), fence, &[set(&service("a"), None, "x")]).await, Err(fenced));
    }
    assert_eq!(store.check(&new).await, Ok(()));
    // As after the loss of the tail in which this leadership was taken.
    let forgotten = Fence { epoch: new.epoch.next(), leader: leader(2) };
    assert_eq!(store.check(&forgotten).await, Ok(()));
    let member = service("of-the-tail");
    store.commit(&cluster(7), &forgotten, &[set(&member, None, "x")]).await.unwrap();
    assert_eq!(store.check(&new).await, Err(StoreError::Fenced { stored: forgotten }));
    let led = lead(store, 2).await;
    assert_eq!(led.cluster, cluster(7), "and so was the cluster that was joined");
    store.commit(&cluster(7), &led.fence, &[delete(&member, 1)]).await.unwrap();
    assert_eq!(lead(store, 2).await.records, []);
}

/// Sessions and other traces of the leader before say nothing about the one whose leadership the store has
/// lost.
async fn a_lost_leadership_goes_on_writing<C: Future<Output = ()>>(
    store: &dyn Store,
    next: &dyn Store,
    cut: impl Fn() -> C,
) {
    let old = lead(store, 1).await.fence;
    let a = service("a");
    for n in 0..4_u64 {
        let write = [set(&a, (n > 0).then_some(n), &n.to_string())];
        assert_eq!(store.commit(&cluster(1), &old, &write).await.unwrap(), [WriteOutcome::Done]);
        cut().await;
    }
    // The next master took the leadership, and the store lost the tail in which it did.
    let new = Fence { epoch: old.epoch.next(), leader: leader(2) };
    for n in 4..7_u64 {
        let write = [set(&a, Some(n), &n.to_string())];
        assert_eq!(next.commit(&cluster(1), &new, &write).await, Ok(vec![WriteOutcome::Done]), "write {n}");
        assert_eq!(next.check(&new).await, Ok(()));
    }
    assert_eq!(store.commit(&cluster(1), &old, &[]).await, Err(StoreError::Fenced { stored: new.clone() }));
    assert_eq!(next.commit(&cluster(1), &new, &[delete(&a, 7)]).await, Ok(vec![WriteOutcome::Done]));
}

/// An epoch that leaves none for the next leader is refused, and changes nothing.
async fn no_epoch_is_beyond_its_bound(store: &dyn Store) {
    let led = lead(store, 1).await;
    for absurd in [Epoch::MAX, Epoch(u64::MAX - 1), Epoch(u64::MAX)] {
        let refused = store.lead(&leader(2), absurd, &cluster(1)).await.unwrap_err();
        assert!(refused.to_string().contains("leaves none for the next leader"), "{refused}");
        let backup = Backup {
            cluster: cluster(5),
            fence: Fence { epoch: absurd, leader: leader(8) },
            records: vec![],
        };
        let refused = store.load(&backup, true).await.unwrap_err();
        assert!(refused.to_string().contains("leaves none for the next leader"), "{refused}");
        assert_eq!(store.check(&led.fence).await, Ok(()));
    }
    // The last epoch but one is followed by the last, and that one by a backup.
    let last = store.lead(&leader(1), Epoch(Epoch::MAX.0 - 1), &cluster(1)).await.unwrap().fence;
    assert_eq!((last.epoch, store.check(&last).await), (Epoch::MAX, Ok(())));
    let refused = store.lead(&leader(1), Epoch(0), &cluster(1)).await.unwrap_err();
    assert!(refused.to_string().contains("leaves none for the next leader"), "{refused}");
    let backup =
        Backup { cluster: cluster(1), fence: Fence { epoch: Epoch(7), leader: leader(8) }, records: vec![] };
    let repaired = ahead_of_other_stores(Epoch(7)).next();
    assert_eq!(store.load(&backup, true).await.unwrap().epoch, repaired, "a backup repairs it");
    assert_eq!(lead(store, 1).await.fence.epoch, repaired.next());
}

async fn values(store: &dyn Store) {
    let fence = lead(store, 1).await.fence;
    let node = Key::Node(NodeName::parse("h1.example.org").unwrap());
    let odd = "{\"text\":\"a b\\u0000 é \u{1f980} 'x' \\n\"}";
    let long = "x".repeat(300_000);
    let mut batch =
        vec![set(&node, None, odd), set(&service("long"), None, &long), set(&service("empty"), None, "")];
    // One of every kind.
    let others = ["service/parts/template/1", "service/parts/slots/0", "registry/a.b", "token/t", "stats"];
    let others = others.into_iter().chain(["identity/00000000000000a1", "authority/ca"]);
    batch.extend(others.map(|key| set(&key.parse().unwrap(), None, "{}")));
    batch.extend((0..2_500).map(|n| set(&service(&format!("n-{n:04}")), None, "{}")));
    let outcomes = store.commit(&cluster(1), &fence, &batch).await.unwrap();
    assert!(outcomes.iter().all(|o| *o == WriteOutcome::Done));
    let led = lead(store, 1).await;
    let mut wanted: Vec<_> = batch
        .iter()
        .map(|w| Record { key: w.key.clone(), version: Version(1), value: w.value.clone().unwrap() })
        .collect();
    wanted.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(led.records, wanted, "everything comes back as it was, in the order of the keys");
    let look = store.look().await.unwrap();
    assert_eq!((look.cluster, look.records), (Some(cluster(1)), wanted));
    assert_eq!(store.check(&led.fence).await, Ok(()), "who looks takes no lead");
    let deletes: Vec<_> = batch.iter().map(|w| delete(&w.key, 1)).collect();
    store.commit(&cluster(1), &led.fence, &deletes).await.unwrap();
    assert_eq!(lead(store, 1).await.records, []);
}

async fn emptying<F: Future<Output = ()>>(store: &dyn Store, empty: &impl Fn() -> F) {
    let fence = lead(store, 1).await.fence;
    let records: Vec<_> = (0..2_500)
        .map(|n| record(&service(&format!("n-{n:04}")), n + 1, &format!("{{\"n\": {n}}}")))
        .collect();
    assert_eq!(store.restore(&cluster(1), &fence, &records).await, Err(StoreError::NotEmpty));
    empty().await;
    assert_eq!(store.check(&fence).await, Err(StoreError::Emptied));
    assert_eq!(store.look().await, Ok(Look::default()));
    let write = [set(&service("a"), None, "x")];
    assert_eq!(store.commit(&cluster(1), &fence, &write).await, Err(StoreError::Emptied));
    assert_eq!(store.restore(&cluster(1), &fence, &records).await, Ok(()));
    assert_eq!(store.restore(&cluster(1), &fence, &records).await, Err(StoreError::NotEmpty));
    assert_eq!(store.check(&fence).await, Ok(()));
    let led = lead(store, 1).await;
    assert_eq!((led.cluster, led.fence.epoch, led.was_empty), (cluster(1), fence.epoch.next(), false));
    assert_eq!(led.records, records);
}

async fn loading<F: Future<Output = ()>>(store: &dyn Store, empty: impl Fn() -> F) {
    let led = lead(store, 1).await;
    assert!(!led.records.is_empty());
    let records: Vec<_> = (0..2_500)
        .map(|n| record(&service(&format!("b-{n:04}")), n + 1, &format!("{{\"n\": {n}}}")))
        .collect();
    let mut backup =
        Backup { cluster: cluster(5), fence: Fence { epoch: Epoch(1), leader: leader(8) }, records };
    assert_eq!(store.load(&backup, false).await, Err(StoreError::NotEmpty));
    assert_eq!(store.check(&led.fence).await, Ok(()), "a refusal changes nothing");

    let fence = store.load(&backup, true).await.unwrap();
    let above = led.fence.epoch.max(ahead_of_other_stores(backup.fence.epoch)).next();
    assert_eq!(fence, Fence { epoch: above, leader: LeaderId::none() });
    let fenced = Err(StoreError::Fenced { stored: fence.clone() });
    assert_eq!(store.check(&led.fence).await, fenced, "a running master finds itself fenced");
    let found = lead(store, 1).await;
    assert_eq!((found.cluster, found.fence.epoch, found.was_empty), (cluster(5), fence.epoch.next(), false));
    assert_eq!(found.records, backup.records, "nothing else is left");

    empty().await;
    backup.fence.epoch = Epoch(900);
    let ahead = ahead_of_other_stores(Epoch(900)).next();
    assert_eq!(store.load(&backup, false).await.unwrap().epoch, ahead, "far above the backup's");
    assert_eq!(lead(store, 1).await.records, backup.records);
    backup.records.clear();
    assert_eq!(store.load(&backup, true).await.unwrap().epoch, Epoch(ahead.0 + 2));
    let last = store.load(&backup, false).await.unwrap().epoch;
    assert_eq!(last.0, ahead.0 + 3, "a leadership alone is nothing to lose");
    assert_eq!(lead(store, 1).await.records, []);
}
