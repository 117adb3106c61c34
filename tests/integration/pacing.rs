//! Filters that delay, retry or count requests.

use std::time::{Duration, Instant};

use pactio::{Code, Device, Host, OpenOptions, Seekable};
use pactio_tests::{host, in_time};

fn open(url: &str) -> (Host, Device) {
    let host = host(&[
        "pactio_delay",
        "pactio_fault",
        "pactio_file",
        "pactio_limit",
        "pactio_memory",
        "pactio_retry",
        "pactio_stats",
        "fixture_gated",
        "fixture_queued",
    ]);
    let device = host
        .open_with(url, OpenOptions::new().read(true).write(true))
        .unwrap_or_else(|error| panic!("{error}"));
    (host, device)
}

fn figure(host: &Host, device: &Device, name: &str) -> Option<u64> {
    let figures = host.block_on(device.statistics()).unwrap();
    figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
}

/// Sends `count` reads of 100 bytes at once, and waits for all.
fn reads(host: &Host, device: &Device, count: u64) -> Vec<Result<Vec<u8>, pactio::Error>> {
    let tasks: Vec<_> = (0..count)
        .map(|index| {
            let device = device.clone();
            host.spawn(async move { device.read_exact_at(index * 100, vec![0; 100]).await })
        })
        .collect();
    tasks.into_iter().map(|task| host.block_on(task)).collect()
}

#[test]
fn delayed_answers_come_later_and_are_right() {
    in_time(|| {
        let (host, device) = open("queued:100000 | delay?latency=400ms");
        let begun = Instant::now();
        for (index, bytes) in reads(&host, &device, 20).into_iter().enumerate() {
            assert!(
                bytes.unwrap().iter().zip(index * 100..).all(|(byte, at)| *byte == (at % 251) as u8),
                "read {index}"
            );
        }
        let took = begun.elapsed();
        // All at once, and not one after the other.
        assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(400 * 15), "{took:?}");
        // A request that is dropped does not disturb the others.
        drop(device.read_exact_at(0, vec![0; 10]));
        let (host, device) = open("queued:100000 | delay?latency=1h");
        let request = device.read_exact_at(0, vec![0; 10]);
        let waited = host.block_on(async {
            futures_lite::future::or(async { Some(request.await) }, async {
                async_io::Timer::after(Duration::from_millis(20)).await;
                None
            })
            .await
        });
        assert!(waited.is_none(), "{waited:?}");
    });
}

#[test]
fn a_device_that_is_closed_fails_what_it_would_have_done_later() {
    in_time(|| {
        let (host, device) = open("queued:100000 | delay?latency=1h");
        let task = host.spawn({
            let device = device.clone();
            async move {
                let mut packet = pactio::PacketBox::<pactio_sdk::Write>::new_buf(10).unwrap();
                pactio_sdk::PacketIo::send_io(&device, 0, packet.bind().unwrap());
                drop(device);
                (&mut packet).await;
                packet.min_error().unwrap().1.code()
            }
        });
        drop(device);
        assert_eq!(host.block_on(task), Code::UNANSWERED);
    });
}

#[test]
fn no_more_are_in_flight_than_the_limit_says() {
    in_time(|| {
        let (host, device) = open("queued:100000 | delay?latency=2ms | stats | limit?in-flight=3");
        for bytes in reads(&host, &device, 60) {
            bytes.unwrap();
        }
        let below = device.below().unwrap();
        assert_eq!(figure(&host, below, "in flight most"), Some(3));
        assert_eq!(figure(&host, &device, "requests waiting"), Some(0));
        assert_eq!(figure(&host, &device, "in flight"), Some(0));
        // Answers that come at once do not pile up calls on the stack.
        let (host, device) = open("memory:?size=1MiB&fill=1 | limit?in-flight=1");
        assert!(reads(&host, &device, 5000).into_iter().all(|bytes| bytes.unwrap() == [1; 100]));
    });
}

#[test]
fn no_more_goes_through_than_the_rate_says() {
    in_time(|| {
        // 40 requests of 100 bytes, the first at once: 39 * 100 / 40000 s, minus a credit of 20 ms.
        let (host, device) = open("memory:?size=1MiB | limit?rate=40000");
        let begun = Instant::now();
        reads(&host, &device, 40).into_iter().for_each(|bytes| drop(bytes.unwrap()));
        let took = begun.elapsed();
        assert!(took >= Duration::from_micros(77_000), "{took:?}");
        let (host, device) = open("memory:?size=1MiB | limit?requests=500");
        let begun = Instant::now();
        reads(&host, &device, 51).into_iter().for_each(|bytes| drop(bytes.unwrap()));
        assert!(begun.elapsed() >= Duration::from_millis(79), "{:?}", begun.elapsed());
        let error = host.open("memory:?size=1KiB | limit").unwrap_err();
        assert!(
            error.to_string().ends_with(
                "with plugin 'limit': nothing is limited; give rate, requests or in-flight, such as limit?rate=10MiB"
            ),
            "{error}"
        );
    });
}

#[test]
fn what_waits_for_its_turn_can_be_given_up() {
    in_time(|| {
        let (host, device) = open("memory:?size=1MiB | limit?rate=1");
        host.block_on(async {
            // The pause behind these bytes is ten minutes.
            device.read_exact_at(0, vec![0; 600]).await.unwrap();
            let mut second = device.read_at(0, vec![0; 10]);
            assert!(futures_lite::future::poll_once(&mut second).await.is_none());
            let begun = Instant::now();
            let (report, buffer) = second.cancel().await.unwrap();
            assert_eq!((report.min_error().unwrap().1.code(), buffer.len()), (Code::CANCELLED, 10));
            assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
        });
    });
}

#[test]
fn what_fails_for_a_while_is_tried_again_and_only_that() {
    in_time(|| {
        let (host, device) = open(
            "queued:100000 | stats | fault?read=60&error=busy&partly=true&seed=5 | retry?attempts=100&delay=100us",
        );
        for (index, bytes) in reads(&host, &device, 100).into_iter().enumerate() {
            assert!(
                bytes.unwrap().iter().zip(index * 100..).all(|(byte, at)| *byte == (at % 251) as u8),
                "read {index}"
            );
        }
        assert!(figure(&host, &device, "retried").unwrap() > 50, "{:?}", figure(&host, &device, "retried"));
        assert_eq!(figure(&host, &device, "given up"), Some(0));
        // No byte was read twice: only failed bytes were requested again.
        let stats = device.below().unwrap().below().unwrap();
        assert_eq!(figure(&host, stats, "bytes read"), Some(100 * 100));

        let (host, device) =
            open("queued:100000 | fault?read=100&error=timed-out | retry?attempts=3&delay=1ms");
        let error = reads(&host, &device, 1).remove(0).unwrap_err();
        assert_eq!(error.code(), Some(Code::TIMED_OUT));
        assert_eq!(figure(&host, &device, "retried"), Some(2));
        assert_eq!(figure(&host, &device, "given up"), Some(1));

        // Without a number, attempts go on for a time.
        let (host, device) = open("queued:100000 | fault?read=100&error=busy | retry?within=300ms&delay=1ms");
        let begun = Instant::now();
        let error = reads(&host, &device, 1).remove(0).unwrap_err();
        assert_eq!(error.code(), Some(Code::BUSY));
        let retried = figure(&host, &device, "retried").unwrap();
        assert!(
            retried > 3 && begun.elapsed() < Duration::from_secs(60),
            "{retried} in {:?}",
            begun.elapsed()
        );

        // Permanent errors are not retried, unless an option asks for that.
        let (host, device) = open("queued:100000 | fault?read=100&error=io | retry");
        assert_eq!(reads(&host, &device, 1).remove(0).unwrap_err().code(), Some(Code::IO));
        assert_eq!(figure(&host, &device, "retried"), Some(0));
        let (host, device) =
            open("queued:100000 | fault?read=50&error=io | retry?io=true&delay=0s&attempts=100");
        assert!(reads(&host, &device, 20).iter().all(Result::is_ok));
        // The same for writes.
        let (host, device) =
            open("memory:?size=1KiB | fault?write=70&error=busy&partly=true | retry?attempts=100&delay=0s");
        host.block_on(async {
            for round in 0..20u8 {
                device.write_all_at(0, vec![round; 1000]).await.unwrap();
                assert_eq!(device.read_exact_at(0, vec![0; 1000]).await.unwrap(), [round; 1000]);
            }
        });
    });
}

#[test]
fn what_goes_through_is_counted() {
    in_time(|| {
        let (host, device) = open("queued:1000 | delay?latency=5ms | stats");
        host.block_on(async {
            for _ in 0..10 {
                device.read_exact_at(0, vec![0; 50]).await.unwrap();
            }
            device.write_all_at(0, vec![0; 30]).await.unwrap();
            let (report, _) = device.read_at(990, vec![0; 50]).await.unwrap();
            assert_eq!(report.done(), 10);
        });
        for (name, value) in [
            ("reads", 11),
            ("reads failed", 0),
            ("bytes read", 510),
            ("writes", 1),
            ("writes failed", 0),
            ("bytes written", 30),
            ("in flight", 0),
            ("in flight most", 1),
        ] {
            assert_eq!(figure(&host, &device, name), Some(value), "{name}");
        }
        assert_eq!(figure(&host, &device, "exchanges"), None);
        let [p50, p99, most] = ["p50", "p99", "most"]
            .map(|which| figure(&host, &device, &format!("read time {which}")).unwrap());
        assert!(5_000_000 <= p50 && p50 <= p99 && p99 <= most, "{p50} {p99} {most}");
        // A request can be cancelled through the filter.
        let (host, device) = open("gated:8 | stats");
        assert!(device.capabilities().has(pactio::Capability::CANCELLATION), "{:?}", device.capabilities());
        host.block_on(async {
            let mut request = device.read_at(0, vec![0; 10]);
            assert!(futures_lite::future::poll_once(&mut request).await.is_none());
            let (report, _) = request.cancel().await.unwrap();
            assert_eq!(report.min_error().unwrap().1.code(), Code::CANCELLED);
        });
        assert_eq!(figure(&host, &device, "reads failed"), Some(1));
    });
}

#[test]
fn rule_21_what_a_filter_asks_for_itself_is_given_up_with_what_it_stands_for() {
    in_time(|| {
        for url in ["gated:8 | limit?in-flight=4", "gated:8 | retry", "gated:8 | retry | limit?in-flight=4"] {
            let (host, device) = open(url);
            host.block_on(async {
                let mut request = device.read_at(0, vec![0; 10]);
                assert!(futures_lite::future::poll_once(&mut request).await.is_none(), "{url}");
                let (report, _) = request.cancel().await.unwrap();
                assert_eq!(report.to_string(), "0 of 10 bytes; 0..10: cancelled", "{url}");
            });
        }
    });
}

#[test]
fn files_over_a_device_with_a_latency_take_few_requests() {
    in_time(|| {
        let (host, device) = open("memory:?size=16MiB | delay?latency=2ms | stats");
        let content: Vec<u8> = (0..8 << 20).map(|at: usize| (at % 251) as u8).collect();
        host.block_on(async {
            // Both copy 8 KiB at a time.
            let mut file = Seekable::new(device.clone());
            assert_eq!(futures_lite::io::copy(&content[..], &mut file).await.unwrap(), 8 << 20);
            futures_lite::AsyncWriteExt::close(&mut file).await.unwrap();
            let mut found = Vec::new();
            let limited = futures_lite::AsyncReadExt::take(Seekable::new(device.clone()), 8 << 20);
            futures_lite::io::copy(limited, &mut found).await.unwrap();
            assert!(found == content);
        });
        for what in ["reads", "writes"] {
            let requests = figure(&host, &device, what).unwrap();
            assert!(requests <= 40, "{requests} {what}");
        }
        // Bytes that were accepted are sent, whatever happens to the file.
        host.block_on(async {
            let mut file = Seekable::new(device.clone());
            for part in [&b"one "[..], b"two ", b"three"] {
                futures_lite::AsyncWriteExt::write_all(&mut file, part).await.unwrap();
            }
        });
        let written = || host.block_on(device.read_exact_at(0, vec![0; 13])).unwrap() == b"one two three";
        while !written() {
            std::thread::yield_now();
        }
    });
}

#[test]
fn rule_21_a_pause_before_the_next_attempt_is_given_up() {
    in_time(|| {
        let (host, device) =
            open("memory:?size=1KiB | fault?read=100&error=busy | retry?within=2h&delay=1h&longest=1h");
        host.block_on(async {
            let mut request = device.read_at(0, vec![0; 10]);
            assert!(futures_lite::future::poll_once(&mut request).await.is_none());
            let begun = Instant::now();
            let (report, _) = request.cancel().await.unwrap();
            assert_eq!(report.to_string(), "0 of 10 bytes; 0..10: cancelled");
            assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
        });
    });
}

#[test]
fn a_filter_that_is_closed_closes_what_it_sits_on_whatever_is_in_flight() {
    in_time(|| {
        for filter in
            ["limit?in-flight=4", "retry", "cache?size=64KiB&block=4KiB", "cow", "stats", "delay?latency=0s"]
        {
            let host = host(&[
                "pactio_cache",
                "pactio_cow",
                "pactio_delay",
                "pactio_limit",
                "pactio_retry",
                "pactio_stats",
                "fixture_gated",
            ]);
            let device = host.open(&format!("gated:8 | {filter}")).unwrap();
            let mut packet = pactio::PacketBox::<pactio_sdk::Write>::new_buf(8).unwrap();
            pactio_sdk::PacketIo::send_io(&device, 0u64, packet.bind().unwrap());
            drop(device);
            host.block_on(&mut packet);
            assert_eq!(packet.report().min_error().unwrap().1.code(), Code::UNANSWERED, "{filter}");
        }
    });
}

#[test]
fn a_long_queue_of_others_does_not_keep_the_thread_of_one() {
    in_time(|| {
        let (host, device) = open("memory:?size=1MiB | limit?in-flight=2");
        reads(&host, &device, 5000).into_iter().for_each(|bytes| drop(bytes.unwrap()));
        assert_eq!(figure(&host, &device, "requests waiting"), Some(0));
    });
}
