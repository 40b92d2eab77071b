//! Encrypting what is secret: ChaCha20-Poly1305, under a key that is handed in. Pure.

use std::fmt;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use shef_common::registry::{Credentials, RegistryHost};

/// How many bytes a key has.
pub const KEY_BYTES: usize = 32;
/// How many random bytes each encryption takes. Never twice the same under one key.
pub const NONCE_BYTES: usize = NONCE_LEN;

/// Encrypts and decrypts under one key.
pub struct Vault {
    seals: LessSafeKey,
    marks: hmac::Key,
    audits: hmac::Key,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// Over `key`; `None` for a key of another length than [`KEY_BYTES`].
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let seals = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
        // One key for one purpose: others are made from it.
        let derived = |purpose: &[u8]| {
            let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), purpose);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        let (marks, audits) = (derived(b"shef: marks of contents"), derived(b"shef: lines of the audit log"));
        Some(Self { seals, marks, audits })
    }

    /// The password in its encrypted form, as hexadecimal digits: the nonce, then what it
    /// encrypts. Bound to registry and user: beside others it cannot be decrypted.
    #[must_use]
    pub fn seal(&self, host: &RegistryHost, shown: &Credentials, nonce: [u8; NONCE_BYTES]) -> Option<String> {
        self.seal_bytes(&label(host, &shown.username), shown.password.clone().into_bytes(), nonce)
    }

    /// What [`Vault::seal`] encrypted; `None`: under another key, or it was changed.
    #[must_use]
    pub fn open(&self, host: &RegistryHost, username: &str, sealed: &str) -> Option<Credentials> {
        let password = self.open_bytes(&label(host, username), sealed)?;
        Some(Credentials { username: username.to_owned(), password: String::from_utf8(password).ok()? })
    }

    /// What tells `bytes` from others, as 64 hexadecimal digits. Without the key nobody can try out which
    /// bytes have it.
    #[must_use]
    pub fn mark(&self, label: &str, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.marks);
        context.update(&(label.len() as u64).to_be_bytes());
        context.update(label.as_bytes());
        context.update(bytes);
        hex(context.sign().as_ref())
    }

    /// What lines of the audit log are signed with.
    #[must_use]
    pub const fn audit_key(&self) -> &hmac::Key {
        &self.audits
    }

    /// `bytes` in their encrypted form, as hexadecimal digits: the nonce, then what it encrypts. Bound to
    /// `label`, which says what they are: under another one they cannot be decrypted. Labels of registries
    /// have a line break.
    #[must_use]
    pub fn seal_bytes(&self, label: &str, mut bytes: Vec<u8>, nonce: [u8; NONCE_BYTES]) -> Option<String> {
        let unique = Nonce::assume_unique_for_key(nonce);
        self.seals.seal_in_place_append_tag(unique, Aad::from(label.as_bytes()), &mut bytes).ok()?;
        Some(hex(&nonce) + &hex(&bytes))
    }

    /// What [`Vault::seal_bytes`] encrypted; `None`: under another key or label, or it was changed.
    #[must_use]
    pub fn open_bytes(&self, label: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = unhex(sealed)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        Some(self.seals.open_in_place(nonce, Aad::from(label.as_bytes()), &mut sealed).ok()?.to_vec())
    }
}

fn label(host: &RegistryHost, username: &str) -> String {
    // No host has a line break.
    format!("{host}\n{username}")
}

/// `bytes` as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |two: &[u8]| match two {
        [high, low] => Some(value(*high)? << 4 | value(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> RegistryHost {
        RegistryHost::parse(text).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_only_with_its_key_registry_and_user(
            password in "\\PC{1,80}", username in "[a-z$@+]{1,9}", key: [u8; 32], nonce: [u8; 12],
            bit in 0_usize..8, at: prop::sample::Index,
        ) {
            let shown = Credentials { username: username.clone(), password };
            let sealed = Vault::new(&key).unwrap().seal(&host("a.b:1"), &shown, nonce).unwrap();
            let open = |key: &[u8], at: &str, user: &str, sealed: &str| {
                Vault::new(key).unwrap().open(&host(at), user, sealed)
            };
            prop_assert_eq!(open(&key, "a.b:1", &username, &sealed), Some(shown.clone()));
            prop_assert_eq!(open(&key, "a.b:2", &username, &sealed), None);
            prop_assert_eq!(open(&key, "a.b:1", "another", &sealed), None);
            let mut other = key;
            other[at.index(32)] ^= 1 << bit;
            prop_assert_eq!(open(&other, "a.b:1", &username, &sealed), None);
            let mut changed = unhex(&sealed).unwrap();
            let place = at.index(changed.len());
            changed[place] ^= 1 << bit;
            prop_assert_eq!(open(&key, "a.b:1", &username, &hex(&changed)), None);
            prop_assert_eq!(open(&key, "a.b:1", &username, &sealed[..at.index(sealed.len())]), None);
        }
    }

    #[test]
    fn the_same_bytes_have_the_same_mark_under_one_key_and_label_alone() {
        let vault = |key: u8| Vault::new(&[key; 32]).unwrap();
        let mark = vault(1).mark("secret/db", b"hush");
        assert_eq!((mark.len(), vault(1).mark("secret/db", b"hush")), (64, mark.clone()));
        for other in [
            vault(2).mark("secret/db", b"hush"),
            vault(1).mark("secret/d", b"bhush"),
            vault(1).mark("secret/db", b"hush2"),
        ] {
            assert_ne!(other, mark);
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(
            Vault::new(&[0; 31]).is_none()
                && Vault::new(&[0; 33]).is_none()
                && Vault::new(&[0; 32]).is_some()
        );
    }
}
