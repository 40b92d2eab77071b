//! What the benches of the whole system begin and end with.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A bench's `main`: hands `run` what `parse` makes of the arguments, and says
/// `usage` where it makes nothing of them. A signal ends it as a failure does:
/// whatever was started is taken away.
pub fn main<O>(
    usage: &str,
    parse: impl FnOnce(Vec<String>) -> Option<O>,
    run: impl AsyncFnOnce(O) -> Result<(), String>,
) -> ExitCode {
    // `cargo test --all-targets` starts it too: without what `cargo bench` says nothing is measured.
    let (asked, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument == "--bench");
    if asked.is_empty() {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    let Some(options) = parse(arguments) else {
        eprintln!("{usage}");
        return ExitCode::FAILURE;
    };
    actix_rt::System::new().block_on(async {
        let stop = async {
            let (mut int, mut term) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
        };
        // Whatever was started belongs to the future that ends here, and ends with it.
        let done = tokio::select! {
            done = run(options) => done,
            () = stop => Err("stopped; cleaning up".to_owned()),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        }
    })
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).unwrap_or_else(|error| panic!("signals cannot be listened to: {error}"))
}
