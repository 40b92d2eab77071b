//! An engine, over TCP, that says words this version does not know, and takes a name for the beginning of an
//! id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use shef_agent::engine::{
    Check, ContainerState, CreateOrder, Engine as _, EngineError, RestartPolicy, docker::DockerEngine,
};
use shef_common::{
    docker::DockerTls,
    ids::ReplicaId,
    image::ImageRef,
    spec::{Network, Template},
};

fn container(name: &str, state: &str) -> serde_json::Value {
    let names = [format!("/{name}"), format!("/other/{name}")];
    serde_json::json!({ "Id": format!("id-{name}"), "Names": names, "State": state,
        "Status": "Up 2 minutes (unhealthy)", "Labels": {} })
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
    let engine = DockerEngine::new(&format!("tcp://{address}"), &DockerTls::default()).unwrap();
    let listing = engine.list().await.unwrap();
    assert!(!listing.complete, "absence from this list means nothing");
    let [known] = &listing.containers[..] else { panic!("{listing:?}") };
    assert_eq!(
        (known.name.as_str(), known.state, known.check),
        ("known", ContainerState::Running, Check::Unhealthy)
    );
    handle.stop(false).await;
    assert!(matches!(engine.list().await, Err(EngineError::Unreachable(_))));
}

async fn ten_of_two_images() -> HttpResponse {
    let made = |n: usize| {
        let mut made = container(&format!("web-{n:06}"), "running");
        made["ImageID"] = format!("sha256:{}", n % 2).into();
        made
    };
    HttpResponse::Ok().json((0..10).map(made).collect::<Vec<_>>())
}

/// One of the two was pulled, the other one built there.
async fn image(asked: web::Data<Asked>, id: web::Path<(String, String)>) -> HttpResponse {
    asked.lock().unwrap().push(id.1.clone().into());
    let digests = if id.1.ends_with('0') { vec![format!("app@sha256:{}", "a".repeat(64))] } else { vec![] };
    HttpResponse::Ok().json(serde_json::json!({ "Id": id.1, "RepoDigests": digests }))
}

#[actix::test]
async fn a_list_inspects_each_image_once_whatever_the_number_of_containers() {
    let asked = Asked::default();
    let data = web::Data::new(asked.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/{version:.*}containers/json", web::get().to(ten_of_two_images))
            .route("/{version:.*}images/{name}/json", web::get().to(image))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let engine = DockerEngine::new(&format!("tcp://{}", server.addrs()[0]), &DockerTls::default()).unwrap();
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    let listing = engine.list().await.unwrap();
    assert_eq!(listing.containers.iter().filter(|container| container.digests.len() == 1).count(), 5);
    assert_eq!(asked.lock().unwrap().len(), 2);
    // What has no digest may have been pulled since; what has one keeps it.
    engine.list().await.unwrap();
    handle.stop(false).await;
    assert_eq!(asked.lock().unwrap()[2..], ["sha256:1"]);
}

/// What was asked of an engine that finds networks by the beginning of their id too.
type Asked = Arc<Mutex<Vec<serde_json::Value>>>;

async fn networks(_: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().json([
        serde_json::json!({ "Name": "other", "Id": "81aa" }),
        serde_json::json!({ "Name": "x81", "Id": "bb" }),
    ])
}

async fn network_by_prefix(name: web::Path<(String, String)>) -> HttpResponse {
    assert!("81aa".starts_with(&name.1), "an engine finds nothing else");
    HttpResponse::Ok().json(serde_json::json!({ "Name": "other", "Id": "81aa" }))
}

async fn make_network(asked: web::Data<Asked>, body: web::Json<serde_json::Value>) -> HttpResponse {
    asked.lock().unwrap().push(body.into_inner());
    HttpResponse::Created().json(serde_json::json!({ "Id": "cc", "Warning": "" }))
}

async fn make_container(asked: web::Data<Asked>, body: web::Json<serde_json::Value>) -> HttpResponse {
    asked.lock().unwrap().push(body.into_inner());
    HttpResponse::Created().json(serde_json::json!({ "Id": "dd", "Warnings": [] }))
}

#[actix::test]
async fn names_that_begin_an_id_are_handed_over_as_what_cannot_be_one() {
    let asked = Asked::default();
    let data = web::Data::new(asked.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/{version:.*}networks", web::get().to(networks))
            .route("/{version:.*}networks/create", web::post().to(make_network))
            .route("/{version:.*}networks/{name}", web::get().to(network_by_prefix))
            .route("/{version:.*}containers/create", web::post().to(make_container))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let engine = DockerEngine::new(&format!("tcp://{}", server.addrs()[0]), &DockerTls::default()).unwrap();
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    let image = ImageRef::parse("2fde").unwrap();
    let mut template = Template::of(image.clone());
    template.networks = vec![Network::named("81")];
    let replica = ReplicaId::parse("web-000001").unwrap();
    let policy = RestartPolicy::UnlessStopped;
    engine
        .create(CreateOrder {
            replica,
            template: template.into(),
            image,
            labels: HashMap::new(),
            policy,
            files: Vec::new(),
        })
        .await
        .unwrap();
    handle.stop(false).await;
    let asked = asked.lock().unwrap();
    let [network, container] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(network["Name"], "81", "the network of that name is made, though another's id begins so");
    assert_eq!(container["HostConfig"]["NetworkMode"], "cc", "it is joined by its id");
    assert_eq!(container["Image"], "docker.io/library/2fde");
}
