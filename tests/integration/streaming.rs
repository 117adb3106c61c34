//! The streamer: order, bounds, and that each request is handed over once.

use std::collections::HashMap;
use std::io::{Cursor, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use pactio::{BufferPool, Code, Device, Host, PacketBox, Progress, Streamer, Urgency};
use pactio_sdk::{PacketIo, Write};
use pactio_tests::{folder_of, host, in_time, random};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn streaming_host() -> Host {
    host(&[
        "pactio_archive",
        "pactio_delay",
        "pactio_fault",
        "pactio_file",
        "pactio_memory",
        "pactio_stats",
        "fixture_queued",
    ])
}

const FRAME: Duration = Duration::from_millis(1);

/// Polls until nothing is left, and returns the requests that were handed over.
fn all<T: Send + 'static>(streamer: &Streamer<T>) -> Vec<pactio::Done<T>> {
    let mut all = Vec::new();
    while streamer.poll(FRAME, |done| all.push(done)) != Progress::default() {
        thread::sleep(Duration::from_micros(200));
    }
    all
}

fn figure(host: &Host, device: &Device, name: &str) -> u64 {
    let figures = host.block_on(device.statistics()).unwrap();
    figures.iter().find(|figure| figure.name == name).map_or(0, |figure| figure.value)
}

#[test]
fn the_urgent_overtake_also_when_they_become_so_later() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("queued:100000 | delay?latency=3ms").unwrap();
        let streamer = Streamer::new(&host);
        streamer.set_in_flight(&device, 1);
        let far = Instant::now() + Duration::from_secs(100);
        let low: Vec<_> =
            (0..20).map(|at| streamer.read(&device, at..at + 10, Urgency::default(), "low")).collect();
        let first = low[0];
        streamer.read(&device, 0..10, Urgency::of(5), "high");
        streamer.read(&device, 0..10, Urgency::of(5).until(far), "high, due in a while");
        streamer.read(&device, 0..10, Urgency::of(-1), "last");
        assert!(streamer.set_priority(low[15], 9));
        assert!(streamer.set_priority(low[1], -2));
        // Sorts the requests by the time at which they were sent, regardless of when they were handed over.
        let mut sent = all(&streamer);
        sent.sort_by_key(|done| done.queued);
        let order: Vec<_> = sent.into_iter().map(|done| (done.ticket, done.data)).collect();
        // The first request was sent when no other request was queued.
        assert_eq!(order[0], (first, "low"));
        assert_eq!(order[1], (low[15], "low"));
        // A deadline counts only when it is near.
        assert_eq!((order[2].1, order[3].1), ("high", "high, due in a while"));
        assert!(order[4..21].iter().all(|(_, data)| *data == "low"), "{order:?}");
        assert_eq!((order[21].1, order[22].0), ("last", low[1]));
        assert!(!streamer.set_priority(first, 1) && !streamer.cancel(first));
    });
}

#[test]
fn no_more_are_under_way_than_should_be_on_all_that_lies_on_a_device() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), streaming_host());
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..100 {
            zip.start_file(format!("folder/{index}"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&[index as u8; 3000]).unwrap();
        }
        let path = folder.path().join("a.zip");
        std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
        let url = format!("file:{} | stats | delay?latency=2ms | archive", path.display());
        let archive = host.open(&url).unwrap();
        let counted = archive.below().unwrap().below().unwrap().clone();
        let streamer = Streamer::new(&host);
        streamer.set_in_flight(&archive, 3);
        for index in 0..100u8 {
            streamer.load(&archive, &format!("folder/{index}"), Urgency::of(index.into()), index);
        }
        streamer.load(&archive, "folder", Urgency::default(), 200);
        streamer.load(&archive, "nothing", Urgency::default(), 201);
        let mut tickets = Vec::new();
        for done in all(&streamer) {
            tickets.push(done.ticket);
            match done.data {
                200 => assert_eq!(done.bytes().unwrap_err().code(), Some(Code::IS_DIRECTORY)),
                201 => assert_eq!(done.bytes().unwrap_err().code(), Some(Code::NOT_FOUND)),
                index => assert!(done.bytes().unwrap() == [index; 3000], "{index}"),
            }
            assert!(done.queued <= done.took, "{:?} {:?}", done.queued, done.took);
        }
        tickets.sort_unstable();
        tickets.dedup();
        assert_eq!(tickets.len(), 102);
        // Opening reads a header, which counts as a read of the device below.
        assert!(
            figure(&host, &counted, "in flight most") <= 3,
            "{}",
            figure(&host, &counted, "in flight most")
        );
    });
}

#[test]
fn what_is_given_up_or_too_late_is_handed_over_as_that() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("queued:100000 | delay?latency=30ms").unwrap();
        let streamer = Streamer::new(&host);
        streamer.set_in_flight(&device, 1);
        let soon = Instant::now() + Duration::from_millis(10);
        let under_way = streamer.read(&device, 0..100, Urgency::default(), "cancelled");
        streamer.read(&device, 0..100, Urgency::of(1).until(soon), "late in the queue");
        let queued = streamer.read(&device, 0..100, Urgency::default(), "cancelled");
        assert!(streamer.cancel(queued) && !streamer.cancel(queued));
        thread::sleep(Duration::from_millis(11));
        let mut handed = Vec::new();
        streamer.poll(FRAME * 10, |done| handed.push((done.data, done.bytes().unwrap_err().code().unwrap())));
        handed.sort_unstable_by_key(|(data, _)| *data);
        assert_eq!(handed, [("cancelled", Code::CANCELLED), ("late in the queue", Code::TIMED_OUT)]);
        // The next request is sent at once, although the device still works on the cancelled one.
        assert!(streamer.cancel(under_way));
        let soon = Instant::now() + Duration::from_millis(10);
        streamer.read(&device, 0..100, Urgency::default().until(soon), "late under way");
        streamer.read(&device, 5..105, Urgency::default(), "done");
        thread::sleep(Duration::from_millis(11));
        let mut handed: Vec<_> = all(&streamer)
            .into_iter()
            .map(|done| {
                (done.data, done.bytes().map(|bytes| bytes[0]).map_err(|error| error.code().unwrap()))
            })
            .collect();
        handed.sort_unstable_by_key(|(data, _)| *data);
        let wanted =
            [("cancelled", Err(Code::CANCELLED)), ("done", Ok(5)), ("late under way", Err(Code::TIMED_OUT))];
        assert_eq!(handed, wanted);
    });
}

#[test]
fn a_deadline_counts_also_while_nobody_polls() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("queued:100000 | delay?latency=60ms | stats").unwrap();
        let streamer = Streamer::new(&host);
        streamer.set_in_flight(&device, 1);
        let soon = || Urgency::default().until(Instant::now() + Duration::from_millis(20));
        streamer.read(&device, 0..100, soon(), "came too late");
        streamer.read(&device, 0..100, soon(), "not even sent");
        while streamer.progress().ready < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        let mut handed = Vec::new();
        streamer.poll(FRAME * 10, |done| handed.push((done.data, done.bytes().unwrap_err().code())));
        let late = Some(Code::TIMED_OUT);
        assert_eq!(handed, [("came too late", late), ("not even sent", late)]);
        assert_eq!(figure(&host, &device, "reads"), 1);
    });
}

#[test]
fn one_slow_handler_slows_the_next_frames_for_a_short_while_only() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("memory:?size=64KiB").unwrap();
        let streamer = Streamer::new(&host);
        let handed = |sleep| {
            for index in 0..1000 {
                streamer.read(&device, 0..64, Urgency::default(), index);
            }
            while streamer.progress().ready < 1000 {
                thread::sleep(Duration::from_millis(1));
            }
            let (mut frames, mut slow) = (0, sleep);
            while streamer.poll(Duration::from_millis(2), |_| thread::sleep(std::mem::take(&mut slow)))
                != Progress::default()
            {
                frames += 1;
            }
            frames
        };
        let quiet = handed(Duration::ZERO);
        let slow = handed(Duration::from_secs(2));
        assert!(slow < quiet + 35, "{slow} frames, {quiet} without it");
    });
}

#[test]
fn what_is_being_opened_counts_also_when_it_is_given_up_and_so_does_its_memory() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), streaming_host());
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..60 {
            zip.start_file(format!("{index}"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&[index as u8; 300_000]).unwrap();
        }
        let path = folder.path().join("a.zip");
        std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
        let archive =
            host.open(&format!("file:{} | delay?latency=20ms | stats | archive", path.display())).unwrap();
        let counted = archive.below().unwrap().clone();
        let streamer = Streamer::with_memory(&host, 1 << 20);
        streamer.set_in_flight(&archive, 2);
        for index in 0..30 {
            let soon = Instant::now() + Duration::from_millis(5);
            streamer.load(&archive, &index.to_string(), Urgency::of(1).until(soon), index);
        }
        assert!(all(&streamer).iter().all(|done| done.bytes().is_err()));
        assert!(
            figure(&host, &counted, "in flight most") <= 2,
            "{}",
            figure(&host, &counted, "in flight most")
        );
        streamer.set_in_flight(&archive, 16);
        for index in 30..60 {
            streamer.load(&archive, &index.to_string(), Urgency::default(), index);
        }
        // Without polls, three loaded files take all the memory.
        while streamer.progress().ready < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!((streamer.progress().memory, streamer.progress().ready), (900_000, 3));
        let mut handed = 0;
        while streamer.poll(FRAME, |done| handed += u64::from(done.bytes().is_ok())) != Progress::default() {
            assert!(streamer.progress().memory <= 1 << 20, "{:?}", streamer.progress());
        }
        assert_eq!(handed, 30);
    });
}

#[test]
fn what_closes_with_a_request_may_ask_the_streamer() {
    in_time(|| {
        let host = streaming_host();
        let one = host.open("memory:?size=64KiB").unwrap();
        let other = host.open("memory:?size=64KiB | delay?latency=1h").unwrap();
        let streamer = Streamer::with_memory(&host, 1);
        streamer.read(&one, 0..10, Urgency::default(), ());
        while streamer.progress().ready < 1 {
            thread::sleep(Duration::from_millis(1));
        }
        // This request cannot be sent, since the memory is in use. It has the last handle of the device.
        let queued = streamer.read(&other, 0..10, Urgency::default(), ());
        let (packet, view) = PacketBox::<Write>::new_buf(10).and_then(PacketBox::into_bound).unwrap();
        let (asking, (told, answer)) = (streamer.clone(), std::sync::mpsc::channel());
        packet.on_complete(move |_| told.send(asking.progress().queued).unwrap());
        other.send_io(0u64, view);
        drop(other);
        assert!(streamer.cancel(queued));
        assert_eq!(answer.recv(), Ok(0));
        // More memory than ever exists.
        streamer.read(&one, 0..u64::MAX, Urgency::default(), ());
        let failed =
            all(&streamer).into_iter().filter_map(|done| done.bytes().err().and_then(pactio::Error::code));
        assert_eq!(failed.collect::<Vec<_>>(), [Code::CANCELLED, Code::OUT_OF_MEMORY]);
    });
}

#[test]
fn handing_over_keeps_to_its_time_and_gives_at_least_one() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("memory:?size=64KiB").unwrap();
        let streamer = Streamer::new(&host);
        for index in 0..30 {
            streamer.read(&device, 0..64, Urgency::default(), index);
        }
        while streamer.progress().ready < 30 {
            thread::sleep(Duration::from_millis(1));
        }
        let (mut most, mut frames) = (0, 0);
        while streamer.progress() != Progress::default() {
            let mut handed = 0;
            streamer.poll(Duration::from_millis(20), |_| {
                handed += 1;
                thread::sleep(Duration::from_millis(6));
            });
            // In the first frame, the time per request is unknown.
            assert!(handed > 0, "in frame {frames}");
            most = most.max(handed);
            frames += 1;
        }
        assert!(most <= 4 && frames >= 8, "{most} in {frames} frames");
        // The time is too short for any request, but one is handed over.
        for index in 0..3 {
            streamer.read(&device, 0..64, Urgency::default(), index);
        }
        while streamer.progress().ready < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        let mut handed = 0;
        let left = streamer.poll(Duration::ZERO, |_| handed += 1);
        assert_eq!((handed, left.ready), (1, 2));
    });
}

#[test]
fn memory_is_bounded_and_what_is_not_handed_over_counts() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("memory:?size=1MiB").unwrap();
        let streamer = Streamer::with_memory(&host, 1 << 20);
        for index in 0..50 {
            streamer.read(&device, 0..300_000, Urgency::default(), index);
        }
        // Without polls the streamer stops.
        let begun = Instant::now();
        while streamer.progress().ready < 3 && begun.elapsed() < Duration::from_secs(300) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(10));
        let progress = streamer.progress();
        assert_eq!((progress.ready, progress.under_way, progress.queued), (3, 0, 47));
        assert_eq!(progress.memory, 900_000);
        let mut handed = 0;
        while streamer.poll(FRAME, |_| handed += 1) != Progress::default() {
            assert!(streamer.progress().memory <= 1 << 20, "{:?}", streamer.progress());
        }
        assert_eq!(handed, 50);
        // A request that is larger than the whole memory is sent alone.
        streamer.read(&device, 0..1 << 20, Urgency::default(), 0);
        let only = Streamer::with_memory(&host, 1);
        only.read(&device, 0..1000, Urgency::default(), 0);
        assert_eq!((all(&streamer).len(), all(&only).len()), (1, 1));
    });
}

#[test]
fn each_request_is_handed_over_once_whatever_happens() {
    in_time(|| {
        let (host, mut random) = (streaming_host(), random());
        let devices: Vec<Device> = [
            "queued:500000 | fault?read=20&seed=1",
            "queued:500000 | delay?latency=1ms&jitter=1ms&seed=3",
            "queued:500000",
        ]
        .map(|url| host.open(url).unwrap())
        .into();
        let streamer = Streamer::with_memory(&host, 1 << 20);
        let (mut asked, mut ended) = (HashMap::new(), HashMap::new());
        let mut tickets = Vec::new();
        let mut hand = |done: pactio::Done<u64>, asked: &HashMap<_, _>| {
            let len: u64 = asked[&done.ticket];
            let how = match done.bytes() {
                Ok(bytes) => {
                    assert_eq!(bytes.len() as u64, len);
                    assert!(
                        bytes.iter().zip(done.data..).all(|(byte, at)| u64::from(*byte) == at % 251),
                        "{len} bytes at {}",
                        done.data
                    );
                    None
                }
                Err(error) => error.code(),
            };
            assert!(ended.insert(done.ticket, how).is_none(), "twice");
        };
        for _ in 0..4000 {
            match random.u8(..10) {
                0..5 => {
                    let device = random.choice(&devices).unwrap();
                    let (start, len) = (random.u64(0..400_000), random.u64(0..5000));
                    let mut urgency = Urgency::of(random.i32(-2..3));
                    if random.u8(..8) == 0 {
                        urgency = urgency.until(Instant::now() + Duration::from_micros(random.u64(..2000)));
                    }
                    let ticket = streamer.read(device, start..start + len, urgency, start);
                    asked.insert(ticket, len);
                    tickets.push(ticket);
                }
                5 => drop(random.choice(&tickets).map(|ticket| streamer.cancel(*ticket))),
                6 | 7 => drop(
                    random.choice(&tickets).map(|ticket| streamer.set_priority(*ticket, random.i32(-2..9))),
                ),
                8 => streamer.set_in_flight(random.choice(&devices).unwrap(), random.usize(0..20)),
                _ => drop(streamer.poll(Duration::from_micros(random.u64(..300)), |done| hand(done, &asked))),
            }
        }
        while streamer.poll(FRAME, |done| hand(done, &asked)) != Progress::default() {}
        assert_eq!(ended.len(), tickets.len());
        let count = |wanted: Option<Code>| ended.values().filter(|how| **how == wanted).count();
        assert!(count(None) > 500, "{}", count(None));
        assert!(
            count(Some(Code::CANCELLED)) > 0 && count(Some(Code::TIMED_OUT)) > 0 && count(Some(Code::IO)) > 0,
            "{:?}",
            [Code::CANCELLED, Code::TIMED_OUT, Code::IO].map(|code| count(Some(code)))
        );
    });
}

#[test]
fn a_streamer_may_be_dropped_with_anything_under_way_and_a_handler_may_ask_for_more() {
    in_time(|| {
        let host = streaming_host();
        let device = host.open("queued:100000 | delay?latency=1ms").unwrap();
        for round in 0..30 {
            let streamer = Streamer::new(&host);
            for index in 0..50 {
                streamer.read(&device, index..index + 100, Urgency::default(), ());
            }
            if round % 3 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let streamer = Streamer::new(&host);
        streamer.read(&device, 0..10, Urgency::default(), 5);
        let mut handed = 0;
        while streamer.progress() != Progress::default() {
            streamer.poll(FRAME, |done| {
                handed += 1;
                if done.data > 0 {
                    streamer.read(&device, 0..10, Urgency::default(), done.data - 1);
                }
            });
        }
        assert_eq!(handed, 6);
    });
}

#[test]
fn a_device_that_never_answers_holds_its_own_memory_and_stops_no_other() {
    in_time(|| {
        let folder = folder_of(&["fixture_stuck", "pactio_memory"]);
        let builder = Host::builder().default_search_paths(false).search_path(folder.path());
        let host = builder.statistics(true).build().unwrap();
        let (stuck, good) = (host.open("stuck:").unwrap(), host.open("memory:?size=1MiB&fill=7").unwrap());
        let streamer = Streamer::with_memory(&host, 64 << 10);
        // The device answers none of these, also when they are cancelled.
        let tickets: Vec<_> =
            (0..40).map(|at| streamer.read(&stuck, 1..(32 << 10) + 1, Urgency::of(9), at)).collect();
        // The requests that the memory has room for are sent to the device.
        while host.in_flight().len() < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        for ticket in tickets {
            assert!(streamer.cancel(ticket));
        }
        let mut cancelled = 0;
        let progress = streamer.poll(Duration::ZERO, |done| {
            assert_eq!(done.bytes().unwrap_err().code(), Some(Code::CANCELLED));
            cancelled += 1;
        });
        // One poll hands all of them over, although its time is zero.
        assert_eq!((cancelled, progress.memory, progress.abandoned), (40, 0, 64 << 10));
        for _ in 0..10 {
            streamer.read(&stuck, 1..(32 << 10) + 1, Urgency::of(9), 0);
            streamer.read(&good, 0..32 << 10, Urgency::default(), 1);
        }
        let mut done = 0;
        while done < 10 {
            let progress = streamer.poll(FRAME, |ended| {
                assert_eq!(ended.bytes().unwrap(), vec![7; 32 << 10]);
                done += 1;
            });
            assert!(progress.abandoned == 64 << 10 && progress.memory <= 64 << 10, "{progress:?}");
        }
    });
}

#[test]
fn batches_end_together_and_buffers_are_given_back() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        for (name, len) in [("a", 10), ("b", 700_000), ("c", 0)] {
            std::fs::write(folder.path().join(name), vec![name.as_bytes()[0]; len]).unwrap();
        }
        let host = host(&["pactio_file", "pactio_memory"]);
        let tree = host.open(&format!("file:{}", folder.path().display())).unwrap();
        let streamer = Streamer::new(&host);
        streamer.load_all(&tree, ["a", "b", "c"], Urgency::default(), "all");
        let done = all(&streamer).remove(0);
        assert_eq!(done.bytes().unwrap(), b"");
        let lens: Vec<_> = done.entries().map(|entry| entry.unwrap().len()).collect();
        assert_eq!(lens, [10, 700_000, 0]);
        assert!(done.entries().nth(1).unwrap().unwrap().iter().all(|byte| *byte == b'b'));
        drop(done);
        streamer.load_all(&tree, ["a", "none"], Urgency::default(), "some");
        let done = all(&streamer).remove(0);
        assert_eq!(done.bytes().unwrap_err().code(), Some(Code::NOT_FOUND));
        assert_eq!(done.entries().filter(Result::is_ok).count(), 1);
        streamer.load_all(&tree, [], Urgency::default(), "none");
        assert_eq!(all(&streamer).remove(0).entries().count(), 0);
        let batch = streamer.load_all(&tree, ["b"; 50], Urgency::default(), "cancelled");
        assert!(streamer.progress_of(batch).is_some());
        streamer.cancel(batch);
        assert_eq!(all(&streamer).len(), 1);

        // A buffer of the caller, in memory of the caller.
        let pool = BufferPool::from_memory(vec![0u8; 1 << 20], 300 << 10).unwrap();
        assert_eq!(pool.count(), 3);
        let memory = host.open("memory:?size=1MiB&fill=9").unwrap();
        streamer.read_into(&memory, 5, pool.try_get().unwrap(), Urgency::default(), "buffer");
        let buffer = all(&streamer).remove(0).into_buffer().unwrap();
        assert!(buffer.len() == 300 << 10 && buffer.iter().all(|byte| *byte == 9), "{} bytes", buffer.len());
        assert_eq!(pool.available(), 2);
        drop(buffer);
        assert_eq!(pool.available(), 3);
    });
}
