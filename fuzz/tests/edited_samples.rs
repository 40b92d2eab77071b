//! A few thousand inputs of each parser: what it understands, with a few edits.

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use shef_fuzz::{PARSERS, Parser};

/// How many inputs each parser is given; `PROPTEST_CASES` may say more.
const INPUTS: u32 = 3_000;

/// What strangers like to send.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff\xfe",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"/",
    b"..",
    b"@",
    b"%00",
    b"%",
    b"&",
    b"=",
    b"#",
    b"'",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"0.5",
    b"4294967296",
    b"9007199254740993",
    b"18446744073709551616",
    b"{\"a\":1}",
    b"[[[[[[[[",
    "ä\u{202e}".as_bytes(),
];

#[derive(Debug, Clone)]
enum Edit {
    Put(Index, Vec<u8>),
    Cut(Index, Index),
    Repeat(Index, Index, usize),
}

impl Edit {
    fn on(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Put(index, piece) => {
                let at = at(index);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Cut(one, other) => {
                let (one, other) = (at(one), at(other));
                bytes.drain(one.min(other)..one.max(other));
            }
            Self::Repeat(one, other, times) => {
                let (one, other) = (at(one), at(other));
                let piece = bytes[one.min(other)..one.max(other)].repeat(*times);
                bytes.splice(one..one, piece);
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop_oneof![
        4 => (any::<Index>(), piece).prop_map(|(at, piece)| Edit::Put(at, piece)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Edit::Cut(one, other)),
        1 => (any::<Index>(), any::<Index>(), 1_usize..50).prop_map(|(a, b, times)| Edit::Repeat(a, b, times)),
    ]
}

fn check(parser: &Parser) {
    let inputs = (prop::sample::select((parser.samples)()), prop::collection::vec(edit(), 0..5));
    let cases = INPUTS.max(ProptestConfig::default().cases);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&inputs, |(mut bytes, edits)| {
        edits.iter().for_each(|edit| edit.on(&mut bytes));
        (parser.reads)(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{}: {failure}", parser.name));
}

macro_rules! parsers {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                let parser = PARSERS.iter().find(|parser| parser.name == stringify!($name));
                check(parser.unwrap_or_else(|| panic!("there is no parser {}", stringify!($name))));
            }
        )*

        #[test]
        fn every_parser_is_here() {
            let here = [$(stringify!($name)),*];
            let names: Vec<&str> = PARSERS.iter().map(|parser| parser.name).collect();
            assert_eq!(names, here);
        }
    };
}

parsers! {
    spec, image, words, token, certificate_request, env_file, query, frames,
    push, report, registration, answers, backup,
}

/// A sample that a parser does not understand tests little.
#[test]
fn samples_are_understood() {
    for name in ["spec", "image", "env_file", "certificate_request", "backup"] {
        let parser = PARSERS.iter().find(|parser| parser.name == name).unwrap();
        assert!(!(parser.samples)().is_empty(), "{name}");
    }
    for spec in shef_fuzz::samples::specs() {
        let fields = serde_json::from_slice(&spec).unwrap();
        shef_common::spec::ServiceSpec::read(fields, None).unwrap();
    }
}
