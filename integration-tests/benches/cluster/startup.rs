//! From `shef up` to the API, and on to a running replica.

use serde_json::json;
use shef_integration_tests::{
    cluster::Api,
    lab::{
        engine::{BUSYBOX, LabEngine},
        scripted_master::{OBEDIENT, shell},
    },
};
use tokio::time::Instant;

use crate::{
    measure::{Samples, table, title},
    programs::{Shef, free_address, wait_for_port},
};

/// How often.
const ROUNDS: usize = 5;

/// Measures and prints.
///
/// # Panics
/// If the cluster does not come up.
pub async fn run(shef: &Shef) {
    title(&format!("shef up on an empty directory, image cached, {ROUNDS} times; ms"));
    let lab = LabEngine::start().await;
    lab.import_busybox().await;
    let (mut answers, mut runs) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a directory");
        let (listen, agent) = (free_address(), free_address().to_string());
        let (api_address, data_dir) = (listen.to_string(), dir.path().join("data").display().to_string());
        let api = Api::new(listen);
        let url = lab.url();
        let start = Instant::now();
        let up =
            ["up", "--data-dir", &data_dir, "--api", &api_address, "--agent", &agent, "--docker-host", &url];
        let process = shef.start(&up, &dir.path().join("log"));
        wait_for_port(listen).await;
        let health = api.get("/healthz").await;
        answers.add(start.elapsed());
        assert_eq!(health.status, 200, "{health:?}");

        let template = shell(BUSYBOX, OBEDIENT, 10);
        let body = json!({ "image": template.image, "command": template.command, "replicas": 1,
            "update": { "monitor_ms": 0 } });
        let start = Instant::now();
        let put = api.call("PUT", "/v1/services/one?wait=30s", body).await;
        runs.add(start.elapsed());
        assert!(put.body["converged"] == true, "the replica does not run: {put:?}");

        let gone = api.raw("DELETE", "/v1/services/one?wait=30s", &[], Vec::new()).await;
        assert!(gone.body["converged"] == true, "the replica does not go: {gone:?}");
        process.stop();
    }
    let row = |name: &str, samples: &Samples, target: &str| {
        let [median, min, max] = samples.cells();
        vec![name.to_owned(), median, min, max, target.to_owned()]
    };
    let rows = [
        row("from the start of `shef up` to the answer of /healthz", &answers, "500"),
        row("from then, a service of one replica until it runs", &runs, "1000"),
    ];
    table(&["", "median", "min", "max", "target"], &rows);
}
