//! The process's logger: one line an event, ids as fields, text or JSON.
//!
//! A place of the program that logs without end is cut short ([`limit`]), and a line says how many were left
//! out.
//!
//! Invariant: an event is one line whatever its message holds; control
//! characters are written as escapes, so that nothing a user sends can forge a line.

mod limit;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
};

use log::{
    Level, Log, Metadata, Record,
    kv::{self, VisitSource},
};

use self::limit::Limit;

use crate::{
    clock::{Now, WallMs},
    config::{Effective, Key, Kind},
    visible::escaped,
};

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// An `env_logger` filter.
    pub filter: String,
    /// How each line looks.
    pub format: Format,
}

/// The keys that every program has for its log.
pub const KEYS: [Key; 3] = [
    Key {
        name: "log_level",
        kind: Kind::Choice(&["fatal", "error", "warn", "info", "debug", "trace"]),
        default: "info",
        env: &["SHEF_LOG_LEVEL", "LOG_LEVEL"],
        doc: "The least severe events that are logged; fatal is the same as error.\nOther libraries' \
              events are logged from warn on.",
    },
    Key {
        name: "log_filter",
        kind: Kind::Text,
        default: "",
        env: &["SHEF_LOG_FILTER", "RUST_LOG"],
        doc: "A filter by module, such as \"warn,shef_master::store=debug\"; where it is given, it wins \
              over log_level.\nOther libraries' debug and trace events are never logged: they hold requests \
              with passwords.",
    },
    Key {
        name: "log_format",
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        env: &["SHEF_LOG_FORMAT"],
        doc: "How a line of the log looks.",
    },
];

impl LogConfig {
    /// From the keys of [`KEYS`].
    #[must_use]
    pub fn from_effective(effective: &Effective) -> Self {
        let level = match effective.text("log_level") {
            "fatal" => "error",
            level => level,
        };
        let others = if level == "error" { "error" } else { "warn" };
        Self {
            filter: effective.non_empty("log_filter").unwrap_or_else(|| format!("{others},shef={level}")),
            format: if effective.text("log_format") == "json" { Format::Json } else { Format::Text },
        }
    }
}

/// Installs the logger, which writes to the standard error stream. A second call does nothing.
pub fn init(config: &LogConfig) {
    let format = config.format;
    let all = env_logger::Builder::new()
        .parse_filters(&config.filter)
        .format(move |out, record| {
            if may_hold_bodies(record.level(), record.target()) {
                return Ok(());
            }
            let line = line(format, Now::read().wall, record);
            out.write_all(line.as_bytes())
        })
        .build();
    let most = all.filter();
    match log::set_boxed_logger(Box::new(Limited { all, limit: Mutex::default() })) {
        Ok(()) => log::set_max_level(most),
        Err(_) => log::debug!("a logger is installed already"),
    }
}

/// The logger, which leaves out what one place of the program logs without end.
struct Limited {
    all: env_logger::Logger,
    limit: Mutex<Limit>,
}

impl Limited {
    /// Says how many lines were left out.
    fn tell(&self, left_out: Vec<(String, u32)>) {
        for (target, lines) in left_out {
            let mut record = Record::builder();
            record.level(Level::Warn).target(&target);
            self.all
                .log(&record.args(format_args!("{lines} lines like the ones before were left out")).build());
        }
    }
}

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.all.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.all.matches(record) {
            return;
        }
        let (place, now) =
            ((record.target().to_owned(), record.line().unwrap_or_default()), Now::read().mono);
        let (left_out, is_admitted) = {
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            (limit.over(Some(now)), limit.admits(place, now))
        };
        self.tell(left_out);
        if is_admitted {
            self.all.log(record);
        }
    }

    fn flush(&self) {
        let left_out = self.limit.lock().unwrap_or_else(PoisonError::into_inner).over(None);
        self.tell(left_out);
        self.all.flush();
    }
}

/// Whether an event may hold what others send: libraries write requests and answers, and so the environments
/// of containers and passwords, where they tell of every step. Such events are left out, whatever the filter
/// says.
fn may_hold_bodies(level: Level, target: &str) -> bool {
    let module = target.split("::").next().unwrap_or_default();
    level > Level::Info && module != "shef" && !module.starts_with("shef_")
}

/// One event as one line, with its line end.
#[must_use]
pub fn line(format: Format, time: WallMs, record: &Record<'_>) -> String {
    let mut fields = Fields::default();
    _ = record.key_values().visit(&mut fields);
    let target = record.target().strip_prefix("shef_").unwrap_or(record.target());
    match format {
        Format::Text => {
            let short = target.splitn(3, "::").take(2).collect::<Vec<_>>().join("::");
            let mut line = format!(
                "{} {:<5} {short}: {}",
                time.iso(),
                record.level(),
                escaped(record.args().to_string().chars())
            );
            for (key, value) in fields.0 {
                let bare = !value.is_empty() && !value.contains([' ', '"', '=']);
                let value = escaped(value.chars());
                _ = if bare {
                    write!(line, " {key}={value}")
                } else {
                    write!(line, " {key}=\"{}\"", value.replace('"', "\\\""))
                };
            }
            line.push('\n');
            line
        }
        Format::Json => {
            let fields: serde_json::Map<_, _> =
                fields.0.into_iter().map(|(key, value)| (key, value.into())).collect();
            let event = serde_json::json!({
                "time": time.iso(),
                "level": record.level().as_str(),
                "target": target,
                "message": record.args().to_string(),
                "fields": fields,
            });
            format!("{event}\n")
        }
    }
}

#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((escaped(key.as_str().chars()), value.to_string()));
        Ok(())
    }
}

/// Flushes what is buffered; for the last moment of a process.
pub fn flush() {
    log::logger().flush();
    _ = io::stderr().flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Program, load};

    fn lines(message: &str, fields: &[(&str, &str)]) -> [String; 2] {
        let fields: Vec<(&str, &str)> = fields.to_vec();
        let arguments = format_args!("{message}").to_string();
        [Format::Text, Format::Json].map(|format| {
            let mut builder = Record::builder();
            builder.level(log::Level::Info).target("shef_master::store::actor").key_values(&fields);
            line(format, WallMs(0), &builder.args(format_args!("{arguments}")).build())
        })
    }

    #[test]
    fn the_level_is_of_our_own_events_and_a_filter_wins_over_it() {
        static PROGRAM: Program = Program { name: "probe", keys: &KEYS, derived_env: |_| Vec::new() };
        let config = |env: &[(&str, &str)]| {
            let mut layers = Layers::default();
            layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
            LogConfig::from_effective(&load(&PROGRAM, &[], &layers).unwrap())
        };
        assert_eq!(config(&[]), LogConfig { filter: "warn,shef=info".into(), format: Format::Text });
        assert_eq!(config(&[("LOG_LEVEL", "fatal")]).filter, "error,shef=error");
        assert_eq!(config(&[("LOG_LEVEL", "debug"), ("SHEF_LOG_LEVEL", "error")]).filter, "error,shef=error");
        assert_eq!(config(&[("LOG_LEVEL", "debug"), ("RUST_LOG", "trace")]).filter, "trace");
        assert_eq!(config(&[("SHEF_PROBE_LOG_FORMAT", "json")]).format, Format::Json);
    }

    #[test]
    fn the_steps_of_libraries_are_never_logged() {
        for target in ["bollard::docker", "hyper_util::client", "actix_http::h1", "shefx", "redis"] {
            assert!(
                may_hold_bodies(Level::Trace, target) && may_hold_bodies(Level::Debug, target),
                "{target}"
            );
            assert!(
                !may_hold_bodies(Level::Info, target) && !may_hold_bodies(Level::Error, target),
                "{target}"
            );
        }
        assert!(
            !may_hold_bodies(Level::Trace, "shef_master::store") && !may_hold_bodies(Level::Trace, "shef")
        );
    }

    #[test]
    fn an_event_is_a_line_with_its_ids_as_fields() {
        let [text, json] = lines("replica runs", &[("replica", "web-000001"), ("why", "it was asked for")]);
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z INFO  master::store: replica runs replica=web-000001 why=\"it was \
             asked for\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["message"], "replica runs");
        assert_eq!(json["target"], "master::store::actor");
        assert_eq!(json["fields"]["replica"], "web-000001");
    }

    #[test]
    fn no_message_or_field_starts_a_new_line_or_steers_the_terminal() {
        let evil = "a\n1970-01-01T00:00:00.000Z INFO  forged\r\u{1b}[31m\u{2028}\u{202e}\u{7}";
        for line in lines(evil, &[("field", evil)]) {
            let body = line.strip_suffix('\n').unwrap();
            assert!(!body.contains(|c: char| c.is_control()), "{body:?}");
        }
        assert!(!lines(evil, &[])[0].contains(['\u{2028}', '\u{202e}']));
    }
}
