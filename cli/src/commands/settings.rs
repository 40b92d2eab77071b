//! `shef settings`: the configuration in force, and where each value came from.

use std::{path::PathBuf, process::ExitCode};

use shef_common::config::{ConfigError, Effective, Program, Value};

use crate::{
    Failure,
    layers::{PROGRAMS, UpConfig, UpFlags, for_program},
    say,
};

/// Arguments of `shef settings`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose configuration
    #[arg(value_enum, default_value_t = Which::Up)]
    program: Which,
    /// The configuration file instead of the usual one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print a commented file with every key at its default instead
    #[arg(long, conflicts_with_all = ["json", "config"])]
    template: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Which {
    Master,
    Agent,
    Bootstrap,
    Up,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Self::Master => "shef master",
            Self::Agent => "shef agent",
            Self::Bootstrap => "shef bootstrap",
            Self::Up => "shef up",
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if self.template {
            say::line(template(self.program)?.trim_end());
            return Ok(ExitCode::SUCCESS);
        }
        // Missing keys are reported after the present ones.
        let (sections, missing) = match self.program {
            Which::Master => {
                let layers = for_program("master", self.config.as_deref(), Vec::new())?;
                let effective = shef_master::config::effective(&layers, &PROGRAMS)?;
                (
                    vec![("", effective.clone())],
                    shef_master::config::MasterConfig::from_effective(&effective).err(),
                )
            }
            Which::Agent => {
                let layers = for_program("agent", self.config.as_deref(), Vec::new())?;
                let effective = shef_agent::config::effective(&layers, &PROGRAMS)?;
                (
                    vec![("", effective.clone())],
                    shef_agent::config::AgentConfig::from_effective(&effective).err(),
                )
            }
            Which::Bootstrap => {
                let layers = for_program("bootstrap", self.config.as_deref(), Vec::new())?;
                let effective = shef_bootstrap::config::effective(&layers, &PROGRAMS)?;
                (
                    vec![("", effective.clone())],
                    shef_bootstrap::config::BootstrapConfig::from_effective(&effective).err(),
                )
            }
            Which::Up => {
                let up = UpConfig::load(&UpFlags { config: self.config, ..UpFlags::default() })?;
                (vec![("master.", up.master.1), ("agent.", up.agent.1)], None)
            }
        };
        let rows = rows(&sections);
        say::line(if self.json { json(&rows) } else { table(&rows) });
        match missing {
            None => Ok(ExitCode::SUCCESS),
            // A required key without a value is no failure of this command.
            Some(error @ ConfigError::Missing { .. }) => {
                say::note(format_args!("==> {} does not start with this: {error}", self.program.name()));
                Ok(ExitCode::SUCCESS)
            }
            Some(error) => Err(error.into()),
        }
    }
}

fn template(which: Which) -> Result<String, Failure> {
    let program: &Program = match which {
        Which::Master => &shef_master::config::PROGRAM,
        Which::Agent => &shef_agent::config::PROGRAM,
        Which::Bootstrap => &shef_bootstrap::config::PROGRAM,
        Which::Up => {
            return Err(Failure::new(
                "say master, agent or bootstrap: `shef up` takes the keys of both, in tables [master] and \
                 [agent]",
            ));
        }
    };
    Ok(program.document())
}

/// Key, value and origin.
type Row = (String, Value, String);

fn rows(sections: &[(&str, Effective)]) -> Vec<Row> {
    let row = |(prefix, effective): &(&str, Effective)| {
        let entry = |entry: &shef_common::config::Entry| {
            (format!("{prefix}{}", entry.key.name), entry.value.clone(), entry.origin.to_string())
        };
        effective.entries().iter().map(entry).collect::<Vec<_>>()
    };
    sections.iter().flat_map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let widest = |width: &dyn Fn(&Row) -> usize| rows.iter().map(width).max().unwrap_or_default();
    let (keys, values) = (widest(&|row| row.0.len()), widest(&|row| row.1.shown().chars().count()).min(48));
    let line = |(key, value, origin): &Row| format!("{key:<keys$} = {:<values$}  # {origin}", value.shown());
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn json(rows: &[Row]) -> String {
    let value = |value: &Value| match value {
        Value::Text(text) => text.clone().into(),
        Value::Secret(secret) if secret.expose().is_empty() => "".into(),
        Value::Secret(_) => shef_common::config::HIDDEN.into(),
        Value::Integer(number) => (*number).into(),
        Value::Switch(is_on) => (*is_on).into(),
        Value::List(items) => items.clone().into(),
        Value::Map(map) => serde_json::json!(map),
    };
    let row = |(key, held, origin): &Row| {
        (key.clone(), serde_json::json!({ "value": value(held), "origin": origin }))
    };
    let object: serde_json::Map<String, serde_json::Value> = rows.iter().map(row).collect();
    serde_json::to_string_pretty(&object).unwrap_or_default()
}
