use super::*;

const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n";
const MINT: &str = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
const FEDORA: &str = "ID=fedora\n";

fn usual(probe: Probe) -> Vec<(Candidate, Probe)> {
    vec![(Candidate { url: DEFAULT_URL.into(), named_by: "the usual socket".into(), wanted: false }, probe)]
}

fn silent() -> Probe {
    Probe::Silent("there is no such socket".into())
}

fn answers() -> Probe {
    Probe::Answers { version: "20.10.24".into(), api: (1, 41) }
}

fn bare() -> Situation {
    Situation {
        engines: usual(silent()),
        os_release: DEBIAN.into(),
        rights: Rights::Root,
        dockerd: false,
        systemd: false,
        user: "ann".into(),
        in_docker_group: false,
    }
}

/// The plan as short lines.
fn lines(situation: &Situation) -> Vec<String> {
    match plan(situation) {
        Plan::Use(candidate) => vec![format!("use {}", candidate.url)],
        Plan::Refuse(text) => vec![format!("refuse: {text}")],
        Plan::Prepare(why, steps) => {
            assert!(why.contains(DEFAULT_URL), "{why}");
            let line = |step: Step| match step {
                Step::Run { command, .. } => command.join(" "),
                Step::StartDaemon { command } => format!("detached: {}", command.join(" ")),
                Step::Wait => "wait".into(),
                Step::StartAgainInGroup => "start again".into(),
            };
            steps.into_iter().map(line).collect()
        }
    }
}

const UPDATE: &str = "env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 update";
const INSTALL: &str = "env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 install \
                       -y --no-install-recommends docker.io ca-certificates";

#[test]
fn an_engine_that_answers_is_used_whoever_asks() {
    for rights in [Rights::Root, Rights::Sudo, Rights::User] {
        let situation = Situation { engines: usual(answers()), rights, ..bare() };
        assert_eq!(lines(&situation), [format!("use {DEFAULT_URL}")]);
    }
}

#[test]
fn the_first_choice_that_answers_wins() {
    let mut engines = usual(silent());
    engines.push((
        Candidate { url: "unix:///run/mine.sock".into(), named_by: "a context".into(), wanted: false },
        answers(),
    ));
    assert_eq!(lines(&Situation { engines, ..bare() }), ["use unix:///run/mine.sock"]);
}

#[test]
fn on_a_bare_debian_root_installs_starts_and_waits() {
    assert_eq!(lines(&bare()), [UPDATE, INSTALL, "detached: setsid --fork dockerd", "wait"]);
    assert_eq!(
        lines(&Situation { systemd: true, ..bare() }),
        [UPDATE, INSTALL, "systemctl start docker", "wait"]
    );
    assert_eq!(lines(&Situation { os_release: MINT.into(), ..bare() })[1], INSTALL);
}

#[test]
fn what_is_installed_is_not_installed_again_on_any_system() {
    for os_release in [DEBIAN, FEDORA, ""] {
        let situation = Situation { dockerd: true, os_release: os_release.into(), ..bare() };
        assert_eq!(lines(&situation), ["detached: setsid --fork dockerd", "wait"]);
    }
}

#[test]
fn with_sudo_every_change_goes_through_it_and_the_user_joins_the_group() {
    let lines = lines(&Situation { rights: Rights::Sudo, ..bare() });
    assert_eq!(
        lines,
        [
            format!("sudo {UPDATE}"),
            format!("sudo {INSTALL}"),
            "detached: sudo setsid --fork dockerd".into(),
            "wait".into(),
            "sudo usermod -aG docker ann".into(),
            "start again".into()
        ]
    );
}

#[test]
fn a_socket_that_is_not_for_this_user_needs_the_group_only() {
    let denied = Situation { engines: usual(Probe::Denied), dockerd: true, rights: Rights::Sudo, ..bare() };
    assert_eq!(lines(&denied), ["sudo usermod -aG docker ann", "start again"]);
    assert_eq!(lines(&Situation { in_docker_group: true, ..denied.clone() }), ["start again"]);
    let refused = lines(&Situation { rights: Rights::User, ..denied.clone() });
    assert!(
        refused[0].starts_with("refuse:") && refused[0].contains("usermod -aG docker ann"),
        "{refused:?}"
    );
    assert!(lines(&Situation { rights: Rights::Root, ..denied })[0].starts_with("refuse:"));
}

#[test]
fn without_rights_nothing_is_tried_and_what_to_do_is_said() {
    let refused = lines(&Situation { rights: Rights::User, ..bare() });
    assert!(
        refused[0].starts_with("refuse:") && refused[0].contains("apt-get install docker.io"),
        "{refused:?}"
    );
    let refused = lines(&Situation { rights: Rights::User, dockerd: true, ..bare() });
    assert!(refused[0].contains("start Docker"), "{refused:?}");
}

#[test]
fn on_an_unknown_system_it_says_exactly_what_to_install() {
    for (os_release, expected) in [
        (FEDORA, "dnf install moby-engine"),
        ("ID=arch", "pacman -S docker"),
        ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"", "zypper install docker"),
        ("ID=plan9", "install Docker Engine 19.03 or newer"),
        ("", "install Docker Engine 19.03 or newer"),
    ] {
        let refused = lines(&Situation { os_release: os_release.into(), ..bare() });
        assert!(refused[0].starts_with("refuse:") && refused[0].contains(expected), "{refused:?}");
    }
}

#[test]
fn an_engine_that_was_asked_for_is_never_replaced_by_another() {
    for (probe, expected) in [(silent(), "does not answer"), (Probe::Denied, "does not let this user in")] {
        let engines = vec![(
            Candidate { url: "tcp://10.0.0.9:2375".into(), named_by: "env DOCKER_HOST".into(), wanted: true },
            probe,
        )];
        let refused = lines(&Situation { engines, ..bare() });
        assert!(
            refused[0].contains("tcp://10.0.0.9:2375 (from env DOCKER_HOST)")
                && refused[0].contains(expected),
            "{refused:?}"
        );
    }
    // The usual address named by hand is still the usual one.
    let mut engines = usual(silent());
    engines[0].0.wanted = true;
    assert_eq!(lines(&Situation { engines, dockerd: true, ..bare() }).len(), 2);
}

#[test]
fn an_engine_that_is_too_old_is_refused_with_its_version() {
    let old = Probe::Answers { version: "18.09".into(), api: (1, 39) };
    let refused = lines(&Situation { engines: usual(old), ..bare() });
    assert!(
        refused[0].contains("18.09") && refused[0].contains("1.39") && refused[0].contains("1.40"),
        "{refused:?}"
    );
}

#[test]
fn whatever_is_found_a_plan_that_prepares_ends_at_an_engine() {
    for os_release in [DEBIAN, MINT, FEDORA, ""] {
        for rights in [Rights::Root, Rights::Sudo, Rights::User] {
            for bits in 0..8 {
                let situation = Situation {
                    os_release: os_release.into(),
                    rights,
                    dockerd: bits & 1 > 0,
                    systemd: bits & 2 > 0,
                    in_docker_group: bits & 4 > 0,
                    ..bare()
                };
                if let Plan::Prepare(_, steps) = plan(&situation) {
                    assert!(matches!(steps.last(), Some(Step::Wait | Step::StartAgainInGroup)));
                    assert_ne!(rights, Rights::User);
                }
            }
        }
    }
}
