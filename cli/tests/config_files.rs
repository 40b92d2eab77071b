//! The commented files in `config/` say what the tables of keys say, and can be read.

use std::path::{Path, PathBuf};

use shef::layers::{PROGRAMS, UpConfig, UpFlags};
use shef_common::config::{Kind, Layers, Origin, Program, load};

fn file(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name).with_extension("toml");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// The text with the '#' in front of each key taken away.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("# ") { String::new() } else { line.trim_start_matches('#').to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn read(program: &Program, path: &Path, text: &str) -> shef_common::config::Effective {
    load(
        program,
        &PROGRAMS,
        &Layers { file: Some((path.to_owned(), text.to_owned(), "")), ..Layers::default() },
    )
    .unwrap()
}

#[test]
fn each_file_lists_every_key_with_unit_default_and_bounds() {
    for program in PROGRAMS {
        let (path, text) = file(program.name);
        assert_eq!(
            text.trim(),
            program.document().trim(),
            "write {} anew: shef settings {} --template",
            path.display(),
            program.name
        );
        for key in program.keys {
            let name = key.name.rsplit('.').next().unwrap();
            let at = text.find(&format!("\n#{name} = ")).unwrap_or_else(|| panic!("{name} is missing"));
            let above = &text[..at];
            let line = above.rsplit('\n').next().unwrap();
            assert!(
                line.contains("Default: ")
                    && line.contains("Bounds: ")
                    && line.contains(&key.own_env(program.name)),
                "{line}"
            );
            if let Kind::Integer { min, max, unit } = key.kind {
                assert!(
                    line.contains(&format!("Unit: {unit}.")) && line.contains(&format!("{min} to {max}")),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn each_file_is_read_as_it_is_and_with_every_key_uncommented() {
    for program in PROGRAMS {
        let (path, text) = file(program.name);
        assert!(read(program, &path, &text).entries().iter().all(|entry| entry.origin == Origin::Default));
        let effective = read(program, &path, &uncommented(&text));
        for entry in effective.entries() {
            assert!(matches!(entry.origin, Origin::File(_, Some(_))), "{}", entry.key.name);
            assert_eq!(entry.value.shown(), entry.key.default_value().shown(), "{}", entry.key.name);
        }
    }
}

#[test]
fn the_file_of_shef_up_holds_the_keys_of_both() {
    let (path, text) = file("up");
    let mut base = Layers { file: Some((path, text.clone(), "master")), ..Layers::default() };
    base.env.insert("HOME".into(), "/home/someone".into());
    let config = UpConfig::from_layers(&UpFlags::default(), &base).unwrap();
    assert_eq!(config.master.0.http_workers, 2);
    base.file.as_mut().unwrap().1 = uncommented(&text);
    let config = UpConfig::from_layers(&UpFlags::default(), &base).unwrap();
    assert_eq!(config.agent.0.labels["zone"], "a");
    assert!(matches!(config.master.1.entry("log_level").origin, Origin::File(_, Some(_))));
}
