//! Every call of the API, by callers of every kind: what each token may.

use super::*;

/// What is answered to everybody.
const OPEN: [&str; 11] = [
    "delete /v1/sessions",
    "get /docs",
    "get /docs/start.js",
    "get /docs/swagger-ui-bundle.js",
    "get /docs/swagger-ui.css",
    "get /healthz",
    "get /login",
    "get /login/start.js",
    "get /readyz",
    "post /node",
    "post /v1/sessions",
];

/// The least role of what does harm. Everything else that changes something is a deployer's.
fn expected(method: &str, path: &str) -> Option<&'static str> {
    let call = format!("{method} {path}");
    if OPEN.contains(&call.as_str()) {
        return None;
    }
    Some(match (method, path) {
        ("get", "/v1/backup" | "/v1/audit") => "admin",
        (_, path) if path.starts_with("/v1/tokens") || path.starts_with("/v1/ca/") => "admin",
        ("get", path) if path.ends_with("/exec") => "deployer",
        ("get", _) | ("post", "/v1/login-links") => "viewer",
        (_, path) if path.starts_with("/v1/secrets") || path.starts_with("/v1/configs") => "deployer",
        (_, path) if path.starts_with("/v1/services") || path == "/service" => "deployer",
        (_, _) => "operator",
    })
}

#[actix_rt::test]
async fn every_call_is_served_from_its_role_on_and_to_nobody_else() {
    let site = Guarded::start().await;
    let document = site.call("viewer", "GET", "/openapi.json", Value::Null).await.body;
    let roles = Role::ALL.map(Role::as_str);
    let mut calls = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            // What streams, or is no JSON, is answered as any other while it is refused.
            let needed = expected(method, path);
            assert_eq!(call["x-role"].as_str(), needed, "{method} {path}");
            let Some(needed) = needed else { continue };
            let real = path.replace("{name}", "web").replace("{id}", "web-000001").replace("{slot}", "0");
            let real = real.replace("{lead}", "pause").replace("/registries/web", "/registries/r.example");
            let verb = method.to_uppercase();
            is(&site.api.raw(&verb, &real, &[], Vec::new()).await, 401, "unauthenticated");
            let wrong = with_token(&site.api, "shef_00000000_00", &verb, &real, Value::Null).await;
            is(&wrong, 401, "unauthenticated");
            for role in roles {
                let is_enough =
                    roles.iter().position(|r| *r == role) >= roles.iter().position(|r| *r == needed);
                if !is_enough {
                    is(&site.call(role, &verb, &real, Value::Null).await, 403, "forbidden");
                }
            }
            // Whether it goes on can be seen where the answer comes at once and is JSON.
            let is_a_page = path.starts_with("/docs");
            let goes_on =
                real.ends_with("/events") || path == "/v1/backup" || method == "delete" || is_a_page;
            if !goes_on {
                let answer = site.call(needed, &verb, &real, Value::Null).await;
                assert!(!matches!(answer.status, 401 | 403), "{method} {path} as {needed}: {answer:?}");
            }
            calls += 1;
        }
    }
    assert!(calls > 40, "only {calls} calls were tried");
    site.stop().await;
}

#[actix_rt::test]
async fn another_way_of_writing_an_address_leads_to_the_same_question() {
    let site = Guarded::start().await;
    for path in
        ["/v1/%62ackup", "/v1/backup?x", "/v1/back%75p", "/%76%31/tokens", "/v1/tokens%2f", "//v1/backup"]
    {
        let nobody = site.api.raw("GET", path, &[], Vec::new()).await;
        assert!(matches!(nobody.status, 401 | 404), "{path}: {nobody:?}");
        let viewer = site.call("viewer", "GET", path, Value::Null).await;
        assert!(matches!(viewer.status, 403 | 404), "{path}: {viewer:?}");
    }
    let put = site.call("viewer", "PUT", "/v1/t%6fkens/mine", json!({ "role": "admin" })).await;
    is(&put, 403, "forbidden");
    for method in ["OPTIONS", "POST", "TRACE"] {
        let answer = site.api.attempt(method, "/v1/backup", &[], Vec::new()).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 405), "{method}");
    }
    site.stop().await;
}

#[actix_rt::test]
async fn a_deployer_of_some_services_changes_no_other_by_whatever_call_names_it() {
    let site = Guarded::start().await;
    let admin = Some(site.tokens["admin"].as_str());
    let body = json!({ "role": "deployer", "services": "team-a-" });
    let token = make(&site.api, "team-a", &body, admin).await;
    let call =
        async |method: &str, path: &str, body: Value| with_token(&site.api, &token, method, path, body).await;
    let spec = |name: &str| json!({ "name": name, "image": "app", "replicas": 0 });
    for name in ["web", "team-ab", "team-"] {
        let path = format!("/v1/services/{name}");
        let put = json!({ "image": "app", "replicas": 0 });
        if name != "team-" {
            is(&call("POST", "/v1/services", spec(name)).await, 403, "forbidden");
        }
        is(&call("PUT", &path, put.clone()).await, 403, "forbidden");
        is(&call("PUT", &path.replace("team", "%74eam"), put).await, 403, "forbidden");
        is(&call("PATCH", &path, json!({ "replicas": 1 })).await, 403, "forbidden");
        is(&call("DELETE", &path, Value::Null).await, 403, "forbidden");
        is(
            &call("GET", &format!("{path}/replicas/{name}-000001/exec?cmd=sh"), Value::Null).await,
            403,
            "forbidden",
        );
        let legacy = json!({ "serviceName": name, "image": "app", "replicas": 0 });
        if name != "team-" {
            assert_eq!(call("POST", "/service", legacy).await.status, 403);
        }
    }
    let made = call("POST", "/v1/services", spec("team-a-web")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let scaled = call("PATCH", "/v1/services/team-a-web", json!({ "replicas": 0, "labels": {} })).await;
    assert!(!matches!(scaled.status, 401 | 403), "{scaled:?}");
    let read = call("GET", "/v1/services", Value::Null).await;
    assert_eq!(read.body["services"].as_array().unwrap().len(), 1, "and reads everything: {read:?}");
    site.stop().await;
}

#[actix_rt::test]
async fn a_deployer_of_some_names_neither_stores_nor_mounts_secrets_of_others() {
    let site = Guarded::start().await;
    let admin = site.tokens["admin"].clone();
    let body = json!({ "role": "deployer", "services": "team-a-" });
    let token = make(&site.api, "team-a", &body, Some(&admin)).await;
    let call =
        async |method: &str, path: &str, body: Value| with_token(&site.api, &token, method, path, body).await;
    let data = json!({ "data": "aHVzaA==" });
    for path in ["/v1/secrets/team-b-db", "/v1/configs/team-b-conf"] {
        is(&call("PUT", path, data.clone()).await, 403, "forbidden");
        is(&call("DELETE", path, Value::Null).await, 403, "forbidden");
        assert_eq!(with_token(&site.api, &admin, "PUT", path, data.clone()).await.status, 201);
    }
    assert_eq!(call("PUT", "/v1/secrets/team-a-db", data.clone()).await.status, 201);
    let spec = |field: &str, source: &str| {
        let mounts = [json!({ "source": source })];
        json!({ "name": "team-a-web", "image": "app", "replicas": 0, field: mounts })
    };
    let foreign = spec("secrets", "team-b-db");
    is(&call("POST", "/v1/services", foreign.clone()).await, 403, "forbidden");
    is(&call("PUT", "/v1/services/team-a-web", foreign.clone()).await, 403, "forbidden");
    is(&call("POST", "/v1/services/team-a-web/plan", foreign.clone()).await, 403, "forbidden");
    // Everybody reads configs, so everybody mounts them.
    assert_eq!(call("POST", "/v1/services", spec("configs", "team-b-conf")).await.status, 201);
    assert_eq!(call("PUT", "/v1/services/team-a-web", spec("secrets", "team-a-db")).await.status, 200);
    let patch = json!({ "secrets": [{ "source": "team-b-db" }] });
    is(&call("PATCH", "/v1/services/team-a-web", patch).await, 403, "forbidden");
    // What mounts a name is changed by whoever may change both; who may not is told.
    let other =
        json!({ "name": "web", "image": "app", "replicas": 0, "secrets": [{ "source": "team-a-db" }] });
    assert_eq!(with_token(&site.api, &admin, "POST", "/v1/services", other).await.status, 201);
    let stored = call("PUT", "/v1/secrets/team-a-db", json!({ "data": "b3RoZXI=" })).await;
    let services = stored.body["services"].as_array().unwrap();
    assert_eq!(services[0], json!({ "name": "team-a-web", "generation": 3 }), "{stored:?}");
    assert!(services[1]["error"].as_str().unwrap().contains("names begin with team-a-"), "{stored:?}");
    site.stop().await;
}

#[actix_rt::test]
async fn a_revoked_or_expired_token_does_not_count_also_after_restarts() {
    let mut site = Guarded::start().await;
    let admin = site.tokens["admin"].clone();
    let body = json!({ "role": "viewer", "expires_in": "1ms" });
    let expired = make(&site.api, "short", &body, Some(&admin)).await;
    let token = make(&site.api, "ci", &json!({ "role": "viewer" }), Some(&admin)).await;
    let again = with_token(&site.api, &admin, "PUT", "/v1/tokens/ci", json!({ "role": "admin" })).await;
    is(&again, 409, "token_exists");
    let listed = with_token(&site.api, &admin, "GET", "/v1/tokens", Value::Null).await;
    assert_eq!(listed.body["tokens"].as_array().unwrap().len(), 6);
    let secret = token.rsplit('_').next().unwrap();
    assert!(!listed.body.to_string().contains(secret));

    site.master.stop().await;
    site.master = shef_master::start(guarded(site.dir.path())).await.unwrap();
    site.api = Api::new(site.master.address());
    site.until_ready().await;
    let read = async |token: &str| with_token(&site.api, token, "GET", "/v1/nodes", Value::Null).await.status;
    assert_eq!((read(&token).await, read(&expired).await), (200, 401));
    let revoked = with_token(&site.api, &admin, "DELETE", "/v1/tokens/ci", Value::Null).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(read(&token).await, 401);
    let twice = with_token(&site.api, &admin, "DELETE", "/v1/tokens/ci", Value::Null).await;
    is(&twice, 404, "token_not_found");
    site.stop().await;
}

#[actix_rt::test]
async fn who_may_not_call_hears_so_whatever_the_size_of_the_body() {
    let site = Guarded::start().await;
    let most = master_config(site.dir.path()).max_body_bytes;
    let oversized = vec![b' '; usize::try_from(most).unwrap() + 1];
    for (path, method) in [("/v1/services", "POST"), ("/v1/services/web", "PUT"), ("/v1/secrets/key", "PUT")]
    {
        let json = ("content-type", "application/json");
        is(&site.api.raw(method, path, &[json], oversized.clone()).await, 401, "unauthenticated");
        let viewer = format!("Bearer {}", site.tokens["viewer"]);
        let headers = [json, ("authorization", viewer.as_str())];
        is(&site.api.raw(method, path, &headers, oversized.clone()).await, 403, "forbidden");
    }
    site.stop().await;
}

#[actix_rt::test]
async fn a_token_counts_in_the_header_alone_and_is_asked_for_with_what_is_right() {
    let site = Guarded::start().await;
    let viewer = &site.tokens["viewer"];
    for path in [format!("/v1/nodes?token={viewer}"), format!("/v1/nodes?access_token={viewer}")] {
        is(&site.api.get(&path).await, 401, "unauthenticated");
    }
    let cookie = format!("token={viewer}");
    is(&site.api.raw("GET", "/v1/nodes", &[("cookie", &cookie)], Vec::new()).await, 401, "unauthenticated");
    for wrong in [
        json!({}),
        json!({ "role": "root" }),
        json!({ "role": "viewer", "services": "a-" }),
        json!({ "role": "deployer", "services": "Team A" }),
        json!({ "role": "viewer", "expires_in": "never" }),
        json!({ "role": "viewer", "expires_in": "0s" }),
        json!({ "role": "viewer", "hash": "00" }),
    ] {
        is(&site.call("admin", "PUT", "/v1/tokens/new", wrong).await, 400, "invalid_body");
    }
    is(
        &site.call("admin", "PUT", "/v1/tokens/Wrong", json!({ "role": "viewer" })).await,
        400,
        "invalid_parameter",
    );
    site.stop().await;
}

#[actix_rt::test]
async fn a_token_that_asks_too_much_is_told_to_wait_and_takes_nothing_from_others() {
    let mut site = Guarded::start().await;
    site.master.stop().await;
    let config = MasterConfig { token_requests_per_second: 1, ..guarded(site.dir.path()) };
    site.master = shef_master::start(config).await.unwrap();
    site.api = Api::new(site.master.address());
    let read = async |role: &str| site.call(role, "GET", "/v1/nodes", Value::Null).await;
    let mut refused = None;
    while refused.is_none() {
        refused = Some(read("viewer").await).filter(|answer| answer.status == 429);
    }
    let refused = refused.unwrap();
    is(&refused, 429, "too_many_requests");
    assert_eq!(refused.body["retry_after_s"], 1);
    assert!(refused.body["detail"].as_str().unwrap().starts_with("token viewer has made"), "{refused:?}");
    assert_ne!(read("deployer").await.status, 429);
    site.stop().await;
}
