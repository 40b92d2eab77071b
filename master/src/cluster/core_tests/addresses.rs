//! At which address a host is called, and how it changes.

use super::*;

/// The registration of another run, which says that it listens elsewhere.
fn moved(call: u64) -> Event {
    let Event::Register { mut registration, .. } = register(ours(), None) else { unreachable!() };
    registration.boot = BootId::parse("00000000000000b2").unwrap();
    registration.host.agent_url = "http://10.6.6.6:11044".to_owned();
    registration.host.address = "10.6.6.6".parse().unwrap();
    Event::Register { call, registration }
}

fn asked(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::AskFirstLife { number, endpoint } if endpoint.to_string() == "http://127.0.0.1:1" => {
            Some(*number)
        }
        _ => None,
    })
}

fn refused_calls(effects: &[Effect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::AnswerRegistration(call, Err(_)) => Some(*call),
            _ => None,
        })
        .collect()
}

#[test]
fn a_registration_from_another_address_waits_for_the_first_to_be_gone() {
    let mut core = leading();
    assert!(is_let_in(&core.handle(register(ours(), None), NOW)));
    let effects = core.handle(moved(8), NOW);
    let number = asked(&effects).expect("the first one is asked");
    assert_eq!(effects.len(), 1, "{effects:?}");
    // While it is asked, nobody else has it asked; the host itself is let in.
    assert_eq!(refused_calls(&core.handle(moved(9), NOW)), [9]);
    assert!(is_let_in(&core.handle(register(ours(), None), NOW)));
    let alive = Alive {
        node: node(),
        uid: uid(),
        boot: BootId::parse("00000000000000b1").unwrap(),
        agent_url: None,
        follows: None,
    };
    let answer = |outcome| Answer { asked: "127.0.0.1:1".parse().unwrap(), outcome };
    let answered = answer(ProbeOutcome::Answered(alive));
    let effects = core.handle(Event::FirstLifeAnswered { number, answer: answered }, NOW);
    assert_eq!(refused_calls(&effects), [8]);
    assert_eq!(effects.len(), 1, "{effects:?}");
    // Once it is down, and silent, the host is let in from elsewhere.
    let condition = HostCondition::of(Standing::Down);
    let _ = core.handle(Event::HostChanged(HostChanged { node: node(), condition, why: None }), NOW);
    let number = asked(&core.handle(moved(7), NOW)).expect("the first one is asked again");
    let silent = answer(ProbeOutcome::Unreachable { why: "nothing".into() });
    assert!(is_let_in(&core.handle(Event::FirstLifeAnswered { number, answer: silent }, NOW)));
}

#[test]
fn the_address_at_which_ports_are_tried_is_the_one_that_proves_itself() {
    let mut core = leading();
    let Event::Register { mut registration, call } = register(ours(), None) else { unreachable!() };
    registration.host.address = "10.6.6.6".parse().unwrap();
    let effects = core.handle(Event::Register { registration, call }, NOW);
    assert!(
        matches!(&effects[..], [Effect::AnswerRegistration(7, Err(RegisterRefused::Conflict(why)))]
            if why.contains("10.6.6.6") && why.contains("127.0.0.1:1") && why.contains("HOST_IP")),
        "{effects:?}"
    );
}

#[test]
fn an_agents_address_is_one_of_a_host_and_nothing_more() {
    for bad in ["http://169.254.169.254/latest?x=", "http://u:p@10.0.0.1:1", "http://db:6379", "x", ""] {
        let mut core = leading();
        let Event::Register { mut registration, call } = register(ours(), None) else { unreachable!() };
        registration.host.agent_url = bad.to_owned();
        let effects = core.handle(Event::Register { registration, call }, NOW);
        assert!(
            matches!(&effects[..], [Effect::AnswerRegistration(7, Err(RegisterRefused::Conflict(why)))]
                if why.contains("http://ADDRESS:PORT") && why.contains(bad)),
            "{effects:?}"
        );
    }
}
