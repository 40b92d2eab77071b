//! Fingerprints of assignments, and the digest of a ledger.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use serde_json::Value;

use super::{Assignment, wire_push::placeholder};
use crate::{bounds, fields, spec::Template};

/// Stands in an assignment of a push for a template that is elsewhere in it.
const NUMBER_OF_TEMPLATE: &str = r#","template":1000000"#;

/// Identifies all assignments of a host's ledger: their number, and the sum of their fingerprints. Adding and
/// removing assignments one by one gives the same digest in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LedgerDigest {
    /// How many assignments.
    #[serde(deserialize_with = "bounds::number")]
    pub count: u64,
    /// The sum of their fingerprints, without what goes beyond 128 bits: 32 hexadecimal digits.
    #[serde(serialize_with = "write_sum", deserialize_with = "read_sum")]
    #[schemars(with = "String")]
    pub sum: u128,
}

impl LedgerDigest {
    /// The ledger holds one assignment more.
    pub const fn add(&mut self, fingerprint: &Fingerprint) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(fingerprint.hash);
    }

    /// The ledger holds one assignment less.
    pub const fn subtract(&mut self, fingerprint: &Fingerprint) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(fingerprint.hash);
    }

    /// The digest of these assignments, from scratch.
    pub fn of<'a>(assignments: impl IntoIterator<Item = &'a Assignment>) -> Self {
        let (mut digest, mut prints) = (Self::default(), Fingerprints::default());
        assignments.into_iter().for_each(|assignment| digest.add(&prints.of(assignment)));
        digest
    }
}

fn write_sum<S: Serializer>(sum: &u128, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{sum:032x}"))
}

fn read_sum<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
    let text = String::deserialize(from)?;
    let is_hex = text.len() == 32 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    let sum = is_hex.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
    sum.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        D::Error::custom(format!("a digest must be 32 hexadecimal digits, but is {shown:?}"))
    })
}

/// Distinguishes an assignment from every other, and says how many bytes it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The first half of the SHA-256 of its JSON.
    pub hash: u128,
    /// The same of its template.
    pub template: u128,
    /// The bytes of its JSON, but for the template.
    pub head_bytes: usize,
    /// The bytes of its template's JSON.
    pub template_bytes: usize,
}

/// Takes fingerprints of assignments. The template of the last one is remembered: those that follow each
/// other often share it.
#[derive(Debug, Default)]
pub struct Fingerprints {
    last: Option<(Arc<Template>, u128, usize)>,
}

impl Fingerprints {
    /// The fingerprint of `assignment`. It depends on the fields, not on their order. So it is the same for a
    /// version that understands all of them and for an older one that keeps them as they came.
    pub fn of(&mut self, assignment: &Assignment) -> Fingerprint {
        let (template, template_bytes) = self.of_template(&assignment.template);
        let mut head = if assignment.template.not_understood.is_some() {
            value(assignment)
        } else {
            value(&Assignment { template: placeholder(), ..assignment.clone() })
        };
        head.as_object_mut().map(|fields| fields.remove("template"));
        let head = head.to_string();
        let mut all = template.to_be_bytes().to_vec();
        all.extend(head.as_bytes());
        let head_bytes = head.len() + NUMBER_OF_TEMPLATE.len();
        Fingerprint { hash: half_sha256(&all), template, head_bytes, template_bytes }
    }

    fn of_template(&mut self, template: &Arc<Template>) -> (u128, usize) {
        if let Some((last, hash, bytes)) = &self.last
            && Arc::ptr_eq(last, template)
        {
            return (*hash, *bytes);
        }
        let json = value(&AsWritten(template)).to_string();
        let (hash, bytes) = (half_sha256(json.as_bytes()), json.len());
        self.last = Some((template.clone(), hash, bytes));
        (hash, bytes)
    }
}

struct AsWritten<'a>(&'a Arc<Template>);

impl Serialize for AsWritten<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        fields::serialize_template(self.0, to)
    }
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_else(|error| unreachable!("an assignment is plain data: {error}"))
}

fn half_sha256(bytes: &[u8]) -> u128 {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        ids::{Generation, ReplicaId, ServiceName, Slot},
        image::ImageRef,
        spec::OnDisconnect,
    };

    fn assignment(n: u32, image: &str) -> Assignment {
        let service = ServiceName::parse("web").unwrap();
        Assignment {
            replica: ReplicaId::new(&service, n),
            service,
            slot: Slot(n),
            generation: Generation(1),
            template: Template::of(ImageRef::parse(image).unwrap()).into(),
            on_disconnect: OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        }
    }

    #[test]
    fn what_is_added_and_taken_away_leaves_the_digest_of_what_is_left() {
        let all: Vec<_> = (0..5).map(|n| assignment(n, "app")).collect();
        let mut prints = Fingerprints::default();
        let mut digest = LedgerDigest::default();
        all.iter().for_each(|one| digest.add(&prints.of(one)));
        assert_eq!(digest, LedgerDigest::of(all.iter().rev()), "order does not matter");
        digest.subtract(&prints.of(&all[2]));
        assert_eq!(digest, LedgerDigest::of(all.iter().filter(|one| one.slot != Slot(2))));
    }

    #[test]
    fn every_field_of_an_assignment_and_of_its_template_counts() {
        let one = assignment(1, "app");
        let mut changed = vec![assignment(2, "app"), assignment(1, "app:2")];
        changed.push(Assignment { slot: Slot(7), ..one.clone() });
        changed.push(Assignment { generation: Generation(2), ..one.clone() });
        changed.push(Assignment { prepare: true, ..one.clone() });
        changed.push(Assignment { on_disconnect: OnDisconnect::StopAfter { seconds: 60 }, ..one.clone() });
        let of = |one: &Assignment| Fingerprints::default().of(one).hash;
        for other in &changed {
            assert_ne!(of(&one), of(other), "{other:?}");
        }
        assert_eq!(of(&one), of(&assignment(1, "app")), "another copy of the template is the same one");
    }

    #[test]
    fn a_version_that_does_not_understand_a_field_has_the_same_fingerprint() {
        let known = Assignment {
            template: Template { tty: true, ..Template::of(ImageRef::parse("app").unwrap()) }.into(),
            ..assignment(1, "app")
        };
        let written = serde_json::to_value(&known).unwrap();
        let mut newer_head = written.clone();
        newer_head["new"] = json!([1]);
        let mut newer_template = written.clone();
        newer_template["template"]["new"] = json!(0.5);
        let mut newer_both = newer_head.clone();
        newer_both["template"]["new"] = json!({"b": 1, "a": "word"});
        assert_eq!(fingerprint_of_text(&written), Fingerprints::default().of(&known).hash);
        for newer in [newer_head, newer_template, newer_both] {
            let read: Assignment = serde_json::from_value(newer.clone()).unwrap();
            assert!(read.template.not_understood.is_some(), "{newer}");
            assert_eq!(Fingerprints::default().of(&read).hash, fingerprint_of_text(&newer), "{newer}");
            // In a push, and in a ledger.
            let kept: Assignment = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
            assert_eq!(Fingerprints::default().of(&kept).hash, fingerprint_of_text(&newer), "{newer}");
        }
    }

    /// The fingerprint of `assignment` as a version computes it that understands every field.
    fn fingerprint_of_text(assignment: &Value) -> u128 {
        let mut head = assignment.clone();
        let template = head.as_object_mut().unwrap().remove("template").unwrap().to_string();
        let mut all = half_sha256(template.as_bytes()).to_be_bytes().to_vec();
        all.extend(head.to_string().as_bytes());
        half_sha256(&all)
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        let digest = LedgerDigest::of(&[assignment(1, "app")]);
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<LedgerDigest>(&text).unwrap(), digest);
        for sum in ["", "0", "+0000000000000000000000000000001", "0000000000000000000000000000000G"] {
            let refused = serde_json::from_str::<LedgerDigest>(&format!(r#"{{"count":1,"sum":"{sum}"}}"#));
            assert!(refused.unwrap_err().to_string().contains("32 hexadecimal digits"), "{sum}");
        }
        let absurd = r#"{"count":9007199254740992,"sum":"00000000000000000000000000000000"}"#;
        let refused = serde_json::from_str::<LedgerDigest>(absurd).unwrap_err().to_string();
        assert!(refused.contains("must be at most 9007199254740991, but is 9007199254740992"), "{refused}");
    }
}
