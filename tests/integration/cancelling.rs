//! Cancelled requests end soon, with any filters between the caller and the device.

use std::time::{Duration, Instant};

use pactio::Device;
use pactio_tests::{folder_of, in_time};

/// Far less than the delay of the device below, and far more than a loaded machine needs.
const SOON: Duration = Duration::from_secs(20);

const SLOW: &str = "memory:?size=1MiB | delay?latency=1h";

const KEY: &str = "crypt?key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

fn filters() -> Vec<String> {
    let single = [
        "cow",
        "cache?block=64KiB",
        "stats",
        "limit?in-flight=4",
        "limit?rate=1GiB",
        "retry",
        "fault?read=0",
        "delay?latency=0s",
        KEY,
        "core?at=0",
    ];
    let mut all: Vec<String> = single.iter().map(|filter| (*filter).to_owned()).collect();
    all.push("stats | limit?in-flight=4 | retry | cache | cow | stats | retry | limit?in-flight=1 | cache?block=4KiB".to_owned());
    all.push(String::new());
    all
}

fn hosts() -> [pactio::Host; 2] {
    let names = ["memory", "delay", "cow", "cache", "stats", "limit", "retry", "fault", "crypt", "core"];
    let mut names: Vec<String> = names.iter().map(|name| format!("pactio_{name}")).collect();
    names.push("fixture_patient".to_owned());
    let folder = folder_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    [false, true].map(|statistics| {
        pactio::Host::builder()
            .default_search_paths(false)
            .search_path(folder.path())
            .worker_threads(2)
            .statistics(statistics)
            .build()
            .unwrap()
    })
}

/// The number of views that the device at the bottom holds.
fn held(host: &pactio::Host, device: &Device) -> u64 {
    let mut bottom = device.clone();
    while let Some(below) = bottom.below().cloned() {
        bottom = below;
    }
    host.block_on(bottom.statistics()).unwrap()[0].value
}

#[test]
fn a_cancelled_request_settles_behind_every_filter() {
    in_time(|| {
        for host in hosts() {
            for filter in filters() {
                let url = if filter.is_empty() { SLOW.to_owned() } else { format!("{SLOW} | {filter}") };
                let device = host.open(&url).unwrap();
                for (position, len) in [(0, 100), (4000, 200_000)] {
                    let begun = Instant::now();
                    let (report, _) = host.block_on(async {
                        let mut request = device.read_at(position, vec![0; len]);
                        futures_lite::future::poll_once(&mut request).await;
                        // The driver of a filter may send the request on later.
                        async_io::Timer::after(Duration::from_millis(2)).await;
                        request.cancel().await.unwrap()
                    });
                    let elapsed = begun.elapsed();
                    assert!(elapsed < SOON, "{url}: settled after {elapsed:?}");
                    assert_eq!(report.done(), 0, "{url}");
                    let error = report.min_error().unwrap().1;
                    assert_eq!(error.code(), pactio::Code::CANCELLED, "{url}: {report}");
                }
            }
        }
    });
}

/// The device checks only its own views, and a filter in front of the device makes fresh views.
#[test]
fn views_behind_every_filter_show_a_cancellation_and_a_dropped_future() {
    in_time(|| {
        for host in hosts() {
            // The cache reads a block for all requests, and cancels this read only by the identity of its own request.
            for filter in filters().into_iter().filter(|filter| !filter.contains("cache")) {
                let url =
                    if filter.is_empty() { "patient:".to_owned() } else { format!("patient: | {filter}") };
                let device = host.open(&url).unwrap();
                for is_dropped in [false, true] {
                    host.block_on(async {
                        let mut request = device.read_at(4000, vec![0; 100_000]);
                        futures_lite::future::poll_once(&mut request).await;
                        while held(&host, &device) == 0 {
                            async_io::Timer::after(Duration::from_millis(1)).await;
                        }
                        if !is_dropped {
                            let (report, _) = request.cancel().await.unwrap();
                            assert_eq!(
                                report.min_error().unwrap().1.code(),
                                pactio::Code::CANCELLED,
                                "{url}"
                            );
                        }
                    });
                    // If the device keeps a view, `in_time` fails the test.
                    while held(&host, &device) > 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        }
    });
}
