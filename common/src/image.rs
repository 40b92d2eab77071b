//! Image references by Docker's own grammar (distribution/reference): what the
//! engine would refuse, or read differently, never gets past here.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::registry::{RegistryHost, is_domain, names_registry};

/// A valid image reference, kept as it was written: `[domain[:port]/]path[:tag][@digest]`.
///
/// ```
/// use shef_common::image::ImageRef;
///
/// let image = ImageRef::parse("registry.local:5000/team/app:1.2")?;
/// assert_eq!(image.name_and_version(), ("registry.local:5000/team/app", "1.2"));
/// assert!(ImageRef::parse("../images/x").is_err());
/// # Ok::<(), shef_common::image::InvalidImage>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(Arc<str>);

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "image must be a Docker image reference such as nginx:1.27 or registry.local:5000/team/app@sha256:…: \
     {reason} in {value:?}"
)]
pub struct InvalidImage {
    reason: &'static str,
    value: String,
}

impl ImageRef {
    /// Checks `text` against Docker's reference grammar.
    ///
    /// # Errors
    /// [`InvalidImage`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidImage> {
        match check(text) {
            Ok(()) => Ok(Self(text.into())),
            Err(reason) => Err(InvalidImage { reason, value: text.chars().take(80).collect() }),
        }
    }

    /// The reference as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What to pull: the name without tag and digest, and the digest, else the
    /// tag, else `latest`.
    #[must_use]
    pub fn name_and_version(&self) -> (&str, &str) {
        let (rest, digest) = split_digest(&self.0);
        let (name, tag) = split_tag(rest);
        (name, digest.or(tag).unwrap_or("latest"))
    }

    /// The registry that it comes from.
    #[must_use]
    pub fn registry(&self) -> RegistryHost {
        RegistryHost::of(split_domain(self.name_and_version().0).0.unwrap_or(RegistryHost::DEFAULT))
    }

    /// Whether it says itself which bytes it means.
    #[must_use]
    pub fn has_digest(&self) -> bool {
        split_digest(&self.0).1.is_some()
    }

    /// The same name, and these bytes: `name@digest`.
    #[must_use]
    pub fn at(&self, digest: &ImageDigest) -> Self {
        // Without a tag: not every engine takes both.
        Self(format!("{}@{}", self.name_and_version().0, digest.as_str()).into())
    }

    /// As an engine is to read it. An engine takes some names for the beginning of an image's id (`2fde`,
    /// `sha256:2fde`): those are given with their registry, which no id has.
    #[must_use]
    pub fn never_an_id(&self) -> Cow<'_, str> {
        let (name, version) = self.name_and_version();
        let is_hex = |text: &str| text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        // Digits alone, or an algorithm and digits.
        let is_algorithm = matches!(name, "sha256" | "sha384" | "sha512");
        if is_hex(name) || is_algorithm && is_hex(version) {
            Cow::Owned(format!("docker.io/library/{}", self.0))
        } else {
            Cow::Borrowed(&self.0)
        }
    }

    /// Which bytes it stands for, of the `digests` by which an engine knows an image (`name@sha256:…`): the
    /// one of its repository, if that is not more than one.
    #[must_use]
    pub fn digest_among(&self, digests: &[String]) -> Option<ImageDigest> {
        let (_, ours) = split_digest(&self.0);
        let known = digests.iter().filter_map(|known| Self::parse(known).ok());
        let of_ours = known.filter(|known| known.repository() == self.repository());
        let mut found = of_ours.filter_map(|known| ImageDigest::parse(split_digest(&known.0).1?).ok());
        let first = found.next()?;
        let mut others = found.filter(|other| *other != first);
        match ours {
            Some(ours) => std::iter::once(first.clone()).chain(others).find(|digest| digest.as_str() == ours),
            None => others.next().is_none().then_some(first),
        }
    }

    /// The registry and the name there, with what Docker's own registry lets people leave out.
    fn repository(&self) -> (RegistryHost, Cow<'_, str>) {
        let (registry, name) = (self.registry(), split_domain(self.name_and_version().0).1);
        let is_official = registry.as_str() == RegistryHost::DEFAULT && !name.contains('/');
        (registry, if is_official { Cow::Owned(format!("library/{name}")) } else { Cow::Borrowed(name) })
    }

    /// With a tag or digest always: what the engine is asked for.
    #[must_use]
    pub fn pinned(&self) -> String {
        let (rest, digest) = split_digest(&self.0);
        match (digest, split_tag(rest).1) {
            (None, None) => format!("{}:latest", self.0),
            _ => self.0.to_string(),
        }
    }
}

/// What an image's name stood for at one moment: `sha256:…`, by the registry's word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageDigest(Arc<str>);

impl ImageDigest {
    /// Checks that `text` is an algorithm and as many hexadecimal digits as it has.
    ///
    /// # Errors
    /// [`InvalidImage`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidImage> {
        match check_digest(text) {
            Ok(()) => Ok(Self(text.into())),
            Err(reason) => Err(InvalidImage { reason, value: text.chars().take(80).collect() }),
        }
    }

    /// As it stands behind the `@` of a reference.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn split_digest(text: &str) -> (&str, Option<&str>) {
    text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)))
}

/// The tag is what follows the last colon, unless a slash follows it (then it is a port).
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The registry, if there is one, and what it has there.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, path)) if names_registry(first) => (Some(first), path),
        _ => (None, name),
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("nothing");
    }
    let (rest, digest) = split_digest(text);
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let (name, tag) = split_tag(rest);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("a tag that is not 1 to 128 letters, digits, underscores, dots and hyphens");
    }
    if name.len() > 255 {
        return Err("a name of over 255 characters");
    }
    let (domain, path) = split_domain(name);
    if domain.is_some_and(|domain| !is_domain(domain)) {
        return Err("a registry that is no host name with an optional port");
    }
    if !path.split('/').all(is_path_component) {
        return Err("a name that is not lower-case letters and digits joined by single . _ / or hyphens");
    }
    if domain.is_none() && path.len() == 64 && path.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err("an image id where a name is needed");
    }
    Ok(())
}

fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let bytes = tag.as_bytes();
    (1..=128).contains(&bytes.len())
        && word(bytes[0])
        && bytes.iter().all(|&c| word(c) || c == b'.' || c == b'-')
}

fn check_digest(digest: &str) -> Result<(), &'static str> {
    let Some((algorithm, hex)) = digest.split_once(':') else { return Err("a digest without an algorithm") };
    let hex_len = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("a digest that is not sha256, sha384 or sha512"),
    };
    if hex.len() == hex_len && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        Ok(())
    } else {
        Err("a digest of the wrong length or alphabet")
    }
}

/// Alphanumeric runs joined by one dot, one or two underscores, or any number of hyphens.
fn is_path_component(component: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators_fit = component
        .split(alnum)
        .filter(|run| !run.is_empty())
        .all(|run| run == "." || run == "_" || run == "__" || run.bytes().all(|c| c == b'-'));
    component.starts_with(alnum) && component.ends_with(alnum) && separators_fit
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl schemars::JsonSchema for ImageRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageRef".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "An image, by Docker's reference \
                                                                   grammar." })
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl schemars::JsonSchema for ImageDigest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageDigest".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Which bytes an image's name stood for." })
    }
}
impl Serialize for ImageDigest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for ImageDigest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_an_image_is_that_of_its_own_repository() {
        let hex = |n: u8| format!("sha256:{n:064x}");
        let among = |image: &str, known: &[String]| {
            ImageRef::parse(image).unwrap().digest_among(known).map(|digest| digest.as_str().to_owned())
        };
        let nginx = [format!("nginx@{}", hex(1)), format!("registry.local/nginx@{}", hex(2))];
        for name in
            ["nginx", "nginx:1.27", "library/nginx", "docker.io/library/nginx", "index.docker.io/nginx"]
        {
            assert_eq!(among(name, &nginx), Some(hex(1)), "{name}");
        }
        assert_eq!(among("registry.local/nginx:x", &nginx), Some(hex(2)));
        assert_eq!(among("team/nginx", &nginx), None);
        let two = [format!("nginx@{}", hex(1)), format!("nginx@{}", hex(3))];
        assert_eq!(among("nginx", &two), None, "it may be either");
        assert_eq!(among(&format!("nginx@{}", hex(3)), &two), Some(hex(3)));
        assert_eq!(among(&format!("nginx@{}", hex(4)), &two), None);
        assert_eq!(among("nginx", &["nonsense".to_owned(), "nginx".to_owned()]), None);
    }

    #[test]
    fn an_images_registry_is_what_stands_before_its_first_slash() {
        let of = |image: &str| ImageRef::parse(image).unwrap().registry().to_string();
        assert_eq!(of("nginx"), "docker.io");
        assert_eq!(of("team/app:1"), "docker.io");
        assert_eq!(of("index.docker.io/team/app:1"), "docker.io");
        assert_eq!(of("localhost/app"), "localhost");
        assert_eq!(of("Registry.local:5000/team/app:1"), "registry.local:5000");
    }

    #[test]
    fn a_digest_takes_the_place_of_a_tag() {
        let digest = ImageDigest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        for (image, name) in [("nginx", "nginx"), ("a.b:5000/c/d:1", "a.b:5000/c/d"), ("x:1@sha256:", "x")] {
            let image =
                if image.ends_with(':') { format!("{image}{}", "b".repeat(64)) } else { image.to_owned() };
            let at = ImageRef::parse(&image).unwrap().at(&digest);
            assert_eq!(at.as_str(), format!("{name}@{}", digest.as_str()));
            assert_eq!(ImageRef::parse(at.as_str()), Ok(at.clone()));
            assert!(at.has_digest());
        }
        assert!(!ImageRef::parse("nginx:1").unwrap().has_digest());
        for (bad, reason) in [
            ("sha256:abc", "a digest of the wrong length or alphabet"),
            ("latest", "a digest without an algorithm"),
        ] {
            assert_eq!(ImageDigest::parse(bad).unwrap_err().reason, reason, "{bad}");
        }
    }

    #[test]
    fn a_name_that_could_be_the_beginning_of_an_id_gets_its_registry() {
        let given = |text: &str| ImageRef::parse(text).unwrap().never_an_id().into_owned();
        assert_eq!(given("2fde"), "docker.io/library/2fde");
        assert_eq!(given("2fde:1"), "docker.io/library/2fde:1");
        assert_eq!(given("sha256:2fde"), "docker.io/library/sha256:2fde");
        for as_it_is in
            ["nginx", "nginx:1", "sha256:stable", "team/2fde", "r.io:5000/2fde", "docker.io/library/2fde"]
        {
            assert_eq!(given(as_it_is), as_it_is);
        }
    }

    #[test]
    fn dockers_grammar_is_followed() {
        let sha = format!("sha256:{}", "a".repeat(64));
        for good in [
            "nginx",
            "nginx:1.27",
            "library/nginx",
            "docker.io/library/nginx:latest",
            "localhost:5000/a",
            "localhost/a",
            "10.0.0.1:5000/team/app:v1",
            "a__b",
            "a--b/c.d_e",
            "[::1]:5000/x",
            "UPPER.example.org/x",
            "Registry/x",
            &format!("nginx@{sha}"),
            &format!("r.io:1/nginx:1@{sha}"),
        ] {
            assert!(ImageRef::parse(good).is_ok(), "{good}");
        }
        let names = [
            " ", "nginx ", "Nginx", ":tag", "a//b", "/a", "a/", "a?b", "a..b", "a___b", "-a", "a:b:c", "é",
            "a\nb",
        ];
        let registries = ["../images/x", "r.io:99999/x", "r.io:x/y", "-.io/x", "[::1/x"];
        let table: [(&str, &[&str]); 8] = [
            ("nothing", &[""]),
            ("a name that is not lower-case", &names),
            ("a name of over 255 characters", &[&"a".repeat(256)]),
            ("a tag that is not", &["nginx:", "a:t ag", &format!("a:{}", "t".repeat(129))]),
            ("a registry that is no host name", &registries),
            ("a digest of the wrong length", &["nginx@sha256:abc"]),
            ("a digest that is not", &["nginx@md5:aa"]),
            ("an image id", &[&"a".repeat(64)]),
        ];
        for (reason, bad) in
            table.into_iter().flat_map(|(reason, all)| all.iter().map(move |bad| (reason, bad)))
        {
            let refused = ImageRef::parse(bad).unwrap_err();
            assert!(refused.reason.starts_with(reason), "{bad}: {refused}");
        }
    }

    #[test]
    fn what_to_pull_is_digest_then_tag_then_latest() {
        let sha = format!("sha256:{}", "b".repeat(64));
        let parse = |t: &str| ImageRef::parse(t).unwrap();
        assert_eq!(parse("r.io:1/a").name_and_version(), ("r.io:1/a", "latest"));
        assert_eq!(parse("r.io:1/a:v").name_and_version(), ("r.io:1/a", "v"));
        assert_eq!(parse(&format!("a:v@{sha}")).name_and_version(), ("a", sha.as_str()));
        assert_eq!(parse("r.io:1/a").pinned(), "r.io:1/a:latest");
        assert_eq!(parse("a:v").pinned(), "a:v");
    }
}
