//! Extensions of devices beyond reading and writing, over the boundary.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pactio::{BufferPool, Code, Device, Host, IoError, Seekable};
use pactio_sdk::{PacketBox, PacketIoExt, Write};
use pactio_tests::{in_time, open};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

fn answer(device: &Device, count: u8) {
    // A write through the host would wait for admission, as other requests do. This write is sent without admission.
    let mut packet = PacketBox::<pactio_sdk::Read>::copy_from_slice(&[count]).unwrap();
    pactio_sdk::PacketIo::send_io(device, 0u64, packet.bind().unwrap());
    assert!(packet.is_done(), "{}", packet.report());
}

#[test]
fn rule_20_requests_wait_with_the_host_while_the_device_is_full() {
    // The same with a filter in between.
    for url in ["gated:2", "gated:2 | identity"] {
        let host = pactio_tests::host(&["fixture_gated", "fixture_identity"]);
        requests_wait_while_the_device_is_full(&host.open(url).unwrap());
    }
}

fn requests_wait_while_the_device_is_full(device: &Device) {
    let mut requests: Vec<_> = (0..5).map(|_| device.read_exact_at(0, vec![0; 4])).collect();
    let wakes: Vec<Arc<Wakes>> = (0..5).map(|_| Arc::default()).collect();
    for (request, wakes) in requests.iter_mut().zip(&wakes) {
        assert!(poll(request, wakes).is_pending());
    }
    assert_eq!(device.size(), Some(2), "more is in the device than it has room for");
    for done in 0..5 {
        answer(device, 1);
        assert!(poll(&mut requests[done], &wakes[done]).is_ready(), "request {done}");
        // The first request in the queue was woken, and is sent.
        if let Some(next) = requests.get_mut(done + 2) {
            assert!(wakes[done + 2].0.load(Ordering::SeqCst) > 0, "request {} was not woken", done + 2);
            assert!(poll(next, &wakes[done + 2]).is_pending(), "request {}", done + 2);
        }
    }
    assert_eq!(device.size(), Some(0));
}

#[test]
fn rule_20_who_waits_above_a_device_hears_of_its_end() {
    in_time(|| {
        let host = pactio_tests::host(&["fixture_gated", "fixture_identity"]);
        let device = host.open("gated:1 | identity").unwrap();
        let mut requests: Vec<_> = (0..2).map(|_| device.read_exact_at(0, vec![0; 4])).collect();
        let wakes: Vec<Arc<Wakes>> = (0..2).map(|_| Arc::default()).collect();
        for (request, wakes) in requests.iter_mut().zip(&wakes) {
            assert!(poll(request, wakes).is_pending());
        }
        // The write does not go through the filter, which would notify the requests that wait above it.
        let below = device.below().unwrap();
        let mut packet = PacketBox::<pactio_sdk::Read>::copy_from_slice(&[255]).unwrap();
        pactio_sdk::PacketIo::send_io(below, 0u64, packet.bind().unwrap());
        assert!(wakes[1].0.load(Ordering::SeqCst) > 0, "the request that waits for room was not woken");
        let results: Vec<_> = requests.into_iter().map(|request| host.block_on(request)).collect();
        assert_eq!(results[0].as_ref().unwrap_err().code(), Some(Code::UNANSWERED));
        assert_eq!(results[1].as_ref().unwrap_err().code(), Some(Code::POISONED));
    });
}

#[test]
fn rule_20_two_who_ask_one_device_do_not_forget_each_other() {
    in_time(|| {
        let host = pactio_tests::host(&["fixture_gated", "fixture_identity"]);
        let device = host.open("gated:1 | identity").unwrap();
        let below = device.below().unwrap();
        let mut first = device.read_exact_at(0, vec![0; 4]);
        let (mut above, mut beside) =
            (device.read_exact_at(0, vec![0; 4]), below.read_exact_at(0, vec![0; 4]));
        let wakes: Vec<Arc<Wakes>> = (0..3).map(|_| Arc::default()).collect();
        assert!(poll(&mut first, &wakes[0]).is_pending());
        assert!(poll(&mut above, &wakes[1]).is_pending());
        assert!(poll(&mut beside, &wakes[2]).is_pending());
        // The device keeps one waker: that of the last request that asked for admission.
        answer(below, 1);
        assert!(
            wakes[1].0.load(Ordering::SeqCst) > 0 && wakes[2].0.load(Ordering::SeqCst) > 0,
            "{:?} {:?}",
            wakes[1].0,
            wakes[2].0
        );
        assert!(poll(&mut first, &wakes[0]).is_ready());
        assert!(poll(&mut above, &wakes[1]).is_pending());
        assert!(poll(&mut beside, &wakes[2]).is_pending());
        answer(below, 1);
        assert!(poll(&mut above, &wakes[1]).is_ready());
        assert!(poll(&mut beside, &wakes[2]).is_pending());
        answer(below, 1);
        assert!(poll(&mut beside, &wakes[2]).is_ready());
    });
}

#[test]
fn rule_21_a_read_that_is_made_into_whole_units_can_be_given_up() {
    in_time(|| {
        let host = pactio_tests::host(&["fixture_gated"]);
        let device = host.open("gated:1,512").unwrap();
        let mut request = device.read_at(1, vec![9; 10]);
        assert!(poll(&mut request, &Arc::default()).is_pending());
        let (report, buffer) = host.block_on(request.cancel()).unwrap();
        assert_eq!((report.to_string(), buffer), ("0 of 10 bytes; 0..10: cancelled".to_owned(), vec![9; 10]));
    });
}

#[test]
fn rule_21_all_parts_of_a_split_request_are_given_up_where_they_are_counted() {
    in_time(|| {
        let host = pactio::Host::builder()
            .default_search_paths(false)
            .search_path(pactio_tests::folder_of(&["fixture_gated"]).path())
            .statistics(true)
            .build()
            .unwrap();
        let device = host.open("gated:3").unwrap();
        let mut packet = PacketBox::<Write>::new_buf(12).unwrap();
        let view = packet.bind().unwrap();
        let request = view.request();
        let (front, rest) = view.split_at(4);
        let (middle, back) = rest.split_at(4);
        for view in [front, middle, back] {
            pactio_sdk::PacketIo::send_io(&device, 0u64, view);
        }
        answer(&device, 1);
        pactio_sdk::PacketIo::<Write, u64>::cancel(&device, request);
        host.block_on(&mut packet);
        assert_eq!(packet.report().to_string(), "4 of 12 bytes; 4..12: cancelled");
    });
}

#[test]
fn rule_20_other_devices_go_on_and_many_tasks_get_their_turn() {
    in_time(|| {
        let host = pactio_tests::host(&["fixture_gated", "pactio_memory"]);
        let (full, free) = (host.open("gated:1").unwrap(), host.open("memory:?size=10&fill=3").unwrap());
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let full = full.clone();
                host.spawn(async move { full.read_exact_at(0, vec![0; 1]).await.map(|bytes| bytes[0]) })
            })
            .collect();
        assert_eq!(free.blocking_read::<u8>(0).unwrap(), 3);
        let answering = std::thread::spawn(move || {
            let mut answered = 0;
            while answered < 20 {
                if full.size() == Some(1) {
                    answer(&full, 1);
                    answered += 1;
                }
                std::thread::yield_now();
            }
        });
        for task in tasks {
            assert_eq!(host.block_on(task).unwrap(), 7);
        }
        answering.join().unwrap();
    });
}

#[test]
fn rule_21_a_cancelled_request_gives_its_buffer_back() {
    let (host, device) = open("fixture_gated", "gated:8");
    let wakes = Arc::default();
    let mut request = device.read_at(0, vec![9; 4]);
    assert!(poll(&mut request, &wakes).is_pending());
    assert_eq!(device.size(), Some(1));
    let (report, buffer) = host.block_on(request.cancel()).unwrap();
    assert_eq!((report.to_string(), buffer), ("0 of 4 bytes; 0..4: cancelled".to_owned(), vec![9; 4]));
    assert_eq!(device.size(), Some(0));

    // Dropping a request cancels it as well.
    let mut request = device.read_exact_at(0, vec![9; 4]);
    assert!(poll(&mut request, &wakes).is_pending());
    assert_eq!(device.size(), Some(1));
    drop(request);
    assert_eq!(device.size(), Some(0), "the device was not asked");
}

#[test]
fn rule_21_a_device_that_cannot_cancel_answers_as_before() {
    in_time(|| {
        let (host, device) = open("fixture_eight_threads", "eight-threads:");
        let mut request = device.read_at(0, vec![0; 1 << 20]);
        let _ = poll(&mut request, &Arc::default());
        let (report, _) = host.block_on(request.cancel()).unwrap();
        assert!(report.is_done(), "{report}");
    });
}

#[test]
fn streams_have_no_positions() {
    let (host, device) = open("fixture_gated", "gated:100");
    host.block_on(async {
        let (report, _) = device.write_next(b"first second").await.unwrap();
        assert!(report.is_done(), "{report}");
        let mut first = [0; 6];
        device.read_next(&mut first).await.unwrap();
        assert_eq!(&first, b"first ");
        let (report, rest) = device.read_next(vec![0; 10]).await.unwrap();
        assert_eq!((report.done(), &rest[..6]), (6, &b"second"[..]));
    });
}

fn memory() -> (Host, Device) {
    open("pactio_memory", "memory:?size=4KiB")
}

#[test]
fn exchanges_cross_the_boundary() {
    let (host, device) = memory();
    host.block_on(async {
        device.write_all_at(100, b"theirs").await.unwrap();
        let mut mine = *b"mymine";
        let (report, ()) = device.exchange_at(100, &mut mine).await.unwrap();
        assert!(report.is_done(), "{report}");
        assert_eq!(&mine, b"theirs");
        assert_eq!(device.read::<[u8; 6]>(100).await.unwrap(), *b"mymine");
        let (report, _) = device.exchange_at(4094, vec![1; 4]).await.unwrap();
        assert_eq!(report.min_error().map(|(at, error)| (at, error.code())), Some((2, Code::END)));
    });
}

#[test]
fn vectored_requests_cross_the_boundary_in_one_call() {
    for url in ["memory:?size=4KiB", "queued:4096"] {
        let host = pactio_tests::host(&["pactio_memory", "fixture_queued"]);
        let device = host.open(url).unwrap();
        host.block_on(async {
            let pairs: Vec<(u64, Vec<u8>)> =
                (0..100).map(|index| (index * 40, vec![index as u8; 10])).collect();
            let (report, _) = device.write_vectored(pairs).await.unwrap();
            assert!(report.is_done(), "{report}");
            let pairs: Vec<(u64, Vec<u8>)> = (0..101).map(|index| (index * 41, vec![0; 1])).collect();
            let (report, buffers) = device.read_vectored(pairs).await.unwrap();
            assert_eq!(report.to_string(), "100 of 101 bytes; 100..101: past the end of the device");
            // Byte 41 i lies in the pair at 40 k if it is among the first ten bytes behind 40 k.
            for (index, buffer) in buffers.iter().enumerate().take(100) {
                if (41 * index) % 40 < 10 {
                    assert_eq!(buffer[..], [(41 * index / 40) as u8], "byte {}", 41 * index);
                }
            }
        });
        // The same with borrowed memory, in blocking calls.
        let report = device.blocking_write_vectored(&[(7, &b"seven"[..]), (4090, b"past the end")]).unwrap();
        assert_eq!(report.done(), 5 + 6);
        let (mut one, mut other) = ([9; 5], [9; 8]);
        let report = device.blocking_read_vectored(&mut [(7, &mut one[..]), (4092, &mut other[..])]).unwrap();
        assert_eq!((&one, &other, report.done()), (b"seven", b"st t\x09\x09\x09\x09", 9));
    }
}

#[test]
fn ranges_and_what_is_left_come_as_vectors() {
    let (host, device) = memory();
    host.block_on(async {
        device.write_all_at(4000, vec![7; 96]).await.unwrap();
        assert_eq!(device.read_range(3998..4002).await.unwrap(), [0, 0, 7, 7]);
        assert!(device.read_range(5000..5000).await.unwrap().is_empty());
        let error = device.read_range(4000..4097).await.unwrap_err();
        assert_eq!((error.code(), error.report().unwrap().done()), (Some(Code::END), 96));
        let error = device.read_range(0..u64::MAX).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::OUT_OF_MEMORY));
        let mut rest = b"in front".to_vec();
        assert_eq!(device.read_to_end(4090, &mut rest).await.unwrap(), 6);
        assert_eq!(rest, b"in front\x07\x07\x07\x07\x07\x07");
        assert_eq!(device.read_to_end(4096, &mut rest).await.unwrap(), 0);
    });
}

#[test]
fn what_was_read_before_a_failure_is_kept_and_the_error_says_where() {
    in_time(|| {
        let host = pactio_tests::host(&["pactio_fault", "pactio_memory"]);
        let failed = (1..100).find_map(|seed| {
            let url = format!("memory:?size=64KiB&fill=3 | fault?read=50&error=busy&seed={seed}");
            let (device, mut all) = (host.open(&url).unwrap(), Vec::new());
            let error = host.block_on(device.read_to_end(0, &mut all)).err().filter(|_| !all.is_empty())?;
            Some((error, all))
        });
        let (error, all) = failed.expect("one of the seeds fails late");
        assert!(all.len() % (16 << 10) == 0 && all.iter().all(|byte| *byte == 3), "{} bytes", all.len());
        assert_eq!(error.code(), Some(Code::BUSY));
        assert!(error.is_temporary() && error.to_string().starts_with("cannot read "), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "busy");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::ResourceBusy);
        // An error of the sdk becomes an error of the host.
        let error = pactio::Error::from(IoError::END);
        assert_eq!((error.code(), error.io_error()), (Some(Code::END), Some(IoError::END)));
    });
}

#[test]
fn opening_for_nothing_is_refused_as_in_the_standard_library() {
    let (host, _) = memory();
    for (options, what) in [
        (pactio::OpenOptions::new(), "neither to be read nor to be written"),
        (
            pactio::OpenOptions::new().read(true).create(true),
            "only a device that is opened for writing can be created",
        ),
        (
            pactio::OpenOptions::new().read(true).truncate(true),
            "only a device that is opened for writing can be created",
        ),
    ] {
        let error = host.open_with("memory:?size=1", options).unwrap_err();
        assert_eq!(error.code(), Some(Code::INVALID_INPUT));
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn segments_are_heard_of_before_the_request_is_complete() {
    for (library, url) in [("pactio_memory", "memory:?size=4KiB&fill=5"), ("fixture_queued", "queued:4096")] {
        let (host, device) = open(library, url);
        let heard = Arc::new(AtomicUsize::new(0));
        let counter = heard.clone();
        let request = PacketIoExt::<Write, u64>::io_to_fn(&device, 4000, vec![0; 200], move |segment| {
            counter.fetch_add(segment.range().len(), Ordering::SeqCst);
        });
        let (report, _) = host.block_on(request).unwrap();
        assert_eq!((report.done(), heard.load(Ordering::SeqCst)), (96, 200));
    }
}

#[test]
fn pooled_buffers_go_and_come_back() {
    let (host, device) = memory();
    let pool = BufferPool::new(2, 512).unwrap();
    host.block_on(async {
        let mut buffer = pool.get().await;
        buffer.fill(3);
        let buffer = device.write_all_at(0, buffer).await.unwrap();
        let mut other = pool.get().await;
        assert!(pool.try_get().is_none());
        other.set_len(100);
        let other = device.read_exact_at(100, other).await.unwrap();
        assert_eq!((other.len(), other[99], other.index()), (100, 3, 1));
        drop(buffer);
        // A failed request loses no buffer.
        assert!(device.read_exact_at(1 << 20, pool.get().await).await.is_err());
        drop(other);
    });
    assert_eq!(pool.available(), 2);
}

#[test]
fn a_scope_lends_memory_to_devices_of_plugins() {
    in_time(|| {
        for (library, url) in [
            ("pactio_memory", "memory:?size=64KiB&fill=5"),
            ("fixture_queued", "queued:65536"),
            ("fixture_eight_threads", "eight-threads:"),
        ] {
            let (host, device) = open(library, url);
            let mut buffers = vec![vec![0; 300]; 64];
            host.scope(|scope| {
                for (index, buffer) in buffers.iter_mut().enumerate() {
                    let _ = scope.read(&device, index as u64 * 300, buffer);
                }
            });
            let expected = |position: usize| match url {
                "memory:?size=64KiB&fill=5" => 5,
                _ => (position % 251) as u8,
            };
            for (index, buffer) in buffers.iter().enumerate() {
                assert!(
                    buffer.iter().enumerate().all(|(offset, byte)| *byte == expected(index * 300 + offset)),
                    "buffer {index} of {url}"
                );
            }
        }
    });
}

#[test]
fn a_device_is_a_file_for_code_that_wants_one() {
    use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
    fn is_shared<T: Send + Sync>(_: &T) {}
    let (_host, device) = memory();
    let mut file = Seekable::new(device);
    is_shared(&file);
    writeln!(file, "one\ntwo").unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut line = String::new();
    BufReader::new(file).read_line(&mut line).unwrap();
    assert_eq!(line, "two\n");
}

#[test]
fn rule_21_a_request_that_is_dropped_before_it_was_sent_is_not_sent() {
    in_time(|| {
        let (host, _) = open("fixture_queued", "queued:4096");
        // The first request to a device is deferred, and sent when the task is pending. If this thread is held up for some
        // milliseconds, the host sends the request earlier, so the test tries several times.
        let is_kept = (0..20).any(|_| {
            let device = host.open("queued:4096").unwrap();
            host.block_on(async {
                let mut request = device.write_at(0, vec![1; 4]);
                let _ = pin!(&mut request).poll(&mut Context::from_waker(Waker::noop()));
                drop(request);
                device.read_exact_at(0, vec![9; 4]).await.unwrap() == [0, 1, 2, 3]
            })
        });
        assert!(is_kept, "the dropped write was done");

        // A request that is cancelled gives its buffer back.
        let is_cancelled = (0..20).any(|_| {
            let device = host.open("queued:4096").unwrap();
            host.block_on(async {
                let mut request = device.write_at(0, vec![1; 4]);
                if pin!(&mut request).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    return false;
                }
                let (report, buffer) = request.cancel().await.unwrap();
                assert_eq!(buffer, [1; 4]);
                report.to_string() == "0 of 4 bytes; 0..4: cancelled"
            })
        });
        assert!(is_cancelled, "the cancelled write was done");
    });
}
