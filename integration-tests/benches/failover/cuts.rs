//! shef: a host with ten replicas is cut off, again and again; in turns with the
//! engines alone, which create and start as many.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use shef_common::{image::ImageRef, spec::Template};
use shef_integration_tests::lab::{
    engine::BUSYBOX,
    lan::{Cut, LanLab},
    shef::busybox,
    wait::until_within,
};
use tokio::time::Instant;

use crate::{
    LIMIT, LOST,
    floor::Floor,
    samples::{Samples, head},
};

/// How many operations an agent has its engine do at once, as it ships.
const AT_ONCE: usize = 8;

/// Between two looks at the API.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// Cuts hosts off `cuts` times, and prints how long everything took.
pub async fn run(lan: &mut LanLab, cuts: u32) -> Result<(), String> {
    let (mut noticed, mut replaced, mut floor, mut whole) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    // The first of everything is slower than all that follow.
    directly(lan, &["h1".to_owned(), "h2".to_owned()]).await?;
    for cut in 0..cuts {
        let victim = format!("h{}", cut % 3 + 1);
        let others: Vec<String> =
            lan.hosts.iter().map(|host| host.name.clone()).filter(|name| *name != victim).collect();
        floor.add(directly(lan, &others).await?);
        place(lan, &victim, &others).await?;

        // Cuts are spread evenly over what is between two reports.
        tokio::time::sleep(Duration::from_millis(u64::from(cut * 137 % 500))).await;
        let start = Instant::now();
        lan.cut(&victim, Cut::Both)?;
        poll(lan, &format!("/v1/nodes/{victim}"), |node| node["state"] == "down").await?;
        let down = start.elapsed();
        let there = |replica: &&Value| replica["node"] != victim.as_str() && replica["state"] == "running";
        let all = |service: &Value| {
            let replicas = service["replica_states"].as_array().map(|all| all.iter().filter(there).count());
            replicas == Some(LOST as usize)
        };
        poll(lan, "/v1/services/lost", all).await?;
        let done = start.elapsed();
        noticed.add(down);
        let after = done.saturating_sub(down);
        replaced.add(after);
        whole.add(done);

        // What the API says is so.
        let real = lan.by_host().await;
        let elsewhere = others.iter().filter_map(|host| real.get(host)).map(BTreeMap::len).sum::<usize>();
        if elsewhere != LOST as usize {
            return Err(format!("{elsewhere} containers run on {others:?}, not {LOST}"));
        }
        lan.heal(&victim)?;
        poll(lan, &format!("/v1/nodes/{victim}"), |node| {
            node["state"] == "ready" && node["flapping"] != true
        })
        .await?;
        lan.master.api.call("DELETE", "/v1/services/lost?wait=30s", Value::Null).await;
        until_within(LIMIT, "every engine is clean", async || {
            lan.containers().await.is_empty().then_some(())
        })
        .await;
        println!(
            "cut {:>3} of {victim}: down after {:>5} ms, replaced {:>5} ms later",
            cut + 1,
            down.as_millis(),
            after.as_millis()
        );
    }
    head(&format!("shef: {LOST} replicas lost with one of 3 hosts, image cached"));
    noticed.line("cut -> down");
    replaced.line("down -> all run elsewhere");
    floor.line("the engines alone create and start as many");
    whole.line("cut -> all run elsewhere");
    println!(
        "down -> all run, over the engines alone: {:.2}",
        replaced.p50().as_secs_f64() / floor.p50().as_secs_f64()
    );
    Ok(())
}

/// Has the service `lost` run on `victim` alone, and everything be free to take it over.
async fn place(lan: &LanLab, victim: &str, others: &[String]) -> Result<(), String> {
    for host in others {
        set_intent(lan, host, "cordon").await?;
    }
    lan.master.deploy("lost", busybox(LOST)).await;
    for host in others {
        set_intent(lan, host, "activate").await?;
    }
    let service = lan.master.api.get("/v1/services/lost").await.body;
    let stray = |replica: &Value| replica["node"] != victim;
    if service["replica_states"].as_array().is_none_or(|all| all.iter().any(stray)) {
        return Err(format!("not all replicas are on {victim}: {service}"));
    }
    Ok(())
}

async fn set_intent(lan: &LanLab, host: &str, what: &str) -> Result<(), String> {
    let answer = lan.master.api.call("POST", &format!("/v1/nodes/{host}/{what}"), json!({})).await;
    if answer.status < 300 { Ok(()) } else { Err(format!("{what} {host}: {answer:?}")) }
}

/// How long the engines of `hosts` need for as many containers between them.
async fn directly(lan: &LanLab, hosts: &[String]) -> Result<Duration, String> {
    let mut template = Template::of(ImageRef::parse(BUSYBOX).map_err(|error| error.to_string())?);
    template.stop_grace_s = 2;
    let mut floors = Vec::new();
    for host in hosts {
        floors.push(Floor::new(lan.host(host)?.socket().client()));
    }
    let share = LOST / u32::try_from(hosts.len()).unwrap_or(1);
    let start = Instant::now();
    futures_util::future::join_all(floors.iter().map(|floor| floor.create(&template, share, AT_ONCE))).await;
    let took = start.elapsed();
    futures_util::future::join_all(floors.iter().map(|floor| floor.remove(&template, share, AT_ONCE))).await;
    Ok(took)
}

async fn poll(lan: &LanLab, path: &str, done: impl Fn(&Value) -> bool) -> Result<(), String> {
    let looked = async {
        while !done(&lan.master.api.get(path).await.body) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(LIMIT, looked)
        .await
        .map_err(|_| format!("{path} does not come to what is waited for"))
}
