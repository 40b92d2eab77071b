//! How large what a service keeps beside its slots may become: its head and its templates. A request that
//! would make it larger is refused, so that whatever follows from an accepted one can be stored and held in
//! memory.

use super::{record::ServiceRecord, stored};

/// The most bytes that the head and the templates of a service may have together.
pub const MAX_RECORD_BYTES: usize = 8 << 20;

/// Brings the record below the bound by forgetting the oldest generations that could be gone back to. Returns
/// how many bytes it has if that is not enough.
pub fn fit(record: &mut ServiceRecord) -> Result<(), usize> {
    let mut bytes = stored::bytes_without_slots(record);
    while bytes > MAX_RECORD_BYTES {
        if record.history.is_empty() {
            return Err(bytes);
        }
        record.history.remove(0);
        record.forget_unused();
        bytes = stored::bytes_without_slots(record);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shef_common::{
        clock::WallMs,
        ids::{Generation, ServiceName, Version},
        image::ImageRef,
        spec::{ServiceSpec, Template},
    };

    use super::*;
    use crate::service::{
        conflict::Conflict,
        request::{Change, Expect, Refused, Request},
        rollout::Terms,
    };

    /// A service whose template has so many bytes, and differs by its number.
    fn spec(number: usize, bytes: usize) -> ServiceSpec {
        let mut template = Template::of(ImageRef::parse("app").unwrap());
        template.env.insert("A".into(), format!("{number:08}{}", "x".repeat(bytes)));
        ServiceSpec::of(ServiceName::parse("web").unwrap(), 1, template)
    }
    const TERMS: Terms = Terms { good: true, history_limit: 100 };

    #[test]
    fn a_record_forgets_the_oldest_generations_before_it_is_too_large() {
        let mut record = None;
        for number in 0..30 {
            let put = Request::Put { spec: spec(number, 600_000), expect: Expect::Any };
            put.apply(&mut record, Version(1), WallMs(0), TERMS).unwrap();
            // Nothing runs any more of the generations before.
            let record = record.as_mut().unwrap();
            record.rollout = None;
            record.forget_unused();
            assert!(stored::bytes_without_slots(record) <= MAX_RECORD_BYTES);
        }
        let record = record.unwrap();
        assert_eq!(record.generation, Generation(30));
        assert!((5..30).contains(&record.history.len()), "{}", record.history.len());
        assert_eq!(record.history.last().unwrap().generation, Generation(29), "the latest stay");
    }

    #[test]
    fn a_request_that_makes_a_record_too_large_is_refused() {
        let mut live = ServiceRecord::new(spec(0, 10), WallMs(0));
        // Hosts still hold replicas of many large generations.
        for number in 1..=50 {
            let template = spec(number, 200_000).template;
            live.earlier.insert(Generation(number as u64), Arc::clone(&template));
            let id = shef_common::ids::ReplicaId::new(&live.spec.name, u32::try_from(number).unwrap());
            live.replicas.push(crate::service::record::ReplicaRecord {
                id,
                slot: shef_common::ids::Slot(0),
                generation: Generation(number as u64),
                node: shef_common::ids::NodeName::parse("h1").unwrap(),
                want: crate::service::record::Want::Remove,
                attempt: 0,
                moving: false,
                done: None,
            });
        }
        live.generation = Generation(60);
        let mut record = Some(live);
        let before = record.clone();
        let change = Change(serde_json::from_str(r#"{"image": "app:2"}"#).unwrap());
        let refused =
            Request::Change { change, expect: Expect::Any }.apply(&mut record, Version(1), WallMs(0), TERMS);
        let Err(Refused::Conflict(Conflict::TooLarge(bytes))) = refused else { panic!("{refused:?}") };
        assert!(bytes > MAX_RECORD_BYTES, "{bytes}");
        assert_eq!(record, before, "a refusal changes nothing");
        let deleted =
            Request::Delete { expect: Expect::Any }.apply(&mut record, Version(1), WallMs(0), TERMS);
        assert!(deleted.is_ok(), "{deleted:?}");
    }
}
