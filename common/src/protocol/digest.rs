//! What an assignment is known by, and what a ledger full of them is.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Assignment, wire_push::placeholder};
use crate::{bounds, fields, spec::Template};

/// Stands for all assignments that a host's ledger holds: how many they are, and the sum of their
/// fingerprints. Whoever adds one and takes one away has the digest of what is left, in whatever order.
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

/// What tells one assignment from every other, and how many bytes it takes.
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

/// Takes fingerprints of assignments. The template of the last one is remembered: those that follow each other
/// often share it.
#[derive(Debug, Default)]
pub struct Fingerprints {
    last: Option<(Arc<Template>, u128, usize)>,
}

impl Fingerprints {
    /// The fingerprint of `assignment`.
    pub fn of(&mut self, assignment: &Assignment) -> Fingerprint {
        let (template, template_bytes) = self.of_template(&assignment.template);
        let is_newer = assignment.template.not_understood.is_some();
        // One of a newer version may have more in it than its fields: it is what it came as.
        let head = if is_newer {
            json(assignment)
        } else {
            json(&Assignment { template: placeholder(), ..assignment.clone() })
        };
        let mut all = template.to_be_bytes().to_vec();
        all.extend(&head);
        let head_bytes = if is_newer { head.len().saturating_sub(template_bytes) } else { head.len() };
        Fingerprint { hash: half_sha256(&all), template, head_bytes, template_bytes }
    }

    fn of_template(&mut self, template: &Arc<Template>) -> (u128, usize) {
        if let Some((last, hash, bytes)) = &self.last
            && Arc::ptr_eq(last, template)
        {
            return (*hash, *bytes);
        }
        let json = json(&AsWritten(template));
        let (hash, bytes) = (half_sha256(&json), json.len());
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

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("an assignment is plain data: {error}"))
}

fn half_sha256(bytes: &[u8]) -> u128 {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
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
    fn a_digest_that_is_none_is_refused() {
        let digest = LedgerDigest::of(&[assignment(1, "app")]);
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<LedgerDigest>(&text).unwrap(), digest);
        for sum in ["", "0", "+0000000000000000000000000000001", "0000000000000000000000000000000G"] {
            let refused = serde_json::from_str::<LedgerDigest>(&format!(r#"{{"count":1,"sum":"{sum}"}}"#));
            assert!(refused.unwrap_err().to_string().contains("32 hexadecimal digits"), "{sum}");
        }
        let absurd = r#"{"count":9007199254740992,"sum":"00000000000000000000000000000000"}"#;
        assert!(serde_json::from_str::<LedgerDigest>(absurd).is_err());
    }
}
