//! `shef scale`: other numbers of replicas.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::json;
use shef_common::ids::ServiceName;

use super::goals::{Call, How};
use crate::Failure;

/// Arguments of `shef scale`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Services, and how many replicas each is to have
    #[arg(value_name = "SERVICE=N", required = true, value_parser = wanted)]
    services: Vec<(ServiceName, u32)>,
    #[command(flatten)]
    how: How,
}

fn wanted(text: &str) -> Result<(ServiceName, u32), String> {
    let (name, count) = text.split_once('=').ok_or("must be SERVICE=N")?;
    let name = ServiceName::parse(name).map_err(|error| error.to_string())?;
    let count =
        count.parse().map_err(|_| format!("must be SERVICE=N with a number N, but N is {count:?}"))?;
    Ok((name, count))
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let calls = self.services.iter().map(|(name, replicas)| {
            Call::new(Method::PATCH, name, "", Some(json!({ "replicas": replicas })))
        });
        self.how.carry_out(calls.collect())
    }
}
