//! `shef scale`: other numbers of replicas.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::json;
use shef_common::ids::{InvalidId, ServiceName};

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

#[derive(Debug, thiserror::Error)]
enum InvalidScale {
    #[error("must be SERVICE=N")]
    Form,
    #[error(transparent)]
    Service(#[from] InvalidId),
    #[error("must be SERVICE=N with a number N, but N is {0:?}")]
    Number(String),
}

fn wanted(text: &str) -> Result<(ServiceName, u32), InvalidScale> {
    let (name, count) = text.split_once('=').ok_or(InvalidScale::Form)?;
    let number = count.parse().map_err(|_| InvalidScale::Number(count.to_owned()));
    Ok((ServiceName::parse(name)?, number?))
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let calls = self.services.iter().map(|(name, replicas)| {
            Call::new(Method::PATCH, name, "", Some(json!({ "replicas": replicas })))
        });
        self.how.carry_out(calls.collect())
    }
}
