//! End to end: the real binary in processes of its own, on real engines, stores
//! and registries. Each test starts what it needs and leaves nothing behind.

mod applying;
mod backup;
mod crashes;
mod hosts;
mod image;
mod lifecycle;
mod limits;
mod looking;
mod operating;
mod redis;
mod registry;
mod remote_engines;
mod stored_format;
mod terminal;
mod workload;
