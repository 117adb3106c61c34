//! The share of the configured rate that the filter `limit` reaches, at rates of at most half the speed of the device alone.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pactio::{Device, Host};

/// Sizes of a request.
const SIZES: [usize; 5] = [64, 512, 4 << 10, 64 << 10, 1 << 20];

/// Requests that are in flight at a time.
const IN_FLIGHT: [usize; 2] = [1, 16];

/// Rates in bytes per second.
const RATES: [u64; 3] = [1 << 20, 32 << 20, 512 << 20];

/// Prints the share for each rate, size and number of requests in flight.
pub(crate) fn limits(seconds: f64) {
    let host = pactio_tests::host(&["pactio_limit", "pactio_memory"]);
    let open = |more: &str| -> Device {
        host.open(&format!("memory:?size=1MiB{more}")).unwrap_or_else(|error| panic!("{error}"))
    };
    let time = Duration::from_secs_f64(seconds / (SIZES.len() * IN_FLIGHT.len() * (RATES.len() + 1)) as f64);
    println!("| share of the rate; size, in flight | 1 MiB/s | 32 MiB/s | 512 MiB/s |");
    println!("|---|---:|---:|---:|");
    for size in SIZES {
        for count in IN_FLIGHT {
            let alone = rate(&host, &open(""), size, count, time / 4);
            let share = |limit: u64| {
                // The share means nothing for a few requests, or for a device that is not fast enough.
                let few = limit as f64 * time.as_secs_f64() < 20.0 * size as f64;
                if alone < 2.0 * limit as f64 || few {
                    return "-".to_owned();
                }
                let device = open(&format!(" | limit?rate={limit}"));
                format!("{:.3}", rate(&host, &device, size, count, time) / limit as f64)
            };
            let [first, second, third] = RATES.map(share);
            println!("| {size} B, {count} | {first} | {second} | {third} |");
        }
    }
}

/// Bytes per second that pass the filter, without the first request, which does not wait.
fn rate(host: &Host, device: &Device, size: usize, count: usize, time: Duration) -> f64 {
    host.block_on(async {
        let began = Instant::now();
        let lane = || async {
            let (mut done, mut buffer) = (0, vec![0; size]);
            while began.elapsed() < time {
                buffer = device.read_exact_at(0, buffer).await.unwrap_or_else(|error| panic!("{error}"));
                done += size;
            }
            done
        };
        let done: usize = join_all((0..count).map(|_| lane())).await.into_iter().sum();
        (done - size) as f64 / began.elapsed().as_secs_f64()
    })
}
