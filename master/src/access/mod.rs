//! Who calls the API, and what for: tokens with roles, and what each call needs.
//!
//! Invariants:
//!
//! - The secret of a token is in the answer to its creation, and nowhere else: not in the store, a log, an event or
//!   a later answer.
//! - A token counts from when it is durable, and no more once its revocation is.

mod actor;
mod core;
#[cfg(test)]
mod core_tests;
mod messages;
mod need;
mod token;

pub use actor::{AccessActor, AccessOutlets};
pub use core::{AccessCore, RecoveredToken};
pub use messages::{Created, TokenAsked, TokenRefused, TokenRequest, TokenView};
pub use need::{Caller, Denied, MayChange, Need, Role, Scope};
pub use token::{Presented, Token, TokenRecord, TokenTable};
