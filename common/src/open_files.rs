//! How many files and sockets this process may have open: the limit is raised at the
//! start, part of it is kept free for probes and reports, and a shortage on our own
//! side is told apart from another host's silence.

use std::io;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Kept free of users' and agents' connections: 256 probes, the store, logs, event loops.
const RESERVED: usize = 384;
/// Used in the place of a limit that is none.
const PLENTY: u64 = 1 << 20;
/// The most connections that are taken, however high the limit is.
const MOST_INCOMING: usize = 100_000;
/// The most calls to other hosts at once, however high the limit is.
const MOST_CALLS: usize = 2_048;
/// Below this limit a thousand hosts cannot keep their connections open.
pub const COMFORTABLE: u64 = 8_192;

/// What the limit on open files was, and is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The soft limit that the process was started with.
    pub from: u64,
    /// The soft limit in force.
    pub to: u64,
}

/// Raises the soft limit on open files to the hard one, and says so in the log. Where the
/// system refuses, the limit stays as it was.
pub fn raise() -> Raised {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let from = current.unwrap_or(PLENTY);
    // "Unlimited" is refused for open files where the system's own bound (fs.nr_open) is lower.
    let wanted = maximum.unwrap_or(PLENTY);
    let raised =
        from < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    let to = if raised { wanted } else { from };
    if to < COMFORTABLE {
        log::warn!(
            was = from, limit = to;
            "at most {to} files and sockets can be open, the hard limit of this process: connections are \
             closed earlier and calls wait; raise it (ulimit -n, LimitNOFILE of a unit, --ulimit nofile of \
             a container) for more than a few hundred hosts"
        );
    } else {
        log::info!(was = from, limit = to; "at most {to} files and sockets can be open");
    }
    Raised { from, to }
}

/// How the sockets of this process are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileBudget {
    /// Connections that are taken, over all threads.
    pub incoming: usize,
    /// Calls to other hosts under way at once.
    pub calls: usize,
    /// Calls to other hosts that are made for users, over all threads.
    pub user_calls: usize,
    /// Never used by any of these.
    pub reserved: usize,
    /// Whether connections may stay open between two calls.
    pub keep_alive: bool,
}

impl FileBudget {
    /// The shares of `limit` open files.
    #[must_use]
    pub fn of(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let reserved = RESERVED.min(limit / 8 * 3);
        let rest = limit - reserved;
        Self {
            incoming: (rest / 2).min(MOST_INCOMING),
            calls: (rest / 4).min(MOST_CALLS),
            user_calls: (rest / 4).min(MOST_CALLS),
            reserved,
            // An idle connection keeps another client from connecting.
            keep_alive: limit as u64 >= COMFORTABLE,
        }
    }

    /// The shares of the limit that is in force for this process.
    #[must_use]
    pub fn current() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(PLENTY))
    }
}

/// Whether a call failed because this side has no file, port or memory left for a socket:
/// that says nothing of the other side.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| short.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shares_of_1024_files_leave_every_probe_its_socket() {
        let budget = FileBudget::of(1_024);
        assert_eq!(
            (budget.reserved, budget.incoming, budget.calls, budget.keep_alive),
            (384, 320, 160, false)
        );
        assert!(FileBudget::of(524_288).keep_alive);
    }

    proptest! {
        #[test]
        fn the_shares_never_exceed_the_limit_and_none_is_empty(limit in 64_u64..2_000_000) {
            let FileBudget { incoming, calls, user_calls, reserved, .. } = FileBudget::of(limit);
            prop_assert!((incoming + calls + user_calls + reserved) as u64 <= limit);
            prop_assert!(incoming > 0 && calls > 0 && user_calls > 0 && reserved > 0);
        }
    }

    #[test]
    fn a_shortage_of_ours_is_told_from_what_the_other_side_does() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            assert!(is_shortage(&io::Error::from(errno)), "{errno:?}");
        }
        for errno in
            [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::CONNRESET]
        {
            assert!(!is_shortage(&io::Error::from(errno)), "{errno:?}");
        }
        assert!(!is_shortage(&io::Error::other("closed")));
    }
}
