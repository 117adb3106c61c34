//! The latency of a hundred devices, alone and beside four devices whose drivers hang; many devices whose opening takes long.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use pactio::{Device, Host};

/// Prints the latencies and their ratios.
pub(crate) fn stuck(seconds: f64) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let plugins = pactio_tests::folder_of(&["fixture_queued", "fixture_stuck", "pactio_file"]);
    let host = Host::builder()
        .default_search_paths(false)
        .search_path(plugins.path())
        .worker_threads(2)
        .hang_limit(Duration::from_secs(1))
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let open = |url: &str| host.open(url).unwrap_or_else(|error| panic!("{error}"));
    let file = folder.path().join("file");
    fs::write(&file, vec![7; 1 << 20]).unwrap_or_else(|error| panic!("{error}"));
    let mut devices: Vec<Device> = (0..50).map(|_| open("queued:4096")).collect();
    devices.extend((0..50).map(|_| open(&format!("file:{}?direct=true", file.display()))));
    let time = Duration::from_secs_f64(seconds / 6.0);
    let gate = folder.path().join("gate");
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let alone = latencies(&host, &devices, time);
        let _ = fs::remove_file(&gate);
        let stuck: Vec<Device> = (0..4).map(|_| open(&format!("stuck:driver@{}", gate.display()))).collect();
        let waiting: Vec<_> = stuck
            .iter()
            .map(|device| {
                let device = device.clone();
                host.spawn(async move { device.read_exact_at(0, vec![0; 8]).await.is_ok() })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(1500));
        let beside = latencies(&host, &devices, time);
        let _ = fs::write(&gate, b"");
        assert!(waiting.into_iter().all(|task| host.block_on(task)), "they answer in the end");
        println!(
            "alone p50 {:.1?} p99 {:.1?}, beside p50 {:.1?} p99 {:.1?}",
            alone.0, alone.1, beside.0, beside.1
        );
        ratios.push(beside.0.as_secs_f64() / alone.0.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!("latency_beside_4_stuck_devices_of_alone={:.2}", ratios[1]);
    openings(&host, &devices[0]);
}

/// Time of one opening of the plugin `stuck`.
const OPENING: Duration = Duration::from_millis(500);

/// Opens 200 devices, 24 at once, in two tasks, and reads another device meanwhile.
fn openings(host: &Host, other: &Device) {
    let begun = Instant::now();
    let opening = host.clone();
    let all = host.spawn(async move {
        let options = pactio::OpenOptions::new().read(true);
        let openings = futures_util::stream::iter((0..200).map(|_| opening.opening("stuck:open", options)));
        openings.buffer_unordered(24).filter(|opened| std::future::ready(opened.is_ok())).count().await
    });
    let mut slowest = Duration::ZERO;
    while !all.is_finished() {
        slowest = slowest.max(latencies(host, std::slice::from_ref(other), Duration::from_millis(1)).1);
    }
    let trips = begun.elapsed().div_duration_f64(OPENING);
    assert_eq!(pollster::block_on(all), 200, "each is opened");
    println!("openings_of_200_in_round_trips={trips:.2} slowest_read_meanwhile={slowest:.1?}");
}

/// The median and the 99th percentile of the time of a read, over all devices.
fn latencies(host: &Host, devices: &[Device], time: Duration) -> (Duration, Duration) {
    let begun = Instant::now();
    let mut all = Vec::new();
    while begun.elapsed() < time {
        for device in devices {
            let at = Instant::now();
            // The read runs on a worker, so that the thread of the drivers may take part in it.
            let device = device.clone();
            let read = host.spawn(async move { device.read_exact_at(0, vec![0; 4096]).await.is_ok() });
            assert!(pollster::block_on(read), "a healthy device answers");
            all.push(at.elapsed());
        }
    }
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}
