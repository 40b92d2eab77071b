//! What to do so that the wanted system containers run: a pure function of what
//! is wanted and what is seen.
//!
//! Invariants, each a property of the tests below:
//! - Nothing is touched that is not labelled as ours.
//! - Carrying out the steps leads to a state that needs none.
//! - Changes come in the order of the parts: the store, the master, the agent, the guard.

use super::{
    refusal::Refusal,
    system::{Part, Wanted},
};

/// A container as the engine shows it: one with our label, or with the name of one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The engine's id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// The part of ours that it is by its label; `None`: it is not ours.
    pub part: Option<Part>,
    /// What it was made of, by its label.
    pub made_of: String,
    /// Whether it runs.
    pub state: State,
}

/// What a container does, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs, or the engine is about to start it again.
    Running,
    /// It was paused by a user.
    Paused,
    /// It was made or has ended, and stays so.
    Stopped,
    /// It is being removed, or half removed.
    Going,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make and start it, if its port is free.
    Create(Part),
    /// Start it.
    Start(Part, String),
    /// Let it go on.
    Unpause(Part, String),
    /// Stop and remove it, then make and start it anew.
    Replace(Part, String),
    /// Remove a second one of the same part, which is ours.
    Discard(Part, String),
}

impl Step {
    /// The part it is about.
    #[must_use]
    pub const fn part(&self) -> Part {
        match self {
            Self::Create(part)
            | Self::Start(part, _)
            | Self::Unpause(part, _)
            | Self::Replace(part, _)
            | Self::Discard(part, _) => *part,
        }
    }
    /// Whether something that runs is taken down for it: only when all that was to
    /// be done before has succeeded.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Replace(..) | Self::Discard(..) => true,
            Self::Create(_) | Self::Start(..) | Self::Unpause(..) => false,
        }
    }
}

/// The steps to take, and the obstacles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it is to be done.
    pub steps: Vec<Step>,
    /// For the user: what is not done, and what to do about it.
    pub refused: Vec<Refusal>,
    /// For the user: containers that are left alone though they are not wanted.
    pub noticed: Vec<String>,
}

impl Plan {
    /// Whether the part is made where there is none, as at the first start of a host.
    #[must_use]
    pub fn makes(&self, part: Part) -> bool {
        self.steps.contains(&Step::Create(part))
    }
}

/// The plan for `wanted`, which is in the order of the parts, over everything that is `seen`.
#[must_use]
pub fn plan(wanted: &[Wanted], seen: &[Seen]) -> Plan {
    let mut plan = Plan::default();
    for want in wanted {
        let name = want.part.container();
        if let Some(foreign) = seen.iter().find(|seen| seen.name == name && seen.part != Some(want.part)) {
            plan.refused.push(Refusal::ForeignContainer { name, id: short(&foreign.id).to_owned() });
            continue;
        }
        let mut ours: Vec<&Seen> = seen.iter().filter(|seen| seen.part == Some(want.part)).collect();
        // The one with the usual name is the one that stays.
        ours.sort_by_key(|seen| (seen.name != name, seen.id.clone()));
        let Some((first, further)) = ours.split_first() else {
            plan.steps.push(Step::Create(want.part));
            continue;
        };
        plan.steps.extend(further.iter().map(|seen| Step::Discard(want.part, seen.id.clone())));
        let id = first.id.clone();
        let same = first.name == name && first.made_of == want.made_of();
        match first.state {
            State::Running if same => {}
            State::Stopped if same => plan.steps.push(Step::Start(want.part, id)),
            State::Paused if same => plan.steps.push(Step::Unpause(want.part, id)),
            State::Running | State::Stopped | State::Paused | State::Going => {
                plan.steps.push(Step::Replace(want.part, id));
            }
        }
    }
    let is_wanted = |part| wanted.iter().any(|want| want.part == part);
    let unasked = seen.iter().filter(|seen| seen.part.is_some_and(|part| !is_wanted(part)));
    plan.noticed.extend(unasked.map(|seen| {
        format!("{} is of an earlier start and is let be; `shef bootstrap --uninstall` removes it", seen.name)
    }));
    plan
}

/// An id as people know it.
#[must_use]
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::system::{
        tests::{config, facts},
        wanted,
    };

    fn seen(id: &str, part: Option<Part>, name: &str, made_of: &str, state: State) -> Seen {
        Seen { id: id.into(), name: name.into(), part, made_of: made_of.into(), state }
    }

    /// What the engine shows after `step`; a Create or Replace fails where the name is taken.
    fn carry_out(step: &Step, wanted: &[Wanted], world: &mut Vec<Seen>) {
        let made_of = |part| wanted.iter().find(|want| want.part == part).unwrap().made_of();
        let state_of = |world: &mut Vec<Seen>, id: &String| {
            world.iter_mut().find(|seen| seen.id == *id).unwrap().state = State::Running;
        };
        match step {
            Step::Start(_, id) | Step::Unpause(_, id) => state_of(world, id),
            Step::Discard(_, id) => world.retain(|seen| seen.id != *id),
            Step::Create(part) => {
                assert!(!world.iter().any(|seen| seen.name == part.container()), "the name is taken");
                world.push(seen(
                    &format!("new-{}", part.word()),
                    Some(*part),
                    part.container(),
                    &made_of(*part),
                    State::Running,
                ));
            }
            Step::Replace(part, id) => {
                world.retain(|seen| seen.id != *id);
                carry_out(&Step::Create(*part), wanted, world);
            }
        }
    }

    fn worlds() -> impl Strategy<Value = Vec<Seen>> {
        let state =
            prop_oneof![Just(State::Running), Just(State::Paused), Just(State::Stopped), Just(State::Going)];
        let part = prop_oneof![Just(None), (0_usize..4).prop_map(|n| Some(Part::ALL[n]))];
        let name = prop_oneof![
            Just("shef-redis"),
            Just("shef-master"),
            Just("shef-agent"),
            Just("shef-guard"),
            Just("web-1"),
            Just("old")
        ];
        let made_of = prop_oneof![Just(String::from("old")), Just(String::new())];
        prop::collection::vec((part, name, made_of, 0_usize..4, state), 0..6).prop_map(|all| {
            let wanted = wanted(&config(&[]), &facts("a"));
            let mut names = std::collections::BTreeSet::new();
            all.into_iter()
                .enumerate()
                // A container of ours has its own name, or one that the operator gave it.
                .filter(|(_, (part, name, ..))| {
                    part.is_none_or(|part| part.container() == *name || !name.starts_with("shef"))
                })
                .filter(|(_, (_, name, ..))| names.insert(*name))
                .map(|(n, (part, name, made_of, same, state))| {
                    let current = part
                        .and_then(|part| wanted.iter().find(|want| want.part == part))
                        .map(Wanted::made_of);
                    let made_of = if same > 0 { current.unwrap_or(made_of) } else { made_of };
                    seen(&format!("id{n}"), part, name, &made_of, state)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn carrying_out_a_plan_leaves_nothing_to_do_and_touches_nothing_foreign(
            world in worlds(), slave in any::<bool>(),
        ) {
            let of_slave = [("SLAVE", "true"), ("MASTER_HOST", "10.0.0.9")];
            let env: &[(&str, &str)] = if slave { &of_slave } else { &[] };
            let wanted = wanted(&config(env), &facts("a"));
            let before = plan(&wanted, &world);
            let parts: Vec<Part> = before.steps.iter().map(Step::part).collect();
            prop_assert!(parts.is_sorted(), "{parts:?}");
            for step in &before.steps {
                if let Step::Start(part, id)
                | Step::Unpause(part, id)
                | Step::Replace(part, id)
                | Step::Discard(part, id) = step
                {
                    prop_assert!(world.iter().any(|seen| seen.id == *id && seen.part == Some(*part)));
                }
            }
            let mut after = world.clone();
            for step in &before.steps {
                carry_out(step, &wanted, &mut after);
            }
            prop_assert_eq!(&plan(&wanted, &after).steps, &vec![]);
            prop_assert_eq!(plan(&wanted, &after).refused, before.refused);
            let is_wanted = |part| wanted.iter().any(|want| want.part == part);
            for foreign in world.iter().filter(|seen| !seen.part.is_some_and(is_wanted)) {
                prop_assert!(after.contains(foreign));
            }
        }
    }

    #[test]
    fn a_master_is_made_at_the_first_start_and_not_where_one_runs_stopped_or_changes() {
        let wanted = wanted(&config(&[]), &facts("a"));
        let makes = |world: &[Seen]| plan(&wanted, world).makes(Part::Master);
        assert!(makes(&[]));
        for state in [State::Running, State::Stopped, State::Paused] {
            for made_of in [wanted[1].made_of(), "other".to_owned()] {
                assert!(
                    !makes(&[seen("1", Some(Part::Master), "shef-master", &made_of, state)]),
                    "{state:?}"
                );
            }
        }
    }

    #[test]
    fn a_foreign_container_with_our_name_is_named_and_left() {
        let wanted = wanted(&config(&[]), &facts("a"));
        let world = [seen("0123456789abcdef", None, "shef-master", "", State::Stopped)];
        let plan = plan(&wanted, &world);
        assert_eq!(
            plan.steps,
            [Step::Create(Part::Redis), Step::Create(Part::Agent), Step::Create(Part::Guard)]
        );
        let refused = Refusal::ForeignContainer { name: "shef-master", id: "0123456789ab".to_owned() };
        assert_eq!(plan.refused, [refused]);
    }

    #[test]
    fn what_an_earlier_role_left_is_let_be_and_told() {
        let wanted = wanted(&config(&[("SLAVE", "true"), ("MASTER_HOST", "10.0.0.9")]), &facts("a"));
        let world = [seen("1", Some(Part::Redis), "shef-redis", "x", State::Running)];
        let plan = plan(&wanted, &world);
        assert_eq!(plan.steps, [Step::Create(Part::Agent), Step::Create(Part::Guard)]);
        assert!(plan.noticed[0].contains("shef-redis"));
    }
}
