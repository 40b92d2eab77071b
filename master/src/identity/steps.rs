//! What follows from the CA's record: which CAs members trust, what vouches for the present one, and how a
//! rotation goes on, step by step.

use shef_common::{
    clock::WallMs,
    tls::{CaDigest, digests, validity_of},
};

use super::{AuthorityRecord, FormerCa, NextRecord, Rotation, RotationPhase};

/// How many former CAs are remembered: a chain of certificates has at most so many links.
const MAX_FORMER: usize = 6;

impl AuthorityRecord {
    /// The certificates of the CAs that members trust, as PEM: first the one that signs.
    #[must_use]
    pub fn trusted(&self) -> String {
        let other = match self.rotation.as_ref().map(|rotation| &rotation.phase) {
            None => "",
            Some(RotationPhase::Trust(next)) => &next.certificate,
            Some(RotationPhase::Certificates(previous)) => &previous.certificate,
        };
        format!("{}{other}", self.certificate)
    }

    /// The digests of the CAs that members trust: first the one that signs.
    #[must_use]
    pub fn cas(&self) -> Vec<CaDigest> {
        digests(&self.trusted())
    }

    /// The CAs that sign no more, the latest first.
    pub fn past(&self) -> impl Iterator<Item = &FormerCa> {
        let previous = match self.rotation.as_ref().map(|rotation| &rotation.phase) {
            Some(RotationPhase::Certificates(previous)) => Some(previous),
            Some(RotationPhase::Trust(_)) | None => None,
        };
        previous.into_iter().chain(&self.former)
    }

    /// The past CAs by which the present one is still found.
    pub fn vouching(&self, now: WallMs) -> impl Iterator<Item = (&FormerCa, &str)> {
        let counts = move |cross: &&str| validity_of(cross).is_some_and(|(_, ends)| ends > now);
        // Without a link in between nothing leads on.
        self.past()
            .map_while(move |former| Some((former, former.cross.as_deref().filter(|cross| counts(cross))?)))
            .take(MAX_FORMER)
    }

    /// Whether it is a later state of the CA that `other` is about.
    #[must_use]
    pub fn follows(&self, other: &Self) -> bool {
        let known: Vec<CaDigest> =
            self.cas().into_iter().chain(self.past().flat_map(|past| digests(&past.certificate))).collect();
        self.steps > other.steps && digests(&other.certificate).iter().all(|ca| known.contains(ca))
    }

    /// A rotation begins: members come to trust `next`, too.
    #[must_use]
    pub fn begin(&self, mut next: NextRecord, compromised: bool, begun: WallMs) -> Self {
        if compromised {
            next.cross = None;
        }
        let rotation = Some(Rotation { begun, compromised, phase: RotationPhase::Trust(next) });
        Self { steps: self.steps + 1, rotation, ..self.clone() }
    }

    /// The next step of the rotation; `None`: none is under way.
    #[must_use]
    pub fn advance(&self) -> Option<Self> {
        let Rotation { begun, compromised, phase } = self.rotation.clone()?;
        let steps = self.steps + 1;
        Some(match phase {
            RotationPhase::Trust(next) => {
                let previous = FormerCa { certificate: self.certificate.clone(), cross: next.cross };
                let mut former = self.former.clone();
                if compromised {
                    // Whatever leads to the CA whose key is known to others leads to them.
                    former.iter_mut().for_each(|former| former.cross = None);
                }
                let phase = RotationPhase::Certificates(previous);
                let rotation = Some(Rotation { begun, compromised, phase });
                Self { certificate: next.certificate, sealed: next.sealed, steps, rotation, former }
            }
            RotationPhase::Certificates(previous) => {
                let mut former = vec![previous];
                former.extend(self.former.iter().cloned());
                former.truncate(MAX_FORMER);
                Self { steps, rotation: None, former, ..self.clone() }
            }
        })
    }
}
