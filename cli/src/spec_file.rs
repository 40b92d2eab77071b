//! Service specs out of files: JSON or TOML, strict, with what the command line
//! says on top. Pure.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};
use shef_common::{ids::ServiceName, spec::ServiceSpec};

use crate::Failure;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON.
    Json,
    /// TOML.
    Toml,
}

impl Format {
    /// By the file's name; `-`, standard input, is JSON.
    ///
    /// # Errors
    /// The name says nothing.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|ext| ext.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("toml") => Ok(Self::Toml),
            None if path == Path::new("-") => Ok(Self::Json),
            Some(_) | None => Err(Failure::new(format!(
                "{} must end with .json or .toml, or be - for JSON from standard input",
                path.display()
            ))),
        }
    }
}

/// The settings of the command line, over those of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extra {
    /// The service's name.
    pub name: Option<ServiceName>,
    /// Another image.
    pub image: Option<String>,
    /// Another number of replicas.
    pub replicas: Option<u32>,
    /// Variables of env files: the spec's own win over them.
    pub env_files: BTreeMap<String, String>,
    /// Variables that win over the spec's own.
    pub env: BTreeMap<String, String>,
}

/// A service, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Its name.
    pub name: ServiceName,
    /// The body.
    pub spec: Value,
}

/// The fields of a file's text; `origin` is what errors call it.
///
/// # Errors
/// It is not written in `format`, or is no object.
pub(crate) fn fields(origin: &str, format: Format, text: &str) -> Result<Map<String, Value>, Failure> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let unreadable =
        |error: &dyn std::error::Error| Failure::new(format!("{origin}: {}", error.to_string().trim_end()));
    let read = match format {
        Format::Json => shef_common::json::from_str(text).map_err(|error| unreadable(&error))?,
        Format::Toml => toml::from_str(text).map_err(|error| unreadable(&error))?,
    };
    match read {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Failure::new(format!("{origin}: must be an object: one service")))
        }
    }
}

/// The service that `fields` and `extra` make together. It is read here as the
/// master reads it, so that of several files either all are sound or none is sent.
///
/// # Errors
/// Every field that is wrong, a line each.
pub(crate) fn wanted(origin: &str, mut fields: Map<String, Value>, extra: &Extra) -> Result<Wanted, Failure> {
    if let Some(name) = &extra.name {
        match fields.get("name") {
            None => _ = fields.insert("name".to_owned(), name.as_str().into()),
            Some(said) if said == name.as_str() => {}
            Some(said) => {
                return Err(Failure::new(format!("{origin}: name: is {said}, but --name says {name:?}")));
            }
        }
    } else if !fields.contains_key("name") {
        return Err(Failure::new(format!("{origin}: name: is required: in the file, or by --name")));
    }
    if let Some(image) = &extra.image {
        fields.insert("image".to_owned(), image.as_str().into());
    }
    if let Some(replicas) = extra.replicas {
        fields.insert("replicas".to_owned(), replicas.into());
    }
    if !(extra.env_files.is_empty() && extra.env.is_empty()) {
        let env = fields.entry("env").or_insert_with(|| Map::new().into());
        // Anything else is refused below.
        if let Value::Object(env) = env {
            for (key, value) in &extra.env_files {
                env.entry(key).or_insert_with(|| value.as_str().into());
            }
            env.extend(extra.env.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        }
    }
    match ServiceSpec::read(fields.clone(), None) {
        Ok(spec) => Ok(Wanted { name: spec.name, spec: Value::Object(fields) }),
        Err(errors) => {
            let lines: Vec<String> =
                errors.iter().map(|error| format!("{origin}: {}: {}", error.field, error.message)).collect();
            Err(Failure::new(lines.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(format: Format, text: &str, extra: &Extra) -> Result<Value, String> {
        fields("f", format, text)
            .and_then(|fields| wanted("f", fields, extra))
            .map(|wanted| wanted.spec)
            .map_err(|error| error.0)
    }
    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn json_and_toml_say_the_same() {
        let toml = "name = \"web\"\nimage = \"nginx:1.27\"\nreplicas = 2\nports = \
                    [{ target = 80 }]\n[health.test]\nhttp = { port = 80, path = \"/\" }\n";
        let json = r#"{"name": "web", "image": "nginx:1.27", "replicas": 2, "ports": [{"target": 80}],
            "health": {"test": {"http": {"port": 80, "path": "/"}}}}"#;
        let none = Extra::default();
        assert_eq!(read(Format::Toml, toml, &none).unwrap(), read(Format::Json, json, &none).unwrap());
    }

    #[test]
    fn a_byte_order_mark_before_the_first_character_says_nothing() {
        let none = Extra::default();
        for (format, text) in [
            (Format::Json, r#"{"name": "web", "image": "a:1"}"#),
            (Format::Toml, "name = 'web'\nimage = 'a:1'\n"),
        ] {
            assert_eq!(
                read(format, &format!("\u{feff}{text}"), &none),
                Ok(json!({"name": "web", "image": "a:1"}))
            );
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_env_files() {
        let extra = Extra {
            name: ServiceName::parse("web").ok(),
            image: Some("b:2".to_owned()),
            replicas: Some(3),
            env_files: pairs(&[("A", "file"), ("B", "file"), ("C", "file")]),
            env: pairs(&[("C", "flag")]),
        };
        let read =
            read(Format::Json, r#"{"image": "a:1", "env": {"B": "spec", "C": "spec"}}"#, &extra).unwrap();
        let env = json!({"A": "file", "B": "spec", "C": "flag"});
        assert_eq!(read, json!({"name": "web", "image": "b:2", "replicas": 3, "env": env}));
    }

    #[test]
    fn what_is_wrong_is_told_by_file_and_field() {
        let named = Extra { name: ServiceName::parse("web").ok(), ..Extra::default() };
        let extra = Extra { env: pairs(&[("A", "1")]), ..Extra::default() };
        let none = Extra::default();
        for (format, text, extra, wanted) in [
            (Format::Json, "{", &none, "f: EOF while parsing"),
            (Format::Json, "[]", &none, "f: must be an object: one service"),
            (Format::Toml, "name = ", &none, "f: TOML parse error at line 1"),
            (Format::Json, "{}", &none, "f: name: is required: in the file, or by --name"),
            (
                Format::Json,
                r#"{"name": "api", "image": "a"}"#,
                &named,
                "f: name: is \"api\", but --name says web",
            ),
            (Format::Json, r#"{"image": "a", "bogus": 1}"#, &named, "f: bogus: is not a field of this body"),
            (
                Format::Toml,
                "image = \"a\"\nreplicas = -1",
                &named,
                "f: replicas: must be a whole number from 0 to 10000, but is -1",
            ),
            (Format::Json, r#"{"name": "web"}"#, &extra, "f: image: is required"),
            (Format::Json, r#"{"name": "web", "image": "a", "env": 1}"#, &extra, "f: env: must be an object"),
        ] {
            let said = read(format, text, extra).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn a_files_name_says_what_it_is_written_in() {
        let of = |path: &str| Format::of(Path::new(path)).ok();
        assert_eq!(
            [of("a.json"), of("b/c.toml"), of("-")],
            [Some(Format::Json), Some(Format::Toml), Some(Format::Json)]
        );
        assert_eq!([of("a.yaml"), of("a")], [None, None]);
    }
}
