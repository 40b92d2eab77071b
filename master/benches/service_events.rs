//! Prints what one event costs a service's core, by the number of its replicas: none looks at all of them.
//! And the longest event of changes of the whole service, since none may hold up the thread of the actors.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use shef_common::{ids::NodeName, status::Health};
use shef_master::{
    membership::{Hosts, Standing},
    service::{
        ServiceEvent,
        measure::{Kind, LargeService},
    },
};

/// How often each event is measured.
const TIMES: usize = 201;
/// How often a change of a whole service is measured.
const RUNS: usize = 3;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn took(act: impl FnOnce()) -> Duration {
    let since = Instant::now();
    act();
    since.elapsed()
}

/// The median of what the service takes for an event and all that follows from it.
fn median(service: &mut LargeService, mut event: impl FnMut(&mut LargeService)) -> Duration {
    let mut all: Vec<Duration> = (0..TIMES)
        .map(|_| {
            event(service);
            took(|| service.settle())
        })
        .collect();
    all.sort_unstable();
    all[all.len() / 2]
}

const fn kind_of(event: &ServiceEvent) -> &'static str {
    match event {
        ServiceEvent::Request(..) => "request",
        ServiceEvent::Scheduled(_) => "scheduled",
        ServiceEvent::Committed => "committed",
        ServiceEvent::CommitFailed(_) => "commit failed",
        ServiceEvent::Observed { .. } => "statuses",
        ServiceEvent::Gone { .. } => "gone",
        ServiceEvent::Unknown { .. } => "unknown",
        ServiceEvent::HostChanged { .. } => "host changed",
        ServiceEvent::HostsDescribed(_) => "hosts described",
        ServiceEvent::HostForgotten { .. } => "host forgotten",
        ServiceEvent::Wake => "wake",
    }
}

/// A service on which a change is measured, and the change.
type Change<'a> = (&'a dyn Fn() -> Option<LargeService>, &'a dyn Fn(&mut LargeService));

/// What a change takes: how many events there are, the longest with its kind, and all of them together. Of
/// each event the least time of [`RUNS`] runs counts: every run has the same events, and on a machine that
/// does other work any of them may be interrupted.
fn longest((service, change): Change<'_>) -> Option<String> {
    let mut least: Vec<(Duration, &str)> = Vec::new();
    for _ in 0..RUNS {
        let mut service = service()?;
        change(&mut service);
        let mut at = 0;
        while let Some(event) = service.next_in_time() {
            let (kind, mut effects) = (kind_of(&event), Vec::new());
            let step = took(|| effects = service.handle(event));
            service.carry_out(effects);
            match least.get_mut(at) {
                Some(known) => known.0 = known.0.min(step),
                None => least.push((step, kind)),
            }
            at += 1;
        }
    }
    let (most, kind) = least.iter().max()?;
    let sum: Duration = least.iter().map(|(step, _)| *step).sum();
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    Some(format!("{:>7} {:>9.2} {kind:>14} {:>9.1}", least.len(), ms(*most), ms(sum)))
}

/// Prints the longest event of changes of a whole service of so many replicas: none may hold up the thread
/// of the actors.
fn changes(kind: Kind, replicas: u32) {
    let unborn = || LargeService::unborn(kind, replicas);
    let runs = || LargeService::new(kind, replicas);
    let has_more = || {
        let mut service = LargeService::new(kind, replicas)?;
        service.scales_up(replicas / 10);
        service.settle_in_time();
        Some(service)
    };
    let all: [(&str, bool, Change<'_>); 7] = [
        ("first deployment", kind == Kind::Stateless, (&unborn, &LargeService::is_created)),
        ("a tenth more", kind != Kind::Global, (&runs, &|service| service.scales_up(replicas / 10))),
        ("a tenth fewer", kind != Kind::Global, (&has_more, &|service| service.scales_to(replicas))),
        ("update by tenths", true, (&runs, &LargeService::updates)),
        ("loss of one host", kind == Kind::Stateless, (&runs, &|service| service.loses_hosts_of(10))),
        (
            "loss of a tenth of hosts",
            kind == Kind::Stateless,
            (&runs, &|service| service.loses_hosts_of(replicas / 10)),
        ),
        ("deletion", true, (&runs, &LargeService::is_deleted)),
    ];
    for (what, _, change) in all.into_iter().filter(|(_, counts, _)| *counts) {
        if let Some(figures) = longest(change) {
            println!("{replicas:>9} {what:>24} {figures}");
        }
    }
}

fn costs(kind: Kind) {
    println!("{kind:?}: microseconds an event, median of {TIMES}; in brackets, times that of 1,000 replicas");
    println!("{:>9} {:>20} {:>20} {:>20}", "replicas", "one status", "one host's change", "one replica more");
    let mut of_thousand = None;
    for replicas in [1_000, 10, 10_000, 100_000] {
        let Some(mut service) = LargeService::new(kind, replicas) else { continue };
        let mut n = 0;
        let status = median(&mut service, |service| {
            n += 1;
            service.hears(n / 2 % replicas, if n % 2 == 0 { Health::Unhealthy } else { Health::Healthy });
        });
        let host = median(&mut service, |service| {
            n += 1;
            let standing = if n % 2 == 0 { Standing::Suspect } else { Standing::Ready };
            service.host_of(n / 2 * 10 % replicas, standing);
        });
        let more = median(&mut service, |service| {
            if kind != Kind::Global {
                service.scales_up(1);
            }
        });
        let costs = [status, host, more].map(|took| took.as_secs_f64() * 1e6);
        let base = *of_thousand.get_or_insert(costs);
        let cells: Vec<String> = costs
            .iter()
            .zip(base)
            .map(|(cost, base)| format!("{cost:>11.1} ({:>5.1})", cost / base))
            .collect();
        println!("{replicas:>9} {:>20} {:>20} {:>20}", cells[0], cells[1], cells[2]);
    }
}

/// Prints what a change of one host costs all services of a cluster, of which none has anything there.
fn bystanders() {
    let (services, hosts) = (1_000, 1_000);
    let mut all: Vec<_> = (0..services).filter_map(|_| LargeService::new(Kind::Stateless, 10)).collect();
    let node = |n: u32| NodeName::parse(&format!("h{n}")).ok();
    let described: Hosts = Arc::new((0..hosts).filter_map(|n| Some((node(n)?, Arc::default()))).collect());
    let mut n = 0;
    let mut median = |event: &dyn Fn(&mut LargeService, u32)| {
        let mut times: Vec<Duration> = (0..TIMES)
            .map(|_| {
                n += 1;
                all.iter_mut().for_each(|service| event(service, n));
                took(|| all.iter_mut().for_each(LargeService::settle))
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let standing = |n: u32| if n.is_multiple_of(2) { Standing::Suspect } else { Standing::Ready };
    let changed = median(&|service, n| service.host_elsewhere(standing(n)));
    let described = median(&|service, _| service.hosts_are(&described));
    println!(
        "microseconds for {services} services of 10 replicas, with {hosts} hosts, without the messages:"
    );
    println!("{changed:>9.1} a change of a host where none of them has anything");
    println!("{described:>9.1} another description of the hosts");
}

/// Arguments: what to print, `costs`, `longest` or `bystanders`, and of which sizes; without any, all.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut sizes: Vec<u32> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let has_words = args.len() > sizes.len();
    let wants = |what: &str| !has_words || args.iter().any(|arg| arg == what);
    if sizes.is_empty() {
        sizes = vec![1_000, 9_000, 100_000];
    }
    if wants("bystanders") {
        bystanders();
    }
    for kind in [Kind::Stateless, Kind::Stateful, Kind::Global] {
        if wants("costs") {
            costs(kind);
        }
        if !wants("longest") {
            continue;
        }
        println!("{kind:?}: milliseconds of the longest event, its kind, and of all events together");
        println!(
            "{:>9} {:>24} {:>7} {:>9} {:>14} {:>9}",
            "replicas", "change", "events", "longest", "kind", "all"
        );
        for &replicas in &sizes {
            changes(kind, replicas);
        }
    }
}
