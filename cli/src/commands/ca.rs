//! `shef ca`: the CA by which members of the cluster, and commands, know each other; and its rotation.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::{Value, json};
use shef_common::clock::{Now, WallMs};
use shef_master::rotation::{CaState, CaView, PhaseWord, RotationView, SomeCa};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client, read},
    say,
    table::{span, table},
};

/// How many of the hosts that are waited for are named.
const MOST_NAMED: usize = 10;

/// Arguments of `shef ca`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Verb {
    /// Lists the CAs that count, and shows how a rotation goes and which hosts it waits for
    Ls {
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Replaces the CA by a new one while everything goes on; `shef ca ls` shows how it goes
    Rotate {
        /// Others may know the CA's key: hosts that are down meanwhile will need a new join token, and users
        /// of this command on other machines the new digest
        #[arg(long)]
        compromised: bool,
    },
    /// Goes on with a rotation without the hosts that it waits for
    Continue,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        on_system(carry_out(&self.api.client()?, self.verb))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn carry_out(client: &Client, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Ls { json } => {
            let answer: Value = client.get("/v1/ca").await?;
            if json {
                say::line(answer);
                return Ok(());
            }
            lines(&read(answer)?, Now::read().wall).iter().for_each(say::line);
        }
        Verb::Rotate { compromised } => {
            let body = json!({ "compromised": compromised });
            client.send(Method::POST, "/v1/ca/rotate", Some(&body)).await?;
            say::step("a new CA is made: hosts come to trust it, then get certificates of it");
            say::note("    shef ca ls shows how it goes; make a backup when it is over (shef backup)");
        }
        Verb::Continue => {
            let answer: Value = client.send(Method::POST, "/v1/ca/continue", None).await?;
            let view: CaView = read(answer)?;
            say::step(view.rotation.as_ref().map_or("the rotation is over", |rotation| doing(rotation)));
        }
    }
    Ok(())
}

const fn doing(rotation: &RotationView) -> &'static str {
    match rotation.phase {
        PhaseWord::Trust => "hosts come to trust the next CA, too",
        PhaseWord::Certificates => "hosts get certificates of the new CA",
    }
}

fn lines(view: &CaView, now: WallMs) -> Vec<String> {
    let row = |ca: &SomeCa| {
        let until = if ca.until <= now { "expired".to_owned() } else { span((ca.until - now).0) };
        [
            ca.digest.to_string(),
            state(ca.state).to_owned(),
            span((now - ca.from).0),
            until,
            ca.trusted_by.to_string(),
            ca.certificates.to_string(),
        ]
    };
    let rows: Vec<_> = view.cas.iter().map(row).collect();
    let mut lines = table(["CA", "STATE", "SINCE", "ENDS IN", "TRUSTED BY", "CERTIFICATES"], &rows);
    if let Some(rotation) = &view.rotation {
        let theft = if rotation.compromised { ", after a theft" } else { "" };
        lines.push(format!("rotation{theft}: {}; {} done", doing(rotation), rotation.done));
        for waits in rotation.waits_for.iter().take(MOST_NAMED) {
            lines.push(format!("  waits for {}: {}", waits.node, waits.reason));
        }
        let more = rotation.waits_for.len().saturating_sub(MOST_NAMED);
        if more > 0 {
            lines.push(format!("  and for {more} more (shef ca ls --json names them)"));
        }
        if !rotation.waits_for.is_empty() {
            lines.push("  shef ca continue goes on without them".to_owned());
        }
    } else if view.expires_soon {
        lines.push("the CA expires within a year: replace it by shef ca rotate".to_owned());
    }
    lines
}

const fn state(state: CaState) -> &'static str {
    match state {
        CaState::Signs => "signs",
        CaState::Next => "next",
        CaState::Previous => "previous",
        CaState::Former => "former",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_shown_with_the_hosts_that_it_waits_for() {
        let ca = |digit: &str, state: &str| {
            json!({ "digest": digit.repeat(40), "state": state, "from": 0, "until": 86_400_000,
                "trusted_by": 12, "certificates": 0 })
        };
        let waits: Vec<_> =
            (0..12).map(|n| json!({ "node": format!("h{n}"), "reason": "it is old" })).collect();
        let rotation =
            json!({ "phase": "trust", "begun": 0, "compromised": false, "done": 3, "waits_for": waits });
        let view = json!({ "cas": [ca("a", "signs"), ca("b", "next")], "expires_soon": false,
            "rotation": rotation });
        let shown = lines(&serde_json::from_value(view).unwrap(), WallMs(3_600_000));
        assert!(shown[1].contains(&"a".repeat(40)) && shown[2].contains("next"), "{shown:?}");
        assert_eq!(shown[3], "rotation: hosts come to trust the next CA, too; 3 done");
        assert_eq!(shown[4], "  waits for h0: it is old");
        assert_eq!(shown[14], "  and for 2 more (shef ca ls --json names them)");
        assert_eq!(shown.len(), 16, "{shown:?}");
    }
}
