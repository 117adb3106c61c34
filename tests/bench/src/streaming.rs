//! The streamer: how long an urgent request takes behind large ones, how many small ones a device with a latency serves, the
//! memory of cancelled ones, and the processor time of the thread that takes the bytes.

use std::time::{Duration, Instant};

use pactio::{Device, Host, Streamer, Urgency};
use rustix::time::{ClockId, clock_gettime};

const MIB: u64 = 1 << 20;

pub(crate) fn streaming(seconds: f64) {
    let host = pactio_tests::host(&["pactio_limit", "pactio_memory", "pactio_delay", "pactio_file"]);
    let open = |url: &str| host.open(url).unwrap_or_else(|error| panic!("{error}"));
    let time = Duration::from_secs_f64(seconds / 3.0);
    urgent(&host, &open("memory:?size=512MiB | limit?rate=100MiB"), time);
    small(&host, &open("memory:?size=64MiB | delay?latency=20ms"), time);
    cancelled(&host, &open("memory:?size=2GiB | limit?rate=100MiB"));
    large(&host, &open("memory:?size=1GiB"), time);
}

/// Polls until `wanted` has ended.
fn until<T: Send + 'static + PartialEq>(streamer: &Streamer<T>, wanted: &T) {
    let mut is_done = false;
    while !is_done {
        streamer.poll(Duration::from_millis(2), |done| is_done |= done.data == *wanted);
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// An urgent read of 1.5 KiB behind eight loads of 64 MiB.
fn urgent(host: &Host, device: &Device, time: Duration) {
    let (begun, mut worst, mut all) = (Instant::now(), Duration::ZERO, Vec::new());
    while begun.elapsed() < time {
        let streamer = Streamer::with_memory(host, 1 << 30);
        for index in 0..8u64 {
            streamer.read(device, index * 64 * MIB..(index + 1) * 64 * MIB, Urgency::default(), 0u32);
        }
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        streamer.read(device, 5..1541, Urgency::of(10), 1);
        until(&streamer, &1);
        all.push(asked.elapsed());
        worst = worst.max(asked.elapsed());
        drop(streamer);
        // The device answers the blocks that are under way.
        std::thread::sleep(Duration::from_millis(100));
    }
    all.sort_unstable();
    println!("urgent_behind_8x64MiB_at_100MiB_per_s: median {:.1?}, worst {worst:.1?}", all[all.len() / 2]);
}

/// Assets of 4 KiB from a device that answers after 20 ms.
fn small(host: &Host, device: &Device, time: Duration) {
    let streamer = Streamer::new(host);
    let (begun, mut done, mut asked) = (Instant::now(), 0u64, 0u64);
    while begun.elapsed() < time {
        while asked < done + 2000 {
            let at = asked * 4096 % (60 * MIB);
            streamer.read(device, at..at + 4096, Urgency::default(), ());
            asked += 1;
        }
        streamer.poll(Duration::from_millis(2), |_| done += 1);
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("small_assets_per_s_at_20ms: {:.0}", done as f64 / begun.elapsed().as_secs_f64());
}

/// The memory of forty cancelled reads of 32 MiB, with a bound of 64 MiB.
fn cancelled(host: &Host, device: &Device) {
    let streamer = Streamer::with_memory(host, 64 * MIB);
    let mut most = 0;
    for index in 0..40u64 {
        let ticket = streamer.read(device, index * 32 * MIB..(index + 1) * 32 * MIB, Urgency::default(), ());
        for _ in 0..5 {
            let progress = streamer.progress();
            most = most.max(progress.memory + progress.abandoned);
            std::thread::sleep(Duration::from_millis(1));
        }
        streamer.cancel(ticket);
        streamer.poll(Duration::ZERO, |_| {});
    }
    println!("memory_of_cancelled_MiB: {}", most / MIB);
}

/// Processor time of the thread that takes assets of 64 MiB, in each frame.
fn large(host: &Host, device: &Device, time: Duration) {
    let streamer = Streamer::with_memory(host, 512 * MIB);
    let mut frames = Vec::new();
    let (begun, mut asked, mut done, mut sum) = (Instant::now(), 0u64, 0u64, 0u64);
    while begun.elapsed() < time || frames.is_empty() {
        let before = processor_time();
        while asked < done + 6 {
            let at = asked % 15 * 64 * MIB;
            streamer.read(device, at..at + 64 * MIB, Urgency::default(), ());
            asked += 1;
        }
        streamer.poll(Duration::from_millis(2), |ended| {
            done += 1;
            sum += u64::from(ended.bytes().map_or(0, |bytes| bytes[1000]));
        });
        frames.push(processor_time() - before);
        std::thread::sleep(Duration::from_millis(8));
    }
    frames.sort_unstable();
    let p99 = frames[frames.len() * 99 / 100];
    println!(
        "frame_processor_time_64MiB_assets: p99 {p99:.1?}, {done} assets, {} frames, sum {sum}",
        frames.len()
    );
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
