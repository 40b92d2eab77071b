//! The parsers, and what holds of each.

use std::fmt::{Debug, Display};

use serde::{Serialize, de::DeserializeOwned};
use shef_common::{
    clock::{WallMs, parse_duration},
    endpoint::{Endpoint, agent_address},
    exec::ExecOrder,
    frames::FrameLimit,
    ids::{ClusterId, Fence, LeaderId, NodeName, NodeUid, ReplicaId, ServiceName, TokenName},
    image::{ImageDigest, ImageRef},
    json,
    logs::{LogQuery, LogTime},
    protocol::{
        Accepted, Alive, ProbeThrough, Push, PushRefused, Registered, Registration, Report, ReportAck,
    },
    registry::RegistryHost,
    spec::{Platform, ServiceSpec},
    tls::{Identity, JoinToken},
};
use shef_master::{
    access::Presented,
    goes_on_counting,
    identity::csr_key,
    store::{Key, backup::Backup},
};

use crate::{Parser, is_short, samples};

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser { name: "spec", reads: spec, samples: samples::specs },
    Parser { name: "image", reads: image, samples: samples::images },
    Parser { name: "words", reads: words, samples: samples::words },
    Parser { name: "token", reads: token, samples: samples::tokens },
    Parser {
        name: "certificate_request",
        reads: certificate_request,
        samples: samples::certificate_requests,
    },
    Parser { name: "env_file", reads: env_file, samples: samples::env_files },
    Parser { name: "query", reads: query, samples: samples::queries },
    Parser { name: "frames", reads: frames, samples: samples::frames },
    Parser { name: "push", reads: message::<Push>, samples: samples::messages },
    Parser { name: "report", reads: message::<Report>, samples: samples::messages },
    Parser { name: "registration", reads: message::<Registration>, samples: samples::messages },
    Parser { name: "answers", reads: answers, samples: samples::messages },
    Parser { name: "backup", reads: backup, samples: samples::backups },
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is understood is written as something that is understood as the same.
fn again<T: Display + PartialEq + Debug, E: Display>(text: &str, parse: impl Fn(&str) -> Result<T, E>) {
    match parse(text) {
        Ok(read) => {
            let written = read.to_string();
            assert_eq!(parse(&written).ok(), Some(read), "{text:?} is written as {written:?}");
        }
        Err(error) => is_short(&error.to_string()),
    }
}

/// A message is read as the same once it was written.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    match serde_json::from_slice::<T>(bytes) {
        Ok(read) => {
            let written = serde_json::to_vec(&read).unwrap_or_else(|error| panic!("{read:?}: {error}"));
            let again =
                serde_json::from_slice::<T>(&written).unwrap_or_else(|error| panic!("{read:?}: {error}"));
            assert_eq!(again, read);
        }
        Err(error) => is_short(&error.to_string()),
    }
}

fn answers(bytes: &[u8]) {
    message::<Accepted>(bytes);
    message::<Alive>(bytes);
    message::<ProbeThrough>(bytes);
    message::<PushRefused>(bytes);
    message::<Registered>(bytes);
    message::<ReportAck>(bytes);
}

fn spec(bytes: &[u8]) {
    let Ok(serde_json::Value::Object(fields)) = json::from_str(&text(bytes)) else { return };
    match ServiceSpec::read(fields.clone(), None) {
        Ok(spec) => {
            assert_eq!(ServiceSpec::read(spec.written(), None).as_ref(), Ok(&spec));
            if let Err(errors) = spec.patched(&fields) {
                panic!("{spec:?}: what made it does not change it: {errors:?}");
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= 101, "{} errors", errors.len());
            is_short(&serde_json::to_string(&errors).unwrap_or_default());
        }
    }
}

fn image(bytes: &[u8]) {
    again(&text(bytes), ImageRef::parse);
    if let Ok(digest) = ImageDigest::parse(&text(bytes)) {
        assert_eq!(ImageDigest::parse(digest.as_str()), Ok(digest));
    }
}

fn words(bytes: &[u8]) {
    let text = text(bytes);
    again(&text, ClusterId::parse);
    again(&text, LeaderId::parse);
    again(&text, NodeName::parse);
    again(&text, NodeUid::parse);
    again(&text, ReplicaId::parse);
    again(&text, ServiceName::parse);
    again(&text, TokenName::parse);
    again(&text, Platform::parse);
    again(&text, RegistryHost::parse);
    again(&text, LogTime::parse);
    again(&text, str::parse::<Key>);
    again(&text, |text| Endpoint::parse(text).ok_or("no endpoint"));
    again(&text, |text| Identity::parse(text).ok_or("no name of a member"));
    _ = agent_address(&text);
    _ = parse_duration(&text);
    message::<Fence>(bytes);
}

fn token(bytes: &[u8]) {
    let text = text(bytes);
    _ = Presented::in_header(&text);
    if let Some(token) = JoinToken::parse(&text) {
        assert_eq!(token.text(), text, "one token is one text");
    }
}

fn certificate_request(bytes: &[u8]) {
    _ = csr_key(&text(bytes)).map_err(|error| is_short(&error.to_string()));
}

fn env_file(bytes: &[u8]) {
    let text = text(bytes);
    match shef::env_file::parse(&text, |name| (name == "HOME").then(|| "/root".to_owned())) {
        Ok(found) => assert!(found.len() <= text.split('\n').count()),
        Err(error) => is_short(&error.to_string()),
    }
}

fn query(bytes: &[u8]) {
    let text = text(bytes);
    let pairs: Vec<(String, String)> = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut logs = LogQuery::default();
    for (name, value) in &pairs {
        _ = logs.set(name, value).map_err(|error| is_short(&error.to_string()));
    }
    _ = ExecOrder::read(pairs).map_err(|error| is_short(&error.to_string()));
}

/// However the bytes come in, the same is found.
fn frames(bytes: &[u8]) {
    let Some((parts, bytes)) = bytes.split_first() else { return };
    let whole = FrameLimit::default().take(bytes);
    let mut limit = FrameLimit::default();
    let in_parts = bytes.chunks(usize::from(*parts).max(1)).try_for_each(|part| limit.take(part));
    assert_eq!(in_parts, whole);
}

fn backup(bytes: &[u8]) {
    match Backup::read(bytes) {
        Ok(backup) => {
            let pieces = backup.clone().into_pieces(WallMs(0));
            let written: Vec<u8> = pieces.flat_map(|piece| piece.unwrap_or_else(|e| panic!("{e}"))).collect();
            assert_eq!(Backup::read(&written).ok(), Some(backup.clone()));
            _ = goes_on_counting(&backup).map_err(|error| is_short(&error.to_string()));
        }
        Err(error) => is_short(&error.to_string()),
    }
}
