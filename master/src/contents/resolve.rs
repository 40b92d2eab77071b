//! Which contents a spec means: a name stands for its newest content when the call is made. Pure.

use serde_json::{Map, Value};
use shef_common::{
    contents::{ContentId, ContentKind},
    ids::{ContentName, ContentVersion, Generation},
    problem::FieldError,
    spec::{MAX_CONTENTS, MAX_CONTENTS_BYTES, Template},
};

use super::table::{ContentTable, Held};

/// A content that a kept generation of a service mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentUse {
    /// The generation.
    pub generation: Generation,
    /// The content.
    pub content: ContentId,
}

impl ContentUse {
    /// What `template`, as `generation`, mounts.
    pub fn of(generation: Generation, template: &Template) -> impl Iterator<Item = Self> {
        let contents = template.contents().filter_map(|(kind, mount)| mount.content(kind));
        contents.map(move |content| Self { generation, content })
    }
}

/// Writes the versions that are meant into the `secrets` and `configs` of a spec, or of a patch of one. What
/// has not their form is left for the reading of the spec to refuse.
///
/// # Errors
/// Names and versions that there are not, and bounds that are exceeded.
pub fn resolve(fields: &mut Map<String, Value>, table: &ContentTable) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    for kind in ContentKind::ALL {
        let field = kind.field();
        let Some(Value::Array(mounts)) = fields.get_mut(field) else { continue };
        let mut bytes = 0_u64;
        for (at, mount) in mounts.iter_mut().enumerate().take(MAX_CONTENTS) {
            // What is no object may be read as one all the same, and its name has been asked about nowhere.
            let Some(mount) = mount.as_object_mut() else {
                let message = "must be an object with a source".to_owned();
                errors.push(FieldError { field: format!("{field}[{at}]"), message });
                continue;
            };
            let name = mount.get("source").and_then(Value::as_str).map(ContentName::parse);
            let Some(Ok(name)) = name else { continue };
            let all = table.all(kind, &name);
            let found = match mount.get("version") {
                None | Some(Value::Null) => all.last().ok_or_else(|| {
                    let create = format!("shef {kind} create {name} FILE");
                    ("source", format!("must be a {kind} that there is, but is {name}; make it: {create}"))
                }),
                Some(version) => match version.as_str().map(ContentVersion::parse) {
                    Some(Ok(version)) => version_of(all, &version).ok_or_else(|| {
                        let message =
                            format!("must be a version of {kind} {name} that is kept, but is {version}");
                        ("version", message)
                    }),
                    Some(Err(_)) | None => continue,
                },
            };
            match found {
                Ok(held) => {
                    bytes = bytes.saturating_add(held.bytes);
                    mount.insert("version".to_owned(), held.version.as_str().into());
                }
                Err((part, message)) => {
                    errors.push(FieldError { field: format!("{field}[{at}].{part}"), message });
                }
            }
        }
        if bytes > MAX_CONTENTS_BYTES as u64 {
            let message =
                format!("must have at most {MAX_CONTENTS_BYTES} bytes of content in all, but have {bytes}");
            errors.push(FieldError { field: field.to_owned(), message });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn version_of<'a>(all: &'a [Held], version: &ContentVersion) -> Option<&'a Held> {
    all.iter().find(|held| held.version == *version)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use shef_common::clock::WallMs;

    use super::*;

    fn held(digit: char, number: u64, bytes: u64) -> (ContentId, Held) {
        let version = ContentVersion::parse(&digit.to_string().repeat(32)).unwrap();
        let id = ContentId {
            kind: ContentKind::Secret,
            name: ContentName::parse("db").unwrap(),
            version: version.clone(),
        };
        (id, Held { version, number, created: WallMs(1), bytes, content: Err(Arc::from("unread")) })
    }

    fn resolved(spec: Value) -> Result<Value, Vec<FieldError>> {
        let table = ContentTable::of([held('a', 2, 1), held('b', 1, 3 << 20)].into_iter());
        let mut fields = spec.as_object().unwrap().clone();
        resolve(&mut fields, &table).map(|()| Value::Object(fields))
    }

    #[test]
    fn a_name_stands_for_its_newest_content_and_a_version_for_itself() {
        let (newest, older) = ("a".repeat(32), "b".repeat(32));
        let given = json!({"image": "app", "secrets": [
            {"source": "db"}, {"source": "db", "version": null}, {"source": "db", "version": older},
            {"source": 1},
        ]});
        let wanted = json!({"image": "app", "secrets": [
            {"source": "db", "version": newest}, {"source": "db", "version": newest},
            {"source": "db", "version": older}, {"source": 1},
        ]});
        assert_eq!(resolved(given), Ok(wanted));
        for untouched in [json!({}), json!({"secrets": null}), json!({"secrets": "db", "configs": 1})] {
            assert_eq!(resolved(untouched.clone()), Ok(untouched));
        }
    }

    /// An array can be read as a mount, and has no field by which anybody is asked whether the name is
    /// theirs.
    #[test]
    fn a_mount_is_an_object_and_nothing_else() {
        for mount in [json!(["db", "a".repeat(32)]), json!("db"), json!(2), json!(null)] {
            let errors = resolved(json!({ "secrets": [{"source": "db"}, mount] })).unwrap_err();
            assert_eq!(errors.len(), 1, "{mount}: {errors:?}");
            assert_eq!(errors[0].field, "secrets[1]");
        }
    }

    #[test]
    fn what_there_is_not_and_what_is_too_much_is_named() {
        let older = "b".repeat(32);
        let errors = resolved(json!({
            "secrets": [{"source": "other"}, {"source": "db", "version": "c".repeat(32)},
                {"source": "db", "version": older}, {"source": "db", "version": older}],
            "configs": [{"source": "db"}],
        }))
        .unwrap_err();
        let said: Vec<String> =
            errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
        assert_eq!(
            said,
            [
                "secrets[0].source must be a secret that there is, but is other; make it: shef secret create \
                 other FILE",
                &format!(
                    "secrets[1].version must be a version of secret db that is kept, but is {}",
                    "c".repeat(32)
                ),
                "secrets must have at most 4194304 bytes of content in all, but have 6291456",
                "configs[0].source must be a config that there is, but is db; make it: shef config create db \
                 FILE",
            ]
        );
    }
}
