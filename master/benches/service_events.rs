//! Prints what one event costs a service's core, by the number of its replicas: none looks at all of them.

use std::time::{Duration, Instant};

use shef_common::status::Health;
use shef_master::{membership::Standing, service::measure::LargeService};

/// The median of what `act` takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn median(mut act: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..201)
        .map(|_| {
            let since = Instant::now();
            act();
            since.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

fn main() {
    println!("microseconds an event, median of 201; in brackets, times that of 1,000 replicas");
    println!("{:>9} {:>20} {:>20} {:>20}", "replicas", "one status", "one host's change", "one replica more");
    let mut of_thousand = None;
    for replicas in [1_000, 10, 9_000, 100_000] {
        let mut service = LargeService::new(replicas).expect("valid names");
        let mut n = 0;
        let status = median(|| {
            n += 1;
            service.hears(n / 2 % replicas, if n % 2 == 0 { Health::Unhealthy } else { Health::Healthy });
        });
        let host = median(|| {
            n += 1;
            let standing = if n % 2 == 0 { Standing::Suspect } else { Standing::Ready };
            service.host(n / 2 % (replicas / 10), standing);
        });
        let more = median(|| service.scales_up());
        let costs = [status, host, more].map(|took| took.as_secs_f64() * 1e6);
        let base = *of_thousand.get_or_insert(costs);
        let told: Vec<String> = costs
            .iter()
            .zip(base)
            .map(|(cost, base)| format!("{cost:>11.1} ({:>5.1})", cost / base))
            .collect();
        println!("{replicas:>9} {:>20} {:>20} {:>20}", told[0], told[1], told[2]);
    }
}
