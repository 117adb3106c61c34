//! Urgent requests overtake others in the queues of devices, through filters, and when they become urgent in flight.

use std::fs;
use std::io::{Cursor, Write as _};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pactio::{Attributes, Code, Device, Host, OpenOptions, Streamer, Urgency};
use pactio_tests::{host, in_time};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn filters() -> Host {
    host(&[
        "pactio_archive",
        "pactio_cache",
        "pactio_delay",
        "pactio_file",
        "pactio_limit",
        "pactio_memory",
        "pactio_retry",
        "pactio_stats",
        "fixture_identity",
        "fixture_xor",
    ])
}

/// Sends reads of these devices, 0 to `count`, of which the last two are more urgent: one from the start, one from a little later
/// on. Gives the numbers in the order in which the reads end.
fn order(host: &Host, read: impl Fn(usize) -> (Device, u64), count: usize) -> Vec<usize> {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let later = Attributes::new();
    let reads: Vec<_> = (0..count)
        .map(|number| {
            let ((device, position), ended) = (read(number), ended.clone());
            let attributes = match count - number {
                1 => Attributes::new().with_urgency(5),
                2 => later.clone(),
                _ => Attributes::new(),
            };
            host.spawn(async move {
                let read = device.read_exact_at(position, vec![0; 512]).with_attributes(&attributes);
                read.await.unwrap_or_else(|error| panic!("{error}"));
                ended.lock().unwrap().push(number);
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    later.set_urgency(3);
    reads.into_iter().for_each(|read| host.block_on(read));
    Arc::try_unwrap(ended).unwrap().into_inner().unwrap()
}

/// The two urgent reads of ten end before most of the others: those before them were under way.
fn expect_urgent_first(what: &str, order: &[usize]) {
    let place = |number: usize| order.iter().position(|ended| *ended == number).unwrap();
    assert!(place(9) <= 3 && place(8) <= 4 && place(9) < place(8), "{what}: {order:?}");
}

#[test]
fn urgent_reads_overtake_others_through_filters() {
    in_time(|| {
        let host = filters();
        let above = ["", " | identity", " | xor", " | retry", " | stats", " | stats | retry | identity"];
        thread::scope(|scope| {
            for filters in above {
                let host = &host;
                scope.spawn(move || {
                    let url = format!("memory:?size=1MiB | delay?latency=150ms | limit?in-flight=1{filters}");
                    let device = host.open(&url).unwrap_or_else(|error| panic!("{error}"));
                    let order = order(host, |number| (device.clone(), number as u64 * 8192), 10);
                    expect_urgent_first(&url, &order);
                });
            }
        });
    });
}

#[test]
fn urgent_files_of_an_archive_are_decompressed_first() {
    in_time(|| {
        let host = filters();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files.zip");
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for number in 0..10 {
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
            writer.start_file(number.to_string(), options).unwrap();
            writer.write_all(&vec![number; 100_000]).unwrap();
        }
        fs::write(&path, writer.finish().unwrap().into_inner()).unwrap();
        let url = format!("file:{} | delay?latency=150ms | limit?in-flight=1 | archive", path.display());
        let archive = host.open(&url).unwrap();
        let files: Vec<_> = (0..10)
            .map(|number| {
                host.block_on(archive.opening(number.to_string(), OpenOptions::new().read(true))).unwrap()
            })
            .collect();
        let order = order(&host, |number| (files[number].clone(), 0), 10);
        // The archive learns of an urgency when a request joins those that wait for a file.
        assert!(order.iter().position(|ended| *ended == 9).is_some_and(|place| place <= 3), "{order:?}");
    });
}

#[test]
fn reads_that_are_joined_become_as_urgent_as_the_most_urgent() {
    in_time(|| {
        let host = filters();
        let url = "memory:?size=1MiB | delay?latency=150ms | limit?in-flight=1 | cache?block=4KiB";
        let device = host.open(url).unwrap();
        // The last two want the blocks of the numbers 6 and 7. The cache learns of an urgency when a request joins.
        let position = |number: usize| [0, 1, 2, 3, 4, 5, 6, 7, 6, 7][number] * 8192;
        let order = order(&host, |number| (device.clone(), position(number)), 10);
        let place = |number: usize| order.iter().position(|ended| *ended == number).unwrap();
        assert!(place(9) <= 4 && place(7) <= 4, "{order:?}");
    });
}

#[test]
fn requests_behind_their_deadline_are_refused_where_they_wait() {
    in_time(|| {
        let host = filters();
        let device = host.open("memory:?size=1MiB | delay?latency=500ms | limit?in-flight=1").unwrap();
        let first = {
            let device = device.clone();
            host.spawn(async move { device.read_exact_at(0, vec![0; 512]).await.map(|_| ()) })
        };
        // The first one is under way.
        thread::sleep(Duration::from_millis(100));
        let soon = Attributes::new().with_deadline(Instant::now() + Duration::from_millis(100));
        let late = host.block_on(device.read_exact_at(0, vec![0; 512]).with_attributes(&soon));
        assert_eq!(late.unwrap_err().code(), Some(Code::TIMED_OUT));
        host.block_on(first).unwrap();
        let later = Attributes::new().with_deadline(Instant::now() + Duration::from_secs(3600));
        host.block_on(device.read_exact_at(0, vec![0; 512]).with_attributes(&later)).unwrap();
    });
}

#[test]
fn a_deadline_that_has_passed_is_not_tried_again_and_ends_no_other_request() {
    in_time(|| {
        let host = filters();
        let url = "memory:?size=1MiB | delay?latency=300ms | limit?in-flight=1 | retry?delay=10ms | cache?block=4096";
        let device = host.open(url).unwrap();
        let read = |position: u64, attributes: Attributes| {
            let device = device.clone();
            host.spawn(async move {
                device.read_exact_at(position, vec![0; 512]).with_attributes(&attributes).await.map(|_| ())
            })
        };
        let first = read(0, Attributes::new());
        thread::sleep(Duration::from_millis(50));
        let soon = Attributes::new().with_deadline(Instant::now() + Duration::from_millis(50));
        // Both wait for one block.
        let (late, joined) = (read(1 << 16, soon), read(1 << 16, Attributes::new()));
        host.block_on(joined).unwrap();
        _ = host.block_on(late);
        host.block_on(first).unwrap();
        // Without the cache, the request itself is refused, and not tried again for a minute.
        let device = host.open(url.rsplit_once(" | ").unwrap().0).unwrap();
        let (begun, first) = (Instant::now(), {
            let device = device.clone();
            host.spawn(async move { device.read_exact_at(0, vec![0; 512]).await.map(|_| ()) })
        });
        thread::sleep(Duration::from_millis(50));
        let soon = Attributes::new().with_deadline(Instant::now() + Duration::from_millis(50));
        let late = host.block_on(device.read_exact_at(0, vec![0; 512]).with_attributes(&soon));
        assert_eq!(late.unwrap_err().code(), Some(Code::TIMED_OUT));
        assert!(begun.elapsed() < Duration::from_secs(30), "it was tried again");
        host.block_on(first).unwrap();
    });
}

#[test]
fn the_streamer_tells_its_devices_the_urgency() {
    in_time(|| {
        let host = filters();
        let device = host.open("memory:?size=1MiB | delay?latency=150ms | limit?in-flight=1").unwrap();
        let streamer = Streamer::new(&host);
        streamer.set_in_flight(&device, 10);
        let read = |number: u64, urgency| {
            streamer.read(&device, number * 8192..number * 8192 + 512, urgency, number)
        };
        (0..8).for_each(|number| _ = read(number, Urgency::default()));
        let becomes = read(8, Urgency::default());
        thread::sleep(Duration::from_millis(50));
        // All are in the queue of the filter by now.
        assert!(streamer.set_priority(becomes, 3));
        read(9, Urgency::of(1000));
        let mut order = Vec::new();
        while order.len() < 10 {
            streamer.poll(Duration::from_millis(2), |done| {
                done.bytes().unwrap();
                order.push(done.data as usize);
            });
            thread::sleep(Duration::from_millis(1));
        }
        expect_urgent_first("streamer", &order);
    });
}
