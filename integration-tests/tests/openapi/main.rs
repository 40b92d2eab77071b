//! The OpenAPI document held against a real master: it knows every call and no
//! other, whatever is sent is answered as it says, and every field explains itself.

mod browser;
mod links;
mod page;
mod reference;
mod schema;
mod session;
mod types;

use std::collections::BTreeMap;

use awc::http::Method;
use fastrand::Rng;
use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::Cluster;

/// How many requests of each call are made.
const ROUNDS: usize = 16;
/// The seed of what is sent.
const SEED: u64 = 20_260_131;

struct Sent {
    status: u16,
    media: String,
    body: Vec<u8>,
}

async fn send(
    cluster: &Cluster,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
) -> Sent {
    let client = awc::Client::builder().disable_timeout().disable_redirects().finish();
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let mut request = client
        .request(method, format!("{}{path}", cluster.api.url))
        .insert_header(("content-type", "application/json"));
    for (name, value) in headers {
        request = request.insert_header((name.as_str(), value.as_str()));
    }
    let mut answer = request.send_body(body).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let media = answer
        .headers()
        .get("content-type")
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap().to_owned();
    // What streams may have no end.
    let is_whole = media.ends_with("json") && media != "application/x-ndjson" || media == "text/html";
    let body = if is_whole { answer.body().limit(64 << 20).await.unwrap().to_vec() } else { Vec::new() };
    Sent { status: answer.status().as_u16(), media, body }
}

async fn document(cluster: &Cluster) -> Value {
    cluster.api.get("/openapi.json").await.body
}

fn calls(api: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = api["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, call)| (path.as_str(), method.as_str(), call))
        })
        .collect()
}

fn filled(path: &str, rng: &mut Rng) -> String {
    let names = [
        "web",
        "web",
        "a",
        "h0",
        "h1",
        "nowhere",
        "UP",
        "a%20b",
        "%00",
        "..%2fx",
        "pause",
        "resume",
        "web-000001",
    ];
    let parts = path
        .split('/')
        .map(|part| if part.starts_with('{') { names[rng.usize(..names.len())] } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[actix_rt::test]
async fn the_document_knows_every_call_and_no_other() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let api = document(&cluster).await;
    assert_eq!(api["openapi"], "3.1.0");
    let mut methods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, method, _) in calls(&api) {
        methods.entry(path).or_default().push(method);
    }
    for (path, known) in methods {
        for method in ["get", "post", "put", "patch", "delete"] {
            let sent =
                send(&cluster, method, &path.replace("{lead}", "pause").replace(['{', '}'], ""), &[], vec![])
                    .await;
            let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
            assert_eq!(sent.status == 405, !known.contains(&method), "{method} {path}: {body}");
            assert_ne!(body["code"], "not_found", "{method} {path}");
        }
    }
    let index = cluster.api.get("/").await.body;
    let listed: Vec<&str> = index["addresses"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut described: Vec<&str> = api["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    described.sort_unstable();
    assert_eq!(listed, described);
    cluster.stop().await;
}

/// Every field below `schema` that does not explain itself.
fn unexplained(schema: &Value, at: &str, found: &mut Vec<String>) {
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        // A variant explains its tag, or the one field that is its name.
        let is_variant = field.get("const").is_some() || schema["required"] == json!([name]);
        let explained = field.get("description").is_some() || field.get("$ref").is_some();
        if !(explained || is_variant && schema.get("description").is_some()) {
            found.push(format!("{at}.{name}"));
        }
        unexplained(field, &format!("{at}.{name}"), found);
    }
    for word in ["oneOf", "anyOf"] {
        for way in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
            unexplained(way, at, found);
        }
    }
}

#[actix_rt::test]
async fn every_field_explains_itself() {
    let cluster = Cluster::fake(0, FakeEngineOptions::default()).await;
    let api = document(&cluster).await;
    let mut found = Vec::new();
    for (name, schema) in api["components"]["schemas"].as_object().unwrap() {
        unexplained(schema, name, &mut found);
    }
    for (path, method, call) in calls(&api) {
        let schema = &call["requestBody"]["content"]["application/json"]["schema"];
        unexplained(schema, &format!("{method} {path}"), &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
    cluster.stop().await;
}

#[actix_rt::test]
async fn whatever_is_sent_is_answered_as_the_document_says() {
    let cluster = Cluster::fake(2, FakeEngineOptions::default()).await;
    let api = document(&cluster).await;
    let mut rng = Rng::with_seed(SEED);
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for round in 0..ROUNDS {
        for (path, method, call) in calls(&api) {
            let mut address = filled(path, &mut rng);
            let mut headers = Vec::new();
            for param in call["parameters"].as_array().unwrap() {
                let (name, example) =
                    (param["name"].as_str().unwrap(), param["example"].as_str().unwrap_or_default());
                let value = [
                    example,
                    example,
                    example,
                    example,
                    example,
                    "",
                    "x",
                    "-1",
                    "%C3%A9%00",
                    "99999999999999999999",
                ][rng.usize(..10)];
                if rng.bool() {
                    continue;
                }
                match param["in"].as_str().unwrap() {
                    "query" => {
                        let sign = if address.contains('?') { '&' } else { '?' };
                        address = format!("{address}{sign}{name}={value}");
                    }
                    "header" => headers.push((name.to_owned(), value.to_owned())),
                    _ => {}
                }
            }
            let schema = &call["requestBody"]["content"]["application/json"]["schema"];
            let mut body = if schema.is_null() { Value::Null } else { schema::made(schema, &mut rng, 0) };
            if let Some(fields) = body
                .as_object_mut()
                .filter(|_| rng.u8(..8) > 0 && schema["properties"].get("image").is_some())
            {
                // What is there often enough for the other calls to meet it.
                let name =
                    if schema["properties"].get("serviceName").is_some() { "serviceName" } else { "name" };
                if rng.u8(..4) > 0 {
                    fields.clear();
                }
                if method == "post" {
                    fields.insert(name.to_owned(), json!(["web", "a", &format!("s{round}")][rng.usize(..3)]));
                } else {
                    fields.remove(name);
                }
                fields.insert("image".to_owned(), json!("app"));
                fields.insert("replicas".to_owned(), json!(rng.u8(..4)));
            }
            let body = match rng.u8(..20) {
                _ if schema.is_null() => Vec::new(),
                0 => Vec::new(),
                1 => b"{".to_vec(),
                2 => vec![0xff; 10],
                _ => body.to_string().into_bytes(),
            };
            let shown =
                format!("round {round}: {method} {address} {headers:?} {}", String::from_utf8_lossy(&body));
            let sent = send(&cluster, method, &address, &headers, body).await;
            *statuses.entry(sent.status).or_default() += 1;
            assert!(
                sent.status < 500 || sent.status == 503,
                "{shown}: {} {}",
                sent.status,
                String::from_utf8_lossy(&sent.body)
            );
            let responses = &call["responses"];
            let answer =
                responses.get(sent.status.to_string()).filter(|_| sent.status < 300 || path == "/readyz");
            assert!(
                answer.is_some() || sent.status >= 400,
                "{shown}: {} is not in the document",
                sent.status
            );
            if sent.media == "application/problem+json" {
                let body: Value = serde_json::from_slice(&sent.body).unwrap();
                let described =
                    responses[sent.status.to_string()]["description"].as_str().unwrap_or_default();
                let code = body["code"].as_str().unwrap();
                assert!(described.contains(&format!("`{code}`")), "{shown}: {code} is not in {described:?}");
            }
            let content = &answer.unwrap_or(&responses["default"])["content"];
            let Some(described) = content.get(&sent.media) else {
                // A log as JSON lines, when that was asked for.
                assert_eq!(
                    sent.media,
                    "application/x-ndjson",
                    "{shown}: {}",
                    String::from_utf8_lossy(&sent.body)
                );
                continue;
            };
            if sent.media.ends_with("json") && sent.media != "application/x-ndjson" {
                let body: Value =
                    serde_json::from_slice(&sent.body).unwrap_or_else(|error| panic!("{shown}: {error}"));
                if let Some(why) = schema::wrong(&api, &described["schema"], &body, "body") {
                    panic!("{shown}: {} {why}", sent.status);
                }
            }
        }
    }
    // Much was refused, and much was done.
    assert!(statuses[&400] > 50 && statuses[&200] > 100 && statuses.contains_key(&201), "{statuses:?}");
    println!("{statuses:?}");
    cluster.stop().await;
}
