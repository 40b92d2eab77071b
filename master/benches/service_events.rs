//! Prints what one event costs a service's core, by the number of its replicas: none looks at all of them.
//! And the longest event of an update of the whole service, since none may hold up the thread of the actors.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use shef_common::status::Health;
use shef_master::{
    membership::Standing,
    service::measure::{Kind, LargeService},
};

/// How often each event is measured.
const TIMES: usize = 201;

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

/// Prints what an update of the whole service takes, a tenth of the replicas at a time: for each kind of
/// event how many there are, what the longest takes, and what all of them take together.
fn update(service: &mut LargeService) {
    service.updates();
    let mut by_kind: BTreeMap<&str, (usize, Duration, Duration)> = BTreeMap::new();
    loop {
        let mut kind = None;
        let step = took(|| kind = service.step());
        let Some(kind) = kind else { break };
        let (count, longest, sum) = by_kind.entry(kind).or_default();
        (*count, *longest, *sum) = (*count + 1, step.max(*longest), *sum + step);
    }
    for (kind, (count, longest, sum)) in by_kind {
        let (longest, sum) = (longest.as_micros(), sum.as_micros());
        println!("{kind:>20}: {count:>6} events, the longest {longest:>7} us, all {sum:>9} us");
    }
}

fn main() {
    for kind in [Kind::Stateless, Kind::Stateful, Kind::Global] {
        println!(
            "{kind:?}: microseconds an event, median of {TIMES}; in brackets, times that of 1,000 replicas"
        );
        println!(
            "{:>9} {:>20} {:>20} {:>20}",
            "replicas", "one status", "one host's change", "one replica more"
        );
        let mut of_thousand = None;
        for replicas in [1_000, 10, 9_000, 100_000] {
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
                    service.scales_up();
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
        // A service may have 10,000.
        for replicas in [1_000, 9_000] {
            let Some(mut service) = LargeService::new(kind, replicas) else { continue };
            println!("an update of {replicas}, a tenth at a time:");
            update(&mut service);
        }
    }
}
