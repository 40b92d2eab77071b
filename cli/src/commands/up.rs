//! `shef up`: a whole cluster on this host, with all the set-up it needs.

use std::process::ExitCode;

use super::on_system;
use crate::{Failure, layers::UpFlags, up};

/// Arguments of `shef up`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub(super) struct Args {
    #[command(flatten)]
    flags: UpFlags,
    /// Also deploy a small service from an image that is made on the spot
    #[arg(long)]
    demo: bool,
    /// Go on in the background once everything is up
    #[arg(short, long)]
    detach: bool,
    /// Do not ask before installing or starting an engine
    #[arg(short, long)]
    yes: bool,
    /// The process in the background that --detach starts
    #[arg(long, hide = true, conflicts_with_all = ["detach", "demo"])]
    background: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let request = up::UpRequest {
            flags: self.flags,
            demo: self.demo,
            yes: self.yes,
            mode: match (self.background, self.detach) {
                (true, _) => up::Mode::Background,
                (false, true) => up::Mode::Detach,
                (false, false) => up::Mode::Foreground,
            },
        };
        on_system(up::up(request))?;
        Ok(ExitCode::SUCCESS)
    }
}
