//! The bound on hosts that join for the first time. Any caller can send a registration: each makes a record,
//! and the more hosts there are, the more rarely all of them report.

use std::collections::BTreeSet;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::NodeName,
};

use crate::cluster::not_admitted::NotAdmitted;

/// So many members may be there that have joined and never reported, or as many as have.
const UNREPORTED: usize = 128;
/// So many may join at once …
const AT_ONCE: u64 = 1_000;
/// … and one more each time so much has passed.
const ONE_EACH: DurationMs = DurationMs(50);

/// Members that have joined since this master leads.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    unreported: BTreeSet<NodeName>,
    /// When all new hosts will have joined, at one after the other.
    joined_until: MonoMs,
}

impl Newcomers {
    /// Why one more may not join now; `members`: how many there are.
    pub(super) fn refuses(&self, members: usize, now: MonoMs) -> Option<NotAdmitted> {
        let unreported = self.unreported.len();
        let reported = members.saturating_sub(unreported);
        if unreported >= UNREPORTED.max(reported) {
            return Some(NotAdmitted::TooManyUnreported { unreported });
        }
        let ahead = self.joined_until - now;
        (ahead >= DurationMs(AT_ONCE * ONE_EACH.0)).then_some(NotAdmitted::TooManyJoin)
    }

    /// One has joined.
    pub(super) fn joins(&mut self, node: NodeName, now: MonoMs) {
        self.joined_until = self.joined_until.max(now) + ONE_EACH;
        self.unreported.insert(node);
    }

    /// One has reported, or is no member any more.
    pub(super) fn is_known(&mut self, node: &NodeName) {
        self.unreported.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: usize) -> NodeName {
        NodeName::parse(&format!("h{n}")).unwrap()
    }

    #[test]
    fn hosts_that_never_report_are_no_more_than_a_few_or_than_those_that_do() {
        let mut newcomers = Newcomers::default();
        (0..UNREPORTED).for_each(|n| {
            assert_eq!(newcomers.refuses(n, MonoMs(0)), None);
            newcomers.joins(node(n), MonoMs(0));
        });
        let refused = Some(NotAdmitted::TooManyUnreported { unreported: UNREPORTED });
        assert_eq!(newcomers.refuses(UNREPORTED, MonoMs(0)), refused);
        newcomers.is_known(&node(7));
        assert_eq!(newcomers.refuses(UNREPORTED, MonoMs(0)), None);
        newcomers.joins(node(7), MonoMs(0));
        assert_eq!(newcomers.refuses(3 * UNREPORTED, MonoMs(0)), None, "twice as many report");
    }

    #[test]
    fn a_thousand_join_at_once_and_twenty_a_second_after_that() {
        let mut newcomers = Newcomers::default();
        let joins = |newcomers: &mut Newcomers, now| {
            (0..2_000)
                .take_while(|n| {
                    let may = newcomers.refuses(5_000, now).is_none();
                    if may {
                        newcomers.joins(node(*n), now);
                        newcomers.is_known(&node(*n));
                    }
                    may
                })
                .count()
        };
        assert_eq!(joins(&mut newcomers, MonoMs(1)), 1_000);
        assert_eq!(joins(&mut newcomers, MonoMs(2_001)), 40);
    }
}
