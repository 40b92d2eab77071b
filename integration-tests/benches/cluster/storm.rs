//! A thousand agents that register at once, after a first start and after the
//! master was killed, and a flood of requests while they report.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use shef_agent::{AgentHandle, EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::cluster::{Api, agent_config};
use tokio::time::Instant;

use crate::{
    load::{Outcome, Requests, load, post},
    measure::{note, table, title},
    programs::{Master, Shef, free_address},
};

/// How long the hosts may take to come in before the measurement is given up.
const LIMIT: Duration = Duration::from_mins(3);
/// How many clients ask the API meanwhile, one request at a time.
const CLIENTS: u64 = 4;
/// How long and by how many clients the master is flooded.
const FLOOD: (Duration, u64) = (Duration::from_secs(10), 512);
/// The limits on open files that the master is started with: the soft one is what systemd and Docker 29 give.
const OPEN_FILES: (u64, u64) = (1_024, 524_288);
/// Services of the second half, and their replicas.
const SERVICES: (u64, u32) = (1_000, 10);

/// Measures and prints.
///
/// # Panics
/// If a program does not come up or the hosts do not come in.
pub async fn run(shef: &Shef, hosts: usize) {
    title(&format!("{hosts} agents at once (over engines in memory, in one process), and a flood"));
    // The agents of this process need several sockets each.
    let (soft, wanted) = OPEN_FILES;
    // A machine may allow less, and only some processes may raise a hard limit.
    let hard = shef_common::open_files::raise().to.min(wanted);
    let shef = &shef.with_open_files(soft, hard);
    note(format_args!(
        "the master is started with a soft limit of {soft} open files and a hard one of {hard} (of \
         {wanted}, where allowed)"
    ));
    let dir = tempfile::tempdir().expect("a directory");
    // Another address than the agents', which take any port of theirs.
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), free_address().port()));
    let agents = agents(dir.path(), address, hosts).await;
    note("the agents are up and look for their master");
    let mut rows = Vec::new();

    let begin = Instant::now();
    let master = shef.master_at(address, dir.path(), &[]).await;
    rows.push(coming_in("first start", &master, begin, hosts, creates("during")).await);

    fill(&master).await;
    let Master { process, .. } = master;
    process.kill();
    let begin = Instant::now();
    let master = shef.master_at(address, dir.path(), &[]).await;
    let name = format!("after kill -9, {} replicas", SERVICES.0 * u64::from(SERVICES.1));
    rows.push(coming_in(&name, &master, begin, hosts, creates("again")).await);
    table(&["", "all in after s", "requests", "refused", "p50 ms", "p99 ms", "not ready later"], &rows);

    flood(&master, hosts).await;
    for agent in agents {
        agent.stop().await;
    }
}

async fn agents(dir: &Path, master: SocketAddr, hosts: usize) -> Vec<AgentHandle> {
    let mut agents = Vec::new();
    for n in 0..hosts {
        let name = format!("h{n:04}");
        let config = agent_config(&dir.join(&name), &name, master, "unix:///nowhere");
        let engine = EngineChoice::Fake(FakeEngineOptions::default());
        agents.push(shef_agent::start(config, engine).await.expect("the agent starts"));
    }
    agents
}

/// Every fourth request makes a service without replicas, the others read.
fn creates(prefix: &'static str) -> Requests {
    let create = post("/v1/services", u64::MAX, move |n| {
        format!("{{\"name\":\"{prefix}-{n}\",\"image\":\"registry.example/app:1\",\"replicas\":0}}")
    });
    let read = crate::load::get("/v1/nodes?limit=10");
    Arc::new(move |n| if (n / CLIENTS).is_multiple_of(4) { create(n) } else { read(n) })
}

async fn coming_in(
    name: &str,
    master: &Master,
    begin: Instant,
    hosts: usize,
    requests: Requests,
) -> Vec<String> {
    let address = master.address;
    // The load goes on for as long as the hosts come in: it is asked to end by its own source of requests.
    let (over, ended) =
        (Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let asked = over.clone();
    let until_over: Requests = Arc::new(move |n| if asked.load(ended) { None } else { requests(n) });
    let asking = actix_rt::spawn(load(address, CLIENTS, LIMIT, until_over));
    let mut ready = 0;
    while ready < hosts {
        assert!(
            begin.elapsed() < LIMIT,
            "only {ready} of {hosts} hosts are ready after {} s",
            LIMIT.as_secs()
        );
        ready = nodes(&master.api).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all_in = begin.elapsed().as_secs_f64();
    over.store(true, ended);
    let outcome: Outcome = asking.await.expect("the load ends");
    // Long enough for a host that was lost in the rush to be found out.
    let (watch, mut least) = (Instant::now(), hosts);
    while watch.elapsed() < Duration::from_secs(15) {
        least = least.min(nodes(&master.api).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    vec![
        name.to_owned(),
        format!("{all_in:.1}"),
        (outcome.answers + outcome.refused).to_string(),
        outcome.refused.to_string(),
        format!("{:.1}", outcome.percentile_ms(50)),
        format!("{:.1}", outcome.percentile_ms(99)),
        (hosts - least).to_string(),
    ]
}

async fn nodes(api: &Api) -> usize {
    let ready = api.get("/v1/stats").await.body["now"]["nodes_ready"].clone();
    ready.as_u64().and_then(|ready| usize::try_from(ready).ok()).unwrap_or(0)
}

async fn fill(master: &Master) {
    let (services, replicas) = SERVICES;
    let all = post("/v1/services", services, move |n| {
        format!(
            r#"{{"name":"service-{n:04}","image":"registry.example/team/app:1.2.3","replicas":{replicas}}}"#
        )
    });
    let outcome = load(master.address, 16, LIMIT, all).await;
    assert_eq!(outcome.refused, 0, "no service is refused");
    let begin = Instant::now();
    let wanted = services * u64::from(replicas);
    while master.api.get("/v1/stats").await.body["now"]["replicas_running"] != wanted {
        assert!(begin.elapsed() < LIMIT, "the replicas do not come to run");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    note(format_args!("{wanted} replicas run"));
}

async fn flood(master: &Master, hosts: usize) {
    let before = master.process.resident();
    let requests = {
        // Each a change to commit, of a few services: what is kept does not grow.
        let change = |n: u64| {
            let body = format!("{{\"image\":\"registry.example/app:{n}\",\"replicas\":0}}");
            let (name, length) = (n / 2 % 100, body.len());
            let head = format!(
                "PUT /v1/services/flood-{name} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            );
            Some(format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes())
        };
        let state = crate::load::get("/state");
        let requests: Requests = Arc::new(move |n| if n % 2 == 0 { change(n) } else { state(n) });
        requests
    };
    let flooding = actix_rt::spawn(load(master.address, FLOOD.1, FLOOD.0, requests));
    let (begin, mut least) = (Instant::now(), hosts);
    while begin.elapsed() < FLOOD.0 {
        // Of a flooded API only an answer counts.
        if let Ok(answer) = master.api.attempt("GET", "/v1/stats", &[], Vec::new()).await
            && let Some(ready) = answer.body["now"]["nodes_ready"].as_u64()
        {
            least = least.min(usize::try_from(ready).unwrap_or(0));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let outcome = flooding.await.expect("the load ends");
    tokio::time::sleep(Duration::from_secs(3)).await;
    least = least.min(nodes(&master.api).await);
    let after = master.process.resident();
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let mb = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
    note(format_args!(
        "flood: {} clients for {} s, every other request a durable change, the others GET /state",
        FLOOD.1,
        FLOOD.0.as_secs()
    ));
    table(
        &[
            "",
            "answered",
            "503 with Retry-After",
            "other errors",
            "closed",
            "p99 ms",
            "hosts not ready",
            "MB before",
            "highest",
            "after",
        ],
        &[vec![
            String::new(),
            outcome.answers.to_string(),
            outcome.asked_to_wait.to_string(),
            (outcome.refused - outcome.asked_to_wait).to_string(),
            outcome.closed.to_string(),
            format!("{:.1}", outcome.percentile_ms(99)),
            (hosts - least).to_string(),
            mb(before.now),
            mb(after.highest),
            mb(after.now),
        ]],
    );
}
