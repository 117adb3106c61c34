//! Plugins that do not return: they are reported, and callers do not wait for them.

use std::time::{Duration, Instant};

use pactio::{Code, Device, Health, Host, OpenOptions, PacketBox, Resources};
use pactio_sdk::{PacketIo, Write};
use pactio_tests::{Records, folder_of, in_time};

fn host() -> Host {
    Host::builder()
        .default_search_paths(false)
        .search_path(
            folder_of(&[
                "fixture_stuck",
                "fixture_identity",
                "fixture_picky",
                "fixture_queued",
                "pactio_file",
            ])
            .path(),
        )
        .worker_threads(2)
        .hang_limit(Duration::from_millis(100))
        .build()
        .unwrap()
}

/// All records of the process from here on: the watchdog has a thread of its own.
fn records() -> Records {
    use std::sync::OnceLock;
    static RECORDS: OnceLock<Records> = OnceLock::new();
    RECORDS
        .get_or_init(|| {
            let records = Records::default();
            let _ =
                tracing::subscriber::set_global_default(records.subscriber("pactio=warn,pactio::plugin=off"));
            records
        })
        .clone()
}

fn sent(device: &Device, position: u64) -> PacketBox<Write> {
    let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
    device.send_io(position, packet.bind().unwrap());
    packet
}

#[test]
fn a_driver_that_hangs_ends_or_panics_is_reported() {
    in_time(|| {
        let (records, host) = (records(), host());
        let device = host.open("stuck:driver").unwrap();
        assert_eq!(device.health(), Health::Alive);
        let mut packet = sent(&device, 0);
        let begun = Instant::now();
        while device.health() == Health::Alive {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            matches!(device.health(), Health::Hangs { call: "poll_driver", time } if time >= Duration::from_millis(100)),
            "{:?}",
            device.health()
        );
        host.block_on(&mut packet);
        assert!(packet.report().is_done(), "{}", packet.report());
        while device.health() != Health::Alive {
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = records.text();
        let line = text.lines().find(|line| line.contains("device=\"stuck:driver\"")).unwrap();
        assert!(line.contains("ERROR") && line.contains("the plugin has not come back for"), "{text}");
        assert!(line.contains("plugin=\"fixture-stuck\" call=\"poll_driver\""), "{text}");
        // A pause between polls is not reported.
        assert_eq!(text.matches("device=\"stuck:driver\"").count(), 2, "{text}");
        assert!(text.contains("the plugin came back after"), "{text}");

        for (url, health, code) in [
            ("stuck:end", Health::Ended, Code::UNANSWERED),
            ("stuck:panic", Health::Panicked, Code::UNANSWERED),
        ] {
            let device = host.open(url).unwrap();
            let mut packet = sent(&device, 0);
            host.block_on(&mut packet);
            assert_eq!(packet.min_error().unwrap().1.code(), code);
            let begun = Instant::now();
            while device.health() != health {
                assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", device.health());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
}

#[test]
fn a_device_that_hangs_is_not_asked_for_its_figures() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let end = folder.path().join("end");
        let host = Host::builder()
            .default_search_paths(false)
            .search_path(folder_of(&["fixture_stuck"]).path())
            .hang_limit(Duration::from_millis(100))
            .statistics(true)
            .build()
            .unwrap();
        let device = host.open(&format!("stuck:statistics@{}", end.display())).unwrap();
        let reader = {
            let device = device.clone();
            std::thread::spawn(move || device.blocking_read::<u8>(0).is_ok())
        };
        while device.health() == Health::Alive {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Returns while the device hangs, with what the host has counted.
        let statistics = host.statistics();
        assert!(statistics[0].of_plugin.is_empty() && !end.exists(), "{statistics:?}");
        assert!(matches!(host.in_flight()[0].health, Some(Health::Hangs { .. })));
        std::fs::write(&end, b"").unwrap();
        assert!(reader.join().unwrap());
        while device.health() != Health::Alive {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(host.statistics()[0].of_plugin[0].name, "queries");
    });
}

#[test]
fn opening_and_closing_are_watched_too() {
    in_time(|| {
        let (records, host) = (records(), host());
        let device = host.open("stuck:open").unwrap();
        drop(device);
        drop(host.open("stuck:close").unwrap());
        let text = records.text();
        for what in ["call=\"open\" subject=\"fixture-stuck\"", "call=\"close\" subject=\"stuck:close\""] {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(what)).collect();
            assert!(lines.len() >= 2, "{text}");
            assert!(
                lines[0].contains("ERROR") && lines[0].contains("the plugin has not come back for"),
                "{text}"
            );
            assert!(lines[1].contains("WARN") && lines[1].contains("the plugin came back after"), "{text}");
        }
    });
}

#[test]
fn closing_fails_what_is_under_way_and_does_not_wait_for_ever() {
    in_time(|| {
        let host = host();
        for url in ["stuck:", "stuck: | identity"] {
            let device = host.open(url).unwrap();
            let mut packets: Vec<_> = (0..10).map(|_| sent(&device, 1)).collect();
            device.close(Duration::from_secs(10)).unwrap();
            for packet in &mut packets {
                host.block_on(&mut *packet);
                assert_eq!(packet.min_error().unwrap().1.code(), Code::UNANSWERED);
            }
        }
        // The caller does not wait until the plugin returns.
        let device = host.open("stuck:close").unwrap();
        let error = device.close(Duration::from_millis(50)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "'stuck:close' is not closed after 50ms: its plugin has not come back from closing it"
        );
        let device = host.open("stuck:").unwrap();
        let other = device.clone();
        let error = device.close(Duration::from_millis(50)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "'stuck:' is not closed after 50ms: it is still used, by other handles or a filter on it"
        );
        other.close(Duration::from_secs(10)).unwrap();
        // The host puts a layer in front of a device with limits, and closes both.
        host.open("picky:10000").unwrap().close(Duration::from_secs(10)).unwrap();
    });
}

/// Waits until the device is reported as hanging, and returns the call.
fn hanging(device: &Device) -> &'static str {
    loop {
        if let Health::Hangs { call, .. } = device.health() {
            return call;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Requests to devices that do not hang, in every way in which a host performs requests.
fn others_go_on(host: &Host, file: &std::path::Path) {
    let url = format!("file:{}?direct=true", file.display());
    let (file, queued) = (host.open(&url).unwrap(), host.open("queued:4096").unwrap());
    let expected: Vec<u8> = (0..4096).map(|byte| (byte % 251) as u8).collect();
    assert_eq!(host.block_on(file.read_exact_at(0, vec![0; 4096])).unwrap(), vec![7; 4096]);
    assert_eq!(host.block_on(queued.read_exact_at(0, vec![0; 4096])).unwrap(), expected);
    assert_eq!(pollster::block_on(file.read_exact_at(0, vec![0; 4096])).unwrap(), vec![7; 4096]);
    assert_eq!(pollster::block_on(queued.read_exact_at(0, vec![0; 4096])).unwrap(), expected);
    for task in (0..20).map(|_| {
        let (file, queued) = (file.clone(), queued.clone());
        host.spawn(async move {
            file.read_exact_at(0, vec![0; 4096]).await.unwrap();
            queued.read_exact_at(0, vec![0; 4096]).await.unwrap();
        })
    }) {
        host.block_on(task);
    }
}

#[test]
fn plugins_that_do_not_come_back_stop_no_other_device() {
    in_time(|| {
        let (host, folder) = (host(), tempfile::tempdir().unwrap());
        let (file, gate) = (folder.path().join("file"), folder.path().join("gate"));
        std::fs::write(&file, vec![7; 4096]).unwrap();
        let url = |place: &str| format!("stuck:{place}@{}", gate.display());
        // Drivers that hang, in the thread of the drivers.
        let drivers: Vec<Device> = (0..4).map(|_| host.open(&url("driver")).unwrap()).collect();
        let mut packets: Vec<_> = drivers.iter().map(|device| sent(device, 0)).collect();
        for device in &drivers {
            assert_eq!(hanging(device), "poll_driver");
        }
        others_go_on(&host, &file);
        // Reads that block both workers, and two more.
        let reads = host.open(&url("read")).unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let reads = reads.clone();
                host.spawn(async move { reads.read_exact_at(0, vec![0; 8]).await })
            })
            .collect();
        assert_eq!(hanging(&reads), "a request");
        others_go_on(&host, &file);
        let Resources { threads, lost_threads, .. } = Resources::now();
        // At least the thread of the first driver and one worker are lost, and each has a successor.
        assert!(
            (2..=lost_threads.most).contains(&lost_threads.now) && threads >= 4,
            "{threads}, {lost_threads:?}"
        );
        // A device that hangs takes no more requests.
        let begun = Instant::now();
        let error = host.block_on(reads.read_exact_at(4, vec![0; 8])).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert_eq!(error.code(), Some(Code::TIMED_OUT));
        assert!(error.hint().unwrap().contains("has not come back from a request"), "{error:?}");
        std::fs::write(&gate, b"").unwrap();
        for packet in &mut packets {
            host.block_on(&mut *packet);
            assert!(packet.report().is_done(), "{}", packet.report());
        }
        // At least the first two reads succeed; the others may have been sent when the device was known to hang.
        let done = tasks.into_iter().map(|task| host.block_on(task)).filter(Result::is_ok).count();
        assert!(done >= 2, "{done} of the blocked reads were done");
        while reads.health() != Health::Alive {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(host.block_on(reads.read_exact_at(4, vec![0; 8])).unwrap(), [1; 8]);
        // The lost threads have ended, and other threads work.
        others_go_on(&host, &file);
    });
}

#[test]
fn hosts_and_devices_may_be_dropped_on_any_thread() {
    in_time(|| {
        // Each worker drops the other host.
        for _ in 0..20 {
            let (one, other) = (host(), host());
            let barrier = std::sync::Arc::new(std::sync::Barrier::new(2));
            for (host, dropped) in [(&one, other.clone()), (&other, one.clone())] {
                let barrier = barrier.clone();
                host.spawn(async move {
                    barrier.wait();
                    drop(dropped);
                })
                .detach();
            }
            drop((one, other));
        }
        // The last handle is dropped by the device's own thread, which the device's drop joins.
        struct Drops(std::sync::Mutex<Option<Device>>);
        impl std::task::Wake for Drops {
            fn wake(self: std::sync::Arc<Self>) {
                drop(self.0.lock().unwrap().take());
            }
        }
        let host = host();
        let device = host.open("stuck:joins").unwrap();
        let mut packet = sent(&device, 0);
        let waker = std::sync::Arc::new(Drops(std::sync::Mutex::new(Some(device))));
        let weak = std::sync::Arc::downgrade(&waker);
        let waker = std::task::Waker::from(waker);
        let polled =
            Future::poll(std::pin::Pin::new(&mut packet), &mut std::task::Context::from_waker(&waker));
        drop((polled, waker));
        while weak.upgrade().is_some_and(|waker| waker.0.try_lock().is_ok_and(|device| device.is_some())) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn what_has_a_limit_ends_in_time_and_requests_in_flight_are_listed() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let gate = folder.path().join("gate");
        let host = Host::builder()
            .default_search_paths(false)
            .search_path(folder_of(&["fixture_stuck", "fixture_identity"]).path())
            .worker_threads(2)
            .hang_limit(Duration::from_secs(60))
            .statistics(true)
            .build()
            .unwrap();
        let short = Duration::from_millis(20);
        let options = OpenOptions::new().read(true).within(short);
        let error = host.open_with(&format!("stuck:open@{}", gate.display()), options).unwrap_err();
        assert_eq!(error.code(), Some(Code::TIMED_OUT), "{error}");
        assert!(error.to_string().contains("it is not open after 20ms"), "{error}");
        // The plugin blocks in the call, which the limit of time ends under any executor.
        let device =
            host.open_with(&format!("stuck:read@{}", gate.display()), OpenOptions::new().read(true)).unwrap();
        for _ in 0..4 {
            let error = pollster::block_on(device.read_within(0, vec![0; 8], short)).unwrap_err();
            assert_eq!(error.code(), Some(Code::TIMED_OUT), "{error}");
        }
        let bytes = host.block_on(device.read_within(1, vec![0; 8], Duration::from_secs(600))).unwrap();
        assert_eq!(bytes, [1; 8]);
        // This device never answers.
        let silent = host.open("stuck: | identity").unwrap();
        let error = host.block_on(silent.read_within(1, vec![0; 8], short)).unwrap_err();
        assert!(error.to_string().contains("it is not done after 20ms"), "{error}");
        let packet = sent(&silent, 1);
        let listed = host.in_flight();
        let of = |url: &str| listed.iter().filter(|request| request.url == url && request.len == 8).count();
        assert!(of("stuck:") >= 1 && of("stuck: | identity") >= 1, "{listed:?}");
        assert!(listed.is_sorted_by_key(|request| std::cmp::Reverse(request.age)), "{listed:?}");
        drop((packet, listed));
        std::fs::write(&gate, b"").unwrap();
        for device in [device, silent] {
            device.close(Duration::from_secs(300)).unwrap();
        }
        // Waits until the open that was too late has ended as well.
        let is_opening = |task: std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "pactio-open\n")
        };
        while std::fs::read_dir("/proc/self/task").unwrap().flatten().any(is_opening) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
