use std::collections::BTreeMap;

use super::*;

static PROGRAM: Program = Program {
    name: "probe",
    keys: &[
        Key { name: "listen", kind: Kind::Listen, default: ":1", env: &["LISTEN"], doc: "Where." },
        Key {
            name: "level",
            kind: Kind::Choice(&["low", "high"]),
            default: "low",
            env: &["LEVEL"],
            doc: "How much.",
        },
        Key {
            name: "count",
            kind: Kind::Integer { min: 1, max: 9, unit: "things" },
            default: "3",
            env: &["COUNT"],
            doc: "How many.",
        },
        Key { name: "names", kind: Kind::List, default: "a,b", env: &["NAMES"], doc: "Who." },
        Key { name: "labels", kind: Kind::Map, default: "", env: &["LABELS"], doc: "What." },
        Key { name: "part.word", kind: Kind::Text, default: "", env: &["WORD"], doc: "A word." },
        Key { name: "part.secret", kind: Kind::Secret, default: "", env: &["SECRET"], doc: "Hush." },
    ],
    derived_env: |env| {
        env.get("DERIVED").map(|word| Preset::new("part.word", word, "DERIVED")).into_iter().collect()
    },
};

/// Per key: five values, one for each source above the default.
const VALUES: [(&str, [&str; 5]); 7] = [
    ("listen", [":2", ":3", ":4", ":5", "[::1]:6"]),
    ("level", ["high", "low", "high", "low", "high"]),
    ("count", ["4", "5", "6", "7", "8"]),
    ("names", ["c", "d,e", "f", "g", "h"]),
    ("labels", ["a=1", "b=2", "c=3", "d=4", "e=5"]),
    ("part.word", ["one", "two", "three", "four", "five"]),
    ("part.secret", ["one", "two", "three", "four", "five"]),
];

fn as_toml(key: &Key, text: &str) -> String {
    let (section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
    let value = match key.kind.parse(text).unwrap() {
        Value::Secret(secret) => format!("{:?}", secret.expose()),
        value => value.shown(),
    };
    if section.is_empty() {
        format!("{name} = {value}\n")
    } else {
        format!("[{section}]\n{name} = {value}\n")
    }
}

#[test]
fn each_source_beats_the_ones_below_it_for_every_key() {
    for key in PROGRAM.keys {
        let values = VALUES.iter().find(|(name, _)| *name == key.name).unwrap().1;
        let mut layers = Layers::default();
        assert_eq!(load(&PROGRAM, &[], &layers).unwrap().entry(key.name).origin, Origin::Default);
        for (strength, text) in values.into_iter().enumerate() {
            let origin = match strength {
                0 => {
                    layers.presets.push(Preset::new(key.name, text, "reason"));
                    Origin::Preset("reason".into())
                }
                1 => {
                    layers.file = Some(("f.toml".into(), format!("\n{}", as_toml(key, text)), ""));
                    Origin::File("f.toml".into(), Some(if key.name.contains('.') { 3 } else { 2 }))
                }
                2 => {
                    layers.env.insert(key.env[0].into(), text.into());
                    Origin::Env(key.env[0].into())
                }
                3 => {
                    layers.env.insert(key.own_env("probe"), text.into());
                    Origin::Env(key.own_env("probe"))
                }
                _ => {
                    layers.flags.push(Preset::new(key.name, text, "--flag"));
                    Origin::Flag("--flag".into())
                }
            };
            let effective = load(&PROGRAM, &[], &layers).unwrap();
            let entry = effective.entry(key.name);
            assert_eq!(
                (&entry.value, &entry.origin),
                (&key.kind.parse(text).unwrap(), &origin),
                "{} from {origin}",
                key.name
            );
            assert!(
                effective
                    .entries()
                    .iter()
                    .filter(|other| other.key.name != key.name)
                    .all(|e| e.origin == Origin::Default)
            );
        }
    }
}

fn file(text: &str) -> Layers {
    Layers { file: Some(("dir/f.toml".into(), text.into(), "")), ..Layers::default() }
}

fn env(name: &str, value: &str) -> Layers {
    Layers { env: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..Layers::default() }
}

fn refusal(layers: &Layers) -> String {
    load(&PROGRAM, &[], layers).unwrap_err().to_string()
}

#[test]
fn unknown_keys_are_refused_with_their_name_and_place() {
    assert!(refusal(&file("count = 1\nbogus = 2")).starts_with("unknown key \"bogus\" in dir/f.toml:2:"));
    assert!(refusal(&file("[part]\nbogus = 2")).starts_with("unknown key \"part.bogus\" in dir/f.toml:2:"));
    assert!(refusal(&file("[bogus]\nx = 2")).starts_with("unknown key \"bogus\" in dir/f.toml:1:"));
    assert!(refusal(&file("Count = 1")).starts_with("unknown key \"Count\""));
    for of_commands in [HEALTH_URL_ENV, "SHEF_API", "SHEF_TOKEN", "SHEF_CA", "SHEF_PLAIN_HTTP"] {
        assert!(load(&PROGRAM, &[], &env(of_commands, "http://h")).is_ok(), "{of_commands}");
    }
    assert!(
        refusal(&env("SHEF_PROBE_BOGUS", "1"))
            .starts_with("unknown key \"SHEF_PROBE_BOGUS\" in env SHEF_PROBE_BOGUS:")
    );
    load(&PROGRAM, &[], &env("BOGUS", "1")).unwrap();
}

#[test]
fn variables_of_the_other_programs_are_known() {
    static OTHER: Program = Program { name: "other", ..PROGRAM };
    assert!(refusal(&env("SHEF_OTHER_COUNT", "1")).starts_with("unknown key \"SHEF_OTHER_COUNT\" in env"));
    assert_eq!(
        load(&PROGRAM, &[&OTHER], &env("SHEF_OTHER_COUNT", "1")).unwrap().entry("count").origin,
        Origin::Default
    );
}

#[test]
fn wrong_types_and_values_are_refused_with_key_value_and_bounds() {
    let expected = "count must be a whole number of things from 1 to 9, but dir/f.toml:1 says \"10\"";
    assert_eq!(refusal(&file("count = 10")), expected);
    assert_eq!(
        refusal(&env("COUNT", "x")),
        "count must be a whole number of things from 1 to 9, but env COUNT says \"x\""
    );
    let wrong = [
        ("count = 0", "count must be"),
        ("count = -1", "count must be"),
        ("count = 1.5", "count must be"),
        ("count = [1]", "count must be"),
        ("listen = 80", "listen must be"),
        ("listen = \"here\"", "listen must be"),
        ("level = \"mid\"", "level must be"),
        ("names = [1]", "names must be"),
        ("labels = \"a\"", "labels must be"),
        ("labels = { a = 1 }", "labels must be"),
        ("part = 3", "part"),
        ("[part]\nword = 1", "part.word must be"),
    ];
    for (text, refused) in wrong {
        assert!(refusal(&file(text)).contains(refused), "{text}: {}", refusal(&file(text)));
    }
    for (name, value) in [("COUNT", "1.0"), ("LISTEN", ":99999"), ("LEVEL", "LOW"), ("LABELS", "a")] {
        let refused = refusal(&env(name, value));
        assert!(refused.ends_with(&format!("but env {name} says \"{value}\"")), "{refused}");
    }
    let weak = Layers { flags: vec![Preset::new("count", "4", "--count")], ..env("COUNT", "99") };
    let refused = refusal(&weak);
    assert!(refused.ends_with("env COUNT says \"99\""), "a stronger source does not hide it: {refused}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(load(&PROGRAM, &[], &env("COUNT", "")).unwrap().integer("count"), 3);
}

#[test]
fn secrets_are_printed_nowhere() {
    let layers = file("[part]\nsecret = \"hush hush\"");
    let effective = load(&PROGRAM, &[], &layers).unwrap();
    assert_eq!(effective.secret("part.secret").unwrap().expose(), "hush hush");
    assert_eq!(effective.entry("part.secret").value.shown(), "\"****\"");
    assert!(!format!("{effective:?}{}", effective.secret("part.secret").unwrap()).contains("hush"));
    for broken in ["[part]\nsecret = [\"hush\"]", "[part]\nsecret = \"hush"] {
        let said = refusal(&file(broken));
        assert!(!said.contains("hush") && said.contains("dir/f.toml"), "{said}");
    }
}

#[test]
fn derived_variables_are_weaker_than_a_keys_own() {
    assert_eq!(load(&PROGRAM, &[], &env("DERIVED", "x")).unwrap().text("part.word"), "x");
    let mut both = env("DERIVED", "x");
    both.env.insert("WORD".into(), "y".into());
    assert_eq!(load(&PROGRAM, &[], &both).unwrap().text("part.word"), "y");
}

#[test]
fn a_file_for_both_programs_keeps_each_in_its_table() {
    static AGENT: Program = Program { name: "agent", ..PROGRAM };
    static MASTER: Program = Program { name: "master", ..PROGRAM };
    let text = "[agent]\ncount = 5\n[agent.part]\nword = \"w\"\n[master]\nanything = 1\n";
    let mut layers = file(text);
    layers.file.as_mut().unwrap().2 = "agent";
    let effective = load(&AGENT, &[], &layers).unwrap();
    assert_eq!((effective.integer("count"), effective.text("part.word")), (5, "w"));
    assert_eq!(effective.entry("part.word").origin.to_string(), "dir/f.toml:4");
    layers.file.as_mut().unwrap().1 = "count = 5".into();
    let outside = "is outside of the tables of this file: it belongs below";
    for (text, said) in [
        ("count = 5", format!("\"count\" in dir/f.toml:1 {outside} [agent] or [master]")),
        ("[part]\nword = \"w\"", format!("\"part\" in dir/f.toml:1 {outside} [agent.part] or [master.part]")),
        (
            "x = 1",
            "\"x\" in dir/f.toml:1 is no key: this file has the tables [master] and [agent]".to_owned(),
        ),
    ] {
        layers.file.as_mut().unwrap().1 = text.into();
        let refused = load(&AGENT, &[&MASTER, &AGENT], &layers).unwrap_err().to_string();
        assert!(refused.starts_with(&said), "{refused}");
    }
}

#[test]
fn the_document_parses_as_it_is_and_with_its_keys_uncommented() {
    let text = PROGRAM.document();
    load(&PROGRAM, &[], &file(&text)).unwrap();
    let uncommented =
        text.lines().map(|line| if line.starts_with("# ") { "" } else { line.trim_start_matches('#') });
    let uncommented = uncommented.collect::<Vec<_>>().join("\n");
    let effective = load(&PROGRAM, &[], &file(&uncommented)).unwrap();
    for entry in effective.entries() {
        if entry.key.kind != Kind::Secret {
            assert_eq!(entry.value, entry.key.default_value(), "{}", entry.key.name);
        }
        let Origin::File(_, Some(line)) = &entry.origin else { panic!("{:?}", entry.origin) };
        assert!(uncommented.lines().nth(line - 1).unwrap().contains(" = "));
    }
}
