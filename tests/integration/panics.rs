//! Plugins that panic: the host survives, and reports the panic.

use std::time::Duration;

use pactio::{Code, ErrorKind, Health, PacketBox};
use pactio_sdk::{PacketIo, Write};
use pactio_tests::{host, in_time, open};

#[test]
fn in_open() {
    let host = host(&["fixture_panic_open", "pactio_memory"]);
    let error = host.open("panic-open:here").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open(Code::PANICKED));
    assert_eq!(
        error.to_string(),
        "cannot open 'panic-open:here' with plugin 'fixture-panic-open': the plugin panicked while it opened the \
         device: fixture: open of 'here'"
    );
    let error = host.open("panic-open:again").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open(Code::POISONED));
    assert!(
        error.to_string().ends_with("the plugin panicked while it opened a device before, and is out of use"),
        "{error}"
    );
    assert!(host.open("memory:?size=1").is_ok());
}

#[test]
fn in_open_with_a_payload_that_panics_too() {
    let host = host(&["fixture_panic_open"]);
    assert_eq!(host.open("panic-open:bomb").unwrap_err().kind(), ErrorKind::Open(Code::PANICKED));
}

#[test]
fn in_submit() {
    in_time(|| {
        let (host, device) = open("fixture_panic_submit", "panic-submit:");
        host.block_on(async {
            let (report, bytes) = device.read_at(0, vec![7; 10]).await.unwrap();
            assert_eq!(report.to_string(), "5 of 10 bytes; 5..10: dropped by the device without an answer");
            assert_eq!(bytes, [1, 1, 1, 1, 1, 7, 7, 7, 7, 7]);
            let error = device.read_exact_at(0, &mut [0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io(Code::POISONED));
            assert_eq!(
                error.to_string(),
                "cannot read 10 bytes at 0x0 of 'panic-submit:' (plugin 'fixture-panic-submit'): 0 of 10 bytes; 0..10: \
                 out of use since the plugin panicked"
            );
        });
        let (_host, device) = open("fixture_panic_submit", "panic-submit:");
        assert_eq!(device.health(), Health::Alive);
        for code in [Code::UNANSWERED, Code::POISONED] {
            let error = device.blocking_write_all_at(0, &[1; 4]).unwrap_err();
            assert_eq!(error.code(), Some(code));
            assert_eq!(
                error.hint(),
                Some("the plugin panicked, and the device is out of use: open it again"),
                "{error}"
            );
            assert_eq!(device.health(), Health::Panicked, "after {error}");
        }
    });
}

#[test]
fn in_a_read_at_once() {
    in_time(|| {
        let (host, device) = open("fixture_panic_submit", "panic-submit:hand");
        let mut buffer = [7; 10];
        let error = host.block_on(device.read_exact_at(0, &mut buffer)).unwrap_err();
        assert_eq!((error.code(), buffer), (Some(Code::POISONED), [7; 10]));
        assert_eq!(device.health(), Health::Panicked);
        assert_eq!(device.blocking_read::<u8>(0).unwrap_err().code(), Some(Code::POISONED));
    });
}

#[test]
fn in_a_read_at_once_while_another_request_waits_for_room() {
    in_time(|| {
        let (host, device) = open("fixture_panic_submit", "panic-submit:full");
        let waits = {
            let device = device.clone();
            host.spawn(async move { device.read_at(0, vec![0; 10]).await.unwrap().0.min_error().unwrap().1 })
        };
        while !waits.is_finished() && device.health() == Health::Alive {
            let request = device.read_exact_at(0, vec![0; 10]);
            assert_eq!(host.block_on(request).unwrap_err().code(), Some(Code::POISONED));
        }
        assert_eq!(host.block_on(waits).code(), Code::POISONED);
    });
}

#[test]
fn in_the_driver() {
    driver("panic-driver:", Code::POISONED);
}

#[test]
fn a_driver_that_ends() {
    driver("panic-driver:end", Code::DRIVER_ENDED);
}

/// Three requests wait for a driver that ends: all of them fail, and so does every later request.
fn driver(url: &'static str, later: Code) {
    in_time(move || {
        let (host, device) = open("fixture_panic_driver", url);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let device = device.clone();
                host.spawn(async move { device.read_exact_at(0, vec![0; 8]).await.unwrap_err().code() })
            })
            .collect();
        host.block_on(async {
            for task in waiting {
                assert_eq!(task.await, Some(Code::UNANSWERED));
            }
            assert_eq!(device.read::<u8>(0).await.unwrap_err().code(), Some(later));
        });
    });
}

#[test]
fn in_drop() {
    in_time(|| {
        let (host, device) = open("fixture_panic_drop", "panic-drop:");
        assert_eq!(host.block_on(device.read::<u8>(0)).unwrap(), 5);
        drop(device);
        let closed = host.open("panic-drop:").unwrap().close(Duration::from_secs(60));
        let error = closed.unwrap_err();
        assert_eq!(error.code(), Some(Code::PANICKED));
        assert_eq!(error.to_string(), "'panic-drop:' is closed, but its plugin panicked in it");
        let again = host.open("panic-drop:").unwrap();
        assert_eq!(again.blocking_read::<u8>(0).unwrap(), 5);
        drop(host);
        drop(again);
    });
}

#[test]
fn a_device_that_panics_fails_what_it_keeps() {
    in_time(|| {
        // The device has no driver, and no extension that would show that the device keeps views.
        let (host, device) = pactio_tests::open("fixture_patient", "patient:");
        let mut kept: Vec<_> = (0..10u64)
            .map(|position| {
                let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
                device.send_io(position, packet.bind().unwrap());
                packet
            })
            .collect();
        let error = host.block_on(device.read_exact_at(13, vec![0; 8])).unwrap_err();
        assert_eq!(error.code(), Some(Code::UNANSWERED), "{error}");
        for packet in &mut kept {
            host.block_on(&mut *packet);
            assert_eq!(packet.min_error().unwrap().1.code(), Code::UNANSWERED);
        }
        assert_eq!(device.health(), Health::Panicked);
        let error = host.block_on(device.read_exact_at(0, vec![0; 8])).unwrap_err();
        assert!(error.hint().unwrap().contains("the plugin panicked"), "{error:?}");
    });
}
