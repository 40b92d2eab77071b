//! Who calls the API, and what for: tokens with roles, and what each call needs.
//!
//! Invariants:
//!
//! - The secret of a token is in the answer to its creation, and nowhere else: not in the store, a log, an
//!   event or a later answer.
//! - A token counts from when it is durable, and no more once its revocation is.
//! - A host is let in by one commit that also uses up its token: no use counts twice, whatever becomes of
//!   commits.
//! - A host whose identity the store has lost is known again by its certificate, once, under a name that no
//!   other member has, and never after it was forgotten: a certificate is given only to whom the store knows.
//! - A certificate is given only after the store has confirmed the host's record: a master that leads no more
//!   gives none.
//! - The identity of a forgotten host counts no more at once, and the store is told until it has taken it.

mod actor;
mod administrators;
mod core;
#[cfg(test)]
mod core_tests;
mod effects;
mod events;
mod first;
mod identities;
mod kind;
mod messages;
mod need;
mod sessions;
mod token;

pub use actor::{AccessActor, AccessOutlets};
pub use administrators::{AdminAccess, ClockCheck};
pub use core::AccessCore;
pub use effects::{AccessEffects, identity_writes};
pub use events::{
    BatchNumber, Effect as AccessEffect, Event as AccessEvent, IdentityWrite, Joining, Readmitting,
    RecoveredAccess, TokenWrite,
};
pub use first::{ADMIN_TOKEN, FirstToken};
pub use kind::{JOIN_LIFE, JoinRole, MOST_USES, TokenKind, TokenRole};
pub use messages::{
    Created, JoinRefused, JoinRequest, ReadmitRequest, RenewRefused, RenewRequest, RevokeIdentity,
    RevokeRefused, TokenAsked, TokenRefused, TokenRequest, TokenView,
};
pub use need::{Caller, Denied, MayChange, Need, Role, Scope};
pub use sessions::{CODE_LIFE, SESSION_LIFE, Sessions};
pub use token::{Presented, RecoveredToken, Token, TokenRecord, TokenTable};
