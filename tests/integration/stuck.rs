//! Plugins that do not return: they are reported, and callers do not wait for them.

use std::time::{Duration, Instant};

use pactio::{Code, Device, Health, Host, PacketBox};
use pactio_sdk::{PacketIo, Write};
use pactio_tests::{Records, folder_of, in_time};

fn host() -> Host {
    Host::builder()
        .default_search_paths(false)
        .search_path(folder_of(&["fixture_stuck", "fixture_identity", "fixture_picky"]).path())
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
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(device.health(), Health::Hangs(time) if time >= Duration::from_millis(100)));
        host.block_on(&mut packet);
        assert!(packet.report().is_done());
        while device.health() != Health::Alive {
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = records.text();
        let line = text.lines().find(|line| line.contains("device=\"stuck:driver\"")).unwrap();
        assert!(
            line.contains("ERROR") && line.contains("the device's driver has not come back from a poll for"),
            "{text}"
        );
        assert!(line.contains("plugin=\"fixture-stuck\" call=\"poll_driver\""), "{text}");
        // A pause between polls is not reported.
        assert_eq!(text.matches("device=\"stuck:driver\"").count(), 1);

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
fn opening_and_closing_are_watched_too() {
    in_time(|| {
        let (records, host) = (records(), host());
        let device = host.open("stuck:open").unwrap();
        drop(device);
        drop(host.open("stuck:close").unwrap());
        let text = records.text();
        for what in ["call=\"open\" whom=\"fixture-stuck\"", "call=\"close\" whom=\"stuck:close\""] {
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
        // The time of the plugin is not the caller's.
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
        // A device that takes only some requests is two devices, and is closed all the same.
        host.open("picky:10000").unwrap().close(Duration::from_secs(10)).unwrap();
    });
}
