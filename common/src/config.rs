//! Layered configuration: defaults, a TOML file, environment variables, flags.
