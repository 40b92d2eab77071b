//! An engine, over TCP, that says words this version does not know.

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use shef_agent::engine::{Check, ContainerState, Engine as _, EngineError, docker::DockerEngine};

fn container(name: &str, state: &str) -> serde_json::Value {
    let names = [format!("/{name}"), format!("/other/{name}")];
    serde_json::json!({ "Id": format!("id-{name}"), "Names": names, "State": state, "Status": "Up 2 minutes (unhealthy)", "Labels": {} })
}

async fn list(request: HttpRequest) -> HttpResponse {
    let query = request.query_string();
    assert!(query.contains("shef-managed-container"), "{query}");
    let known = container("known", "running");
    HttpResponse::Ok().json(match (query.contains("status"), query.contains("running")) {
        (true, true) => vec![known],
        (true, false) => vec![],
        (false, _) => vec![known, container("odd", "hibernating")],
    })
}

#[actix::test]
async fn one_odd_container_does_not_blind_the_agent() {
    let server = HttpServer::new(|| App::new().route("/{version:.*}containers/json", web::get().to(list)))
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    let engine = DockerEngine::new(&format!("tcp://{address}")).unwrap();
    let listing = engine.list().await.unwrap();
    assert!(!listing.complete, "absence from this list means nothing");
    let [known] = &listing.containers[..] else { panic!("{listing:?}") };
    assert_eq!((known.name.as_str(), known.state, known.check), ("known", ContainerState::Running, Check::Unhealthy));
    handle.stop(false).await;
    assert!(matches!(engine.list().await, Err(EngineError::Unreachable(_))));
}
