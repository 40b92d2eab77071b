//! docs/api.md is made of the OpenAPI document, of answers of a running master, and
//! of `reference.md` beside this file. The test compares; with `UPDATE_DOCS` it writes.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde_json::{Value, json};
use shef_common::problem::Code;

use crate::{
    calls,
    links::anchor,
    session::{Exchange, REFUSED, WITHOUT_EXAMPLE, exchanges, misfit},
    types::{Spec, cell, fields, json as shown, section, word},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
const FRAME: &str = include_str!("reference.md");
const COMMAND: &str = "UPDATE_DOCS=1 cargo nextest run --workspace --test openapi -E 'test(reference)'";

#[actix_rt::test]
async fn the_reference_of_the_api_is_what_the_code_says() {
    let (mut made, api) = exchanges().await;
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    for (path, method, _) in calls(&api) {
        let call = format!("{method} {path}");
        assert_ne!(
            made.contains_key(&call),
            WITHOUT_EXAMPLE.contains(&call.as_str()),
            "an example of {call}"
        );
    }
    // Times and ids differ from run to run: an example stays as long as it is right.
    for (call, exchange) in &mut made {
        let before = example_in(&written, &heading(call)).filter(|before| is_same_call(before, exchange));
        if let Some(before) = before.filter(|before| misfit(&api, call, before).is_none()) {
            *exchange = before;
        }
    }
    let page = page(&api, &made);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let differs = page.lines().zip(written.lines()).find(|(now, before)| now != before);
    let is_same = page == written || std::env::var_os("UPDATE_DOCS").is_some();
    assert!(is_same, "docs/api.md is not what the code says, first at {differs:?}; run: {COMMAND}");
}

fn is_same_call(before: &Exchange, now: &Exchange) -> bool {
    let path = |exchange: &Exchange| {
        let request = exchange.request.clone();
        // A replica's id is another one each time.
        request.split('/').map(|part| part.split('-').next().unwrap_or(part).to_owned()).collect::<Vec<_>>()
    };
    path(before) == path(now) && before.body == now.body && before.status == now.status
}

fn heading(call: &str) -> String {
    if call.ends_with(REFUSED) {
        return "## Errors\n".to_owned();
    }
    let (method, path) = call.split_once(' ').unwrap();
    format!("### `{} {path}`\n", method.to_uppercase())
}

/// The example below a heading of the page.
fn example_in(page: &str, heading: &str) -> Option<Exchange> {
    let below = &page[page.find(heading)? + heading.len()..];
    let section = below.split("\n### ").next()?;
    let block = section.split_once("```http\n")?.1.split_once("\n```")?.0;
    let (sent, answered) = block.split_once("\n\nHTTP ")?;
    let (request, body) = sent.split_once('\n').map_or((sent, None), |(request, body)| (request, Some(body)));
    let (status, answer) = answered.split_once('\n')?;
    Some(Exchange {
        request: request.to_owned(),
        body: body.map(serde_json::from_str).transpose().ok()?,
        status: status.parse().ok()?,
        answer: serde_json::from_str(answer).ok(),
    })
}

fn example(exchange: &Exchange) -> String {
    let body = exchange.body.as_ref().map(|body| format!("\n{}", shown(body, 0))).unwrap_or_default();
    let answer = exchange.answer.as_ref().map(|answer| format!("\n{}", shown(answer, 0))).unwrap_or_default();
    format!("```http\n{}{body}\n\nHTTP {}{answer}\n```\n", exchange.request, exchange.status)
}

fn page(api: &Value, made: &BTreeMap<String, Exchange>) -> String {
    let body = &api["paths"]["/v1/services"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let spec = Spec(body["properties"].as_object().unwrap());
    let answered = &api["components"]["schemas"]["ServiceView"];
    let types = api["components"]["schemas"].as_object().unwrap();
    let types: Vec<String> = types
        .iter()
        .filter(|(name, _)| *name != "Anything" && *name != "Code")
        .map(|(name, schema)| section(name, schema, &spec))
        .collect();
    let parts = [
        ("COMMAND", COMMAND.to_owned()),
        ("CALLS", all_calls(api)),
        ("REFERENCE", every_call(api, made)),
        ("REFUSED", example(&made[&format!("post {REFUSED}")])),
        ("CODES", codes(api)),
        ("SPEC", fields(body, Some(answered), None)),
        ("TYPES", types.join("\n")),
    ];
    parts.iter().fold(FRAME.to_owned(), |page, (name, text)| {
        page.replace(&format!("{{{{{name}}}}}"), text.trim_end())
    })
}

/// One line a call, by what the calls are about: with the least role that it needs.
fn all_calls(api: &Value) -> String {
    let mut text = "| call | | role |\n|---|---|---|\n".to_owned();
    for tag in api["tags"].as_array().unwrap() {
        for (path, method, call) in
            calls(api).into_iter().filter(|(_, _, call)| call["tags"][0] == tag["name"])
        {
            let name = format!("{} {path}", method.to_uppercase());
            let summary = call["summary"].as_str().unwrap();
            let role = call["x-role"].as_str().unwrap_or("-");
            _ = writeln!(text, "| [`{name}`](#{}) | {} | {role} |", anchor(&name), cell(summary));
        }
    }
    text
}

fn every_call(api: &Value, made: &BTreeMap<String, Exchange>) -> String {
    let mut text = String::new();
    for tag in api["tags"].as_array().unwrap() {
        let [name, about] = ["name", "description"].map(|field| tag[field].as_str().unwrap());
        _ = write!(text, "## {name}\n\n{about}\n\n");
        for (path, method, call) in calls(api).into_iter().filter(|(_, _, call)| call["tags"][0] == *name) {
            let called = format!("{method} {path}");
            text.push_str(&one_call(&called, call));
            text.push_str(&made.get(&called).map(example).unwrap_or_default());
            text.push('\n');
        }
    }
    text
}

fn one_call(called: &str, call: &Value) -> String {
    let mut text = format!("{}\n{}.\n\n", heading(called), call["summary"].as_str().unwrap());
    let params = call["parameters"].as_array().unwrap();
    if !params.is_empty() {
        text.push_str("| parameter | in | meaning |\n|---|---|---|\n");
        for param in params {
            let [name, place, about] =
                ["name", "in", "description"].map(|field| cell(param[field].as_str().unwrap()));
            _ = writeln!(text, "| `{name}` | {place} | {about} |");
        }
        text.push('\n');
    }
    let body = &call["requestBody"]["content"]["application/json"]["schema"];
    if body["properties"].get("mounts").is_some() {
        let what = body["description"].as_str().unwrap();
        _ = write!(text, "Body, with the fields of the [service spec](#service-spec): {}\n\n", cell(what));
    } else if let table @ 1.. = body["properties"].as_object().map_or(0, serde_json::Map::len) {
        let is_optional =
            if call["requestBody"]["required"] == json!(false) { " (may be left out)" } else { "" };
        let plural = if table == 1 { "field" } else { "fields" };
        _ = write!(text, "Body{is_optional}, {table} {plural}:\n\n{}\n", fields(body, None, None));
    }
    text.push_str("| status | answer | |\n|---|---|---|\n");
    let mut errors = Vec::new();
    for (status, answer) in call["responses"].as_object().unwrap() {
        let about = cell(answer["description"].as_str().unwrap());
        if status == "default" {
            continue;
        }
        let contents = answer["content"].as_object();
        let media = contents.into_iter().flatten().find(|(media, _)| *media != "application/problem+json");
        match media {
            Some((media, content)) if media == "application/json" => {
                let kind = word(&content["schema"]).replace("[Anything](#anything)", "object");
                _ = writeln!(text, "| {status} | {kind} | {about} |");
            }
            Some((media, _)) => _ = writeln!(text, "| {status} | `{media}` | {about} |"),
            None if status == "101" => _ = writeln!(text, "| {status} | WebSocket | {about} |"),
            None => errors.extend(about.split(' ').filter(|part| part.starts_with('`')).map(str::to_owned)),
        }
    }
    let errors: Vec<String> = errors.iter().map(|code| code.trim_end_matches(':').to_owned()).collect();
    if errors.is_empty() {
        text.push('\n');
    } else {
        _ = write!(text, "\nErrors: {}.\n\n", errors.join(", "));
    }
    text
}

fn codes(api: &Value) -> String {
    let mut text = "| code | status | meaning |\n|---|---|---|\n".to_owned();
    let described = api["components"]["schemas"]["Code"]["oneOf"].as_array().unwrap();
    for (code, described) in Code::ALL.iter().zip(described) {
        assert_eq!(described["const"], code.as_str());
        let about = cell(described["description"].as_str().unwrap());
        _ = writeln!(text, "| `{}` | {} | {about} |", code.as_str(), code.status());
    }
    text
}
