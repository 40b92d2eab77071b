//! The one binary of shef.

fn main() -> std::process::ExitCode {
    shef::main()
}
