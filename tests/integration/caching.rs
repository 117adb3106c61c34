//! The cache filter: bytes are read once, and are never out of date.

use std::sync::Arc;

use futures_lite::future::zip;
use pactio::{Code, Device, Host, OpenOptions};
use pactio_tests::{host, in_time, random};

fn cached(url: &str) -> (Host, Device) {
    let host = host(&[
        "pactio_cache",
        "pactio_delay",
        "pactio_fault",
        "pactio_file",
        "pactio_memory",
        "pactio_stats",
        "fixture_picky",
        "fixture_queued",
    ]);
    let options = OpenOptions::new().read(true).write(true).create(true);
    let device = host.open_with(url, options).unwrap_or_else(|error| panic!("{error}"));
    (host, device)
}

fn figure(host: &Host, device: &Device, name: &str) -> u64 {
    let figures = host.block_on(device.statistics()).unwrap();
    figures.iter().find(|figure| figure.name == name).map_or(0, |figure| figure.value)
}

#[test]
fn a_block_is_read_once_for_all_who_want_it() {
    in_time(|| {
        let (host, device) = cached("queued:1000000 | stats | delay?latency=20ms | cache?block=4KiB");
        let below = device.below().unwrap().below().unwrap().clone();
        let tasks: Vec<_> = (0..100u64)
            .map(|index| {
                let device = device.clone();
                host.spawn(async move { device.read_exact_at(index * 7, vec![0; 64]).await })
            })
            .collect();
        for (index, task) in tasks.into_iter().enumerate() {
            let bytes = host.block_on(task).unwrap();
            assert!(
                bytes.iter().zip(index * 7..).all(|(byte, at)| *byte == (at % 251) as u8),
                "{index}: {bytes:?}"
            );
        }
        assert_eq!(figure(&host, &below, "reads"), 1);
        let all = ["hits", "misses", "joined"].map(|name| figure(&host, &device, name));
        assert_eq!((all[1], all.iter().sum::<u64>()), (1, 100), "{all:?}");
        host.block_on(device.read::<u64>(100)).unwrap();
        assert_eq!(figure(&host, &device, "hits"), all[0] + 1);
        assert_eq!(figure(&host, &device, "bytes kept"), 4096);
    });
}

#[test]
fn memory_is_bounded_and_what_is_read_is_right() {
    in_time(|| {
        let (host, device) = cached("queued:2000000 | stats | cache?size=64KiB&block=4KiB");
        let mut random = random();
        for _ in 0..2000 {
            let position = random.u64(0..2_010_000);
            let (report, bytes) =
                host.block_on(device.read_at(position, vec![0; random.usize(1..10_000)])).unwrap();
            let exists = 2_000_000u64.saturating_sub(position).min(bytes.len() as u64) as usize;
            assert_eq!(report.done(), exists, "{} at {position}: {report}", bytes.len());
            assert!(
                bytes[..exists].iter().zip(position..).all(|(byte, at)| *byte == (at % 251) as u8),
                "{exists} bytes at {position}"
            );
            assert!(report.failed_ranges().all(|(_, error)| error.code() == Code::END), "{report}");
        }
        let kept = figure(&host, &device, "bytes kept");
        assert!(kept > 0 && kept <= 64 << 10, "{kept}");
    });
}

/// Many tasks read and write at random, each in a part of its own: every read sees the last write.
fn random_work(url: &'static str, size: u64) {
    let (host, device) = cached(url);
    let device = Arc::new(device);
    let mut seeds = random();
    const TASKS: u64 = 8;
    let part = size / TASKS;
    // The parts do not begin at blocks, so that tasks share some blocks.
    assert!(!part.is_multiple_of(512), "{part}");
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (device, mut random) = (device.clone(), fastrand::Rng::with_seed(seeds.u64(..)));
            host.spawn(async move {
                let start = task * part;
                let mut model = vec![0; part as usize];
                device.write_all_at(start, model.clone()).await.unwrap();
                for _ in 0..400 {
                    let at = random.usize(0..model.len());
                    let len = random.usize(1..=(model.len() - at).min(3000));
                    if random.bool() {
                        let bytes = vec![random.u8(..); len];
                        model[at..at + len].copy_from_slice(&bytes);
                        device.write_all_at(start + at as u64, bytes).await.unwrap();
                    } else {
                        let read = device.read_exact_at(start + at as u64, vec![0; len]).await.unwrap();
                        assert!(read == model[at..at + len], "task {task} at {at}, {len} bytes");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        host.block_on(task);
    }
}

#[test]
fn what_was_written_is_what_is_read() {
    in_time(|| random_work("queued:100008 | cache?size=64KiB&block=512", 100_008));
    in_time(|| {
        random_work(
            "memory:?size=100008 | delay?latency=0s&jitter=2ms | cache?size=64KiB&block=4KiB",
            100_008,
        )
    });
}

#[test]
fn an_end_that_moves_is_noticed() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grows");
        let (host, device) = cached(&format!("file:{} | cache?block=4KiB", path.display()));
        host.block_on(async {
            device.write_all_at(0, b"start".to_vec()).await.unwrap();
            let (report, _) = device.read_at(0, vec![1; 100]).await.unwrap();
            assert_eq!(report.done(), 5);
            // A write to another block: the first block now has zeros behind its old end.
            device.write_all_at(10_000, b"far".to_vec()).await.unwrap();
            let (report, bytes) = device.read_at(0, vec![1; 100]).await.unwrap();
            assert_eq!((report.done(), &bytes[..7]), (100, &b"start\0\0"[..]));
            device.resize(3).await.unwrap();
            let (report, bytes) = device.read_at(0, vec![1; 100]).await.unwrap();
            assert_eq!((report.done(), &bytes[..3]), (3, &b"sta"[..]));
            device.resize(50).await.unwrap();
            assert_eq!(device.read_at(0, vec![1; 100]).await.unwrap().0.done(), 50);
        });
    });
}

#[test]
fn what_failed_is_not_kept() {
    in_time(|| {
        let (host, device) =
            cached("queued:100000 | fault?read=50&seed=3 | delay?latency=1ms | cache?block=4KiB");
        let (mut failed, mut done) = (0, 0);
        for _ in 0..50 {
            match host.block_on(device.read::<[u8; 8]>(4096)) {
                Ok(value) => {
                    assert_eq!(value[0], (4096 % 251) as u8);
                    done += 1;
                }
                // After the first read that succeeds, the block is kept and no read fails.
                Err(error) => {
                    assert_eq!((error.code(), done), (Some(Code::IO), 0));
                    failed += 1;
                }
            }
        }
        assert!(done > 0, "{failed} failed");
        // Two concurrent reads share the failure as well.
        let (one, other) = host.block_on(zip(device.read::<u8>(8192 * 3), device.read::<u8>(8192 * 3 + 1)));
        assert_eq!(one.is_ok(), other.is_ok());
    });
}

#[test]
fn what_a_cache_cannot_be_is_said() {
    in_time(|| {
        let (host, _) = cached("memory:?size=1KiB");
        let error = |url: &str| host.open(url).unwrap_err().to_string();
        assert_eq!(
            error("memory:?size=1KiB | cache?block=5000"),
            "cannot open 'memory:?size=1KiB | cache?block=5000' with plugin 'cache': block is 5000 bytes, but must be a power of two"
        );
        assert_eq!(
            error("memory:?size=1KiB | cache?size=64KiB&block=1MiB"),
            "cannot open 'memory:?size=1KiB | cache?size=64KiB&block=1MiB' with plugin 'cache': size is 65536 bytes, which is less than a block of 1048576"
        );
    });
}
