//! What is kept so that an event costs what it changes, against the same found from scratch: for tests and
//! the simulator, which ask after every event.

use super::ServiceCore;
use crate::service::{
    bindings, observations::Observations, places::Places, plan::plan, record::ServiceRecord,
    replicas::Replicas, rollout, shown::Shown, slots::slots, view::view,
};

/// Something that is kept is not what looking at everything gives.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {kept}, and from scratch: {from_scratch}")]
pub struct Differs {
    what: &'static str,
    kept: String,
    from_scratch: String,
}

impl ServiceCore {
    /// Whether all that is kept is what looking at everything would give.
    ///
    /// # Errors
    /// The decision that [`Differs`], in both forms.
    pub fn check(&self) -> Result<(), Differs> {
        let Some(record) = &self.record else { return Ok(()) };
        same("places", &self.places, &Places::of(record))?;
        let from_scratch = self.observed.unsettled();
        if !self.hosts_due && !record.spec.mode.is_replicated() {
            same("bindings of hosts", &None, &bindings::next(record, &from_scratch))?;
        }
        check(record, &self.observed, &from_scratch)?;
        let version = self.version().unwrap_or_default();
        let no_host = self.refusal();
        // What readers would be shown next.
        let mut shown = self.shown.clone();
        shown.update(record, self.observed.touched(), &self.places, &self.observed);
        let kept = view(record, version, &self.observed, no_host, &shown);
        same(
            "the view",
            &kept,
            &view(record, version, &from_scratch, no_host, &Shown::of(record, &from_scratch)),
        )?;
        self.step.record().map_or(Ok(()), |draft| check(draft, &self.observed, &from_scratch))
    }
}

/// Whether the same is decided of `record`.
fn check(record: &ServiceRecord, kept: &Observations, from_scratch: &Observations) -> Result<(), Differs> {
    same("replicas", &record.replicas, &record.replicas.iter().cloned().collect::<Replicas>())?;
    same("bindings", &bindings::next(record, kept), &bindings::next(record, from_scratch))?;
    let (slots, all) = (slots(record, kept), slots(record, from_scratch));
    same("the rollout", &rollout::next(record, &slots, kept), &rollout::next(record, &all, from_scratch))?;
    same("the plan", &plan(record, &slots, kept), &plan(record, &all, from_scratch))
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    kept: &T,
    from_scratch: &T,
) -> Result<(), Differs> {
    if kept == from_scratch {
        return Ok(());
    }
    Err(Differs { what, kept: format!("{kept:?}"), from_scratch: format!("{from_scratch:?}") })
}
