//! How many requests the holder of one token makes: a program that has gone wild takes nothing from the
//! others. Agents are no holders of tokens, and administrators at the machine itself have no bound.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use shef_common::{
    clock::{DurationMs, MonoMs},
    problem::{Code, Problem},
    rates::{Bucket, Rate},
};

use crate::access::Caller;

/// For how many seconds' worth of requests may come at once.
const SECONDS_AT_ONCE: u64 = 5;
/// Of how many tokens the requests are counted, before those that have none of late are left out.
const MOST: usize = 2_000;

/// The requests of late, by token.
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    by_token: Mutex<BTreeMap<String, Bucket>>,
}

impl Rates {
    /// So many requests a second of each token.
    #[must_use]
    pub fn of(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        let every = DurationMs(1_000);
        let rate = Rate { burst: per_second * SECONDS_AT_ONCE, back: per_second, every };
        Self { rate, by_token: Mutex::default() }
    }

    /// Counts one more request.
    ///
    /// # Errors
    /// 429: its token has made too many.
    pub fn admit(&self, caller: &Caller, now: MonoMs) -> Result<(), Problem> {
        let Caller::Token { id, name, .. } = caller else { return Ok(()) };
        let mut by_token = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        if by_token.len() >= MOST {
            by_token.retain(|_, bucket| !bucket.is_full(&self.rate, now));
        }
        if by_token.entry(id.clone()).or_default().take(&self.rate, now) {
            return Ok(());
        }
        let detail = format!(
            "token {name} has made more than {} requests a second for some time, which is the bound \
             (token_requests_per_second)",
            self.rate.back
        );
        Err(Problem { retry_after_s: Some(1), ..Problem::new(Code::TooManyRequests, detail) })
    }
}

#[cfg(test)]
mod tests {
    use shef_common::ids::TokenName;

    use super::*;
    use crate::access::{Role, Scope};

    #[test]
    fn a_token_that_asks_too_much_takes_nothing_from_others() {
        let rates = Rates::of(10);
        let holder = |id: &str| Caller::Token {
            id: id.to_owned(),
            name: TokenName::parse("ci").unwrap(),
            role: Role::Viewer,
            scope: Scope::default(),
        };
        let now = MonoMs(7_000);
        let admitted = (0..1_000).filter(|_| rates.admit(&holder("a"), now).is_ok()).count();
        assert_eq!(admitted, 50);
        let refused = rates.admit(&holder("a"), now).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(1)));
        assert!(refused.detail.contains("token ci"), "{}", refused.detail);
        assert!(rates.admit(&holder("b"), now).is_ok());
        assert!((0..1_000).all(|_| rates.admit(&Caller::Administrator, now).is_ok()));
        assert!(rates.admit(&holder("a"), now + DurationMs(1_000)).is_ok());
    }
}
