//! How a push is written: with a template inside of every assignment, as version 0.1 has it, or with each
//! template once, and its number in place of it in the assignments that share it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::value::{RawValue, to_raw_value};

use super::{Assignment, LedgerDigest, Push};
use crate::{
    fields,
    ids::{ClusterId, Fence, ReplicaId, Revision},
    image::ImageRef,
    registry::{Credentials, RegistryHost},
    spec::Template,
};

/// The most bytes of a push to an agent that takes pushes in parts.
pub const MAX_PUSH_BYTES: usize = 1024 * 1024;
/// The most bytes that the templates of a push come to if each assignment had its own: an agent's ledger
/// writes them so. It is the bound on a push that shares none.
pub const MAX_WRITTEN_OUT_BYTES: usize = 32 * 1024 * 1024;

/// The value of `base` in a push with each template once and without a base. Agents of version 0.1, which may
/// still get one right after a downgrade, take no base for a snapshot, and remove what that does not list; a
/// base that they do not have they refuse.
const NO_BASE: Revision = Revision::MAX;

/// Stands in an assignment for a template that is elsewhere.
pub(super) fn placeholder() -> Arc<Template> {
    static PLACEHOLDER: LazyLock<Arc<Template>> = LazyLock::new(|| {
        let image = ImageRef::parse("elsewhere").unwrap_or_else(|error| unreachable!("{error}"));
        Arc::new(Template::of(image))
    });
    PLACEHOLDER.clone()
}

/// A push as it is written.
#[derive(Serialize, Deserialize)]
struct WirePush {
    cluster: ClusterId,
    fence: Fence,
    base: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds: Option<LedgerDigest>,
    revision: Revision,
    /// The templates that assignments name by their numbers; `None`: each assignment has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    templates: Option<Vec<Box<RawValue>>>,
    set: Vec<Box<RawValue>>,
    remove: Vec<ReplicaId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_name: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    credentials: BTreeMap<RegistryHost, Credentials>,
}

/// The part of an assignment that says where its template is.
#[derive(Deserialize)]
struct TemplateOf<'a> {
    #[serde(borrow)]
    template: &'a RawValue,
}

/// Why a push cannot be read.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("an assignment refers to template {number}, but the push has {count}")]
    NoSuchTemplate { number: usize, count: usize },
    #[error("the templates of the assignments come to more than {MAX_WRITTEN_OUT_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Serialize for Push {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written = if self.templates_once { share(&self.set) } else { write(&self.set) };
        let (templates, set) = written.map_err(S::Error::custom)?;
        let wire = WirePush {
            cluster: self.cluster.clone(),
            fence: self.fence.clone(),
            base: if self.templates_once { Some(self.base.unwrap_or(NO_BASE)) } else { self.base },
            holds: self.holds,
            revision: self.revision,
            templates,
            set,
            remove: self.remove.clone(),
            by_name: self.by_name,
            credentials: self.credentials.clone(),
        };
        wire.serialize(to)
    }
}

type Written = (Option<Vec<Box<RawValue>>>, Vec<Box<RawValue>>);

fn write(set: &[Assignment]) -> serde_json::Result<Written> {
    Ok((None, set.iter().map(to_raw_value).collect::<Result<_, _>>()?))
}

/// Writes each template once. One of a newer version stays in its assignment, as it came.
fn share(set: &[Assignment]) -> serde_json::Result<Written> {
    let (mut templates, mut written) = (Vec::new(), Vec::with_capacity(set.len()));
    // The same template is nearly always the same in memory as well.
    let mut by_place: HashMap<*const Template, usize> = HashMap::new();
    let mut by_text: HashMap<String, usize> = HashMap::new();
    for assignment in set {
        if assignment.template.not_understood.is_some() {
            written.push(to_raw_value(assignment)?);
            continue;
        }
        let place = Arc::as_ptr(&assignment.template);
        let number = match by_place.get(&place) {
            Some(number) => *number,
            None => {
                let text = to_raw_value(&*assignment.template)?;
                let number = *by_text.entry(text.get().to_owned()).or_insert_with(|| {
                    templates.push(text);
                    templates.len() - 1
                });
                by_place.insert(place, number);
                number
            }
        };
        let mut value = serde_json::to_value(Assignment { template: placeholder(), ..assignment.clone() })?;
        value["template"] = number.into();
        written.push(to_raw_value(&value)?);
    }
    Ok((Some(templates), written))
}

impl<'de> Deserialize<'de> for Push {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        let wire = WirePush::deserialize(serde_ignored::Deserializer::new(from, &mut note))?;
        let mut push = wire.read().map_err(D::Error::custom)?;
        if !unknown.is_empty() {
            for assignment in &mut push.set {
                assignment.template = fields::not_understood(&assignment.template, &unknown).into();
            }
        }
        Ok(push)
    }
}

impl WirePush {
    fn read(self) -> Result<Push, Malformed> {
        let templates_once = self.templates.is_some();
        let shared = Shared::read(self.templates.unwrap_or_default())?;
        Ok(Push {
            set: shared.assignments(&self.set)?,
            cluster: self.cluster,
            fence: self.fence,
            base: self.base.filter(|base| !templates_once || *base != NO_BASE),
            holds: self.holds,
            revision: self.revision,
            remove: self.remove,
            by_name: self.by_name,
            credentials: self.credentials,
            templates_once,
        })
    }
}

/// The templates that a push has once.
struct Shared(Vec<(Arc<Template>, Box<RawValue>)>);

impl Shared {
    fn read(templates: Vec<Box<RawValue>>) -> Result<Self, Malformed> {
        let read = |raw: Box<RawValue>| Ok((Arc::new(fields::read_template(raw.get())?), raw));
        Ok(Self(templates.into_iter().map(read).collect::<Result<_, serde_json::Error>>()?))
    }

    fn assignments(&self, set: &[Box<RawValue>]) -> Result<Vec<Assignment>, Malformed> {
        let mut written_out = 0_usize;
        let mut read = Vec::with_capacity(set.len());
        for raw in set {
            let number = serde_json::from_str::<TemplateOf<'_>>(raw.get())?.template.get().parse::<usize>();
            let Ok(number) = number else {
                read.push(serde_json::from_str(raw.get())?);
                continue;
            };
            let count = self.0.len();
            let (template, text) = self.0.get(number).ok_or(Malformed::NoSuchTemplate { number, count })?;
            written_out = written_out.saturating_add(text.get().len());
            if written_out > MAX_WRITTEN_OUT_BYTES {
                return Err(Malformed::TooLarge);
            }
            read.push(assignment(raw, template, text)?);
        }
        Ok(read)
    }
}

/// Reads an assignment whose template is `template`, which was written as `text`.
fn assignment(raw: &RawValue, template: &Arc<Template>, text: &RawValue) -> serde_json::Result<Assignment> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(raw.get())?;
    fields.insert("template".to_owned(), to_raw_value(&*placeholder())?);
    let read: Assignment = serde_json::from_str(&serde_json::to_string(&fields)?)?;
    if read.template.not_understood.is_none() {
        return Ok(Assignment { template: template.clone(), ..read });
    }
    // It is of a newer version, and is kept as it would have come with its template.
    fields.insert("template".to_owned(), text.to_owned());
    serde_json::from_str(&serde_json::to_string(&fields)?)
}

#[cfg(test)]
mod tests;
