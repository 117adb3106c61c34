//! Filters: devices that sit on devices of other plugins.

use std::fs;

use pactio::{Capability, Code, Device, ErrorKind, Host, OpenOptions, Url};
use pactio_sdk::{IoExchange, IoRead, IoWrite, NoPos, PacketBox, Write};
use pactio_tests::{host, in_time};

/// A host with two filters and devices of all sorts.
fn filters() -> Host {
    host(&[
        "pactio_cow",
        "pactio_fault",
        "pactio_file",
        "pactio_memory",
        "fixture_descriptor",
        "fixture_eight_threads",
        "fixture_gated",
        "fixture_identity",
        "fixture_panic_driver",
        "fixture_panic_submit",
        "fixture_queued",
        "fixture_xor",
    ])
}

#[test]
fn a_filter_does_only_what_it_names_and_no_more_than_what_is_below() {
    in_time(|| {
        let host = filters();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stored");
        fs::write(&path, [0x5A; 100]).unwrap();
        let url = format!("file:{} | xor", path.display());
        let device = host.open_with(&url, OpenOptions::new().read(true).write(true)).unwrap();
        assert_eq!(bytes(&host, &device, 0..100), [0; 100]);
        host.block_on(device.write_all_at(10, b"secret")).unwrap();
        assert_eq!(bytes(&host, &device, 10..16), b"secret");
        let stored: Vec<u8> = b"secret".iter().map(|byte| byte ^ 0x5A).collect();
        assert_eq!(fs::read(&path).unwrap()[10..16], stored);
        // The file below has these capabilities, but the filter does not name them.
        let can = device.capabilities();
        assert!(
            device.below().unwrap().capabilities().has(Capability::RESIZE),
            "{:?}",
            device.below().unwrap().capabilities()
        );
        assert!(
            !can.has(Capability::RESIZE) && !can.has(Capability::MAP) && can.has(Capability::FLUSH),
            "{can:?}"
        );
        assert_eq!(host.block_on(device.resize(5)).unwrap_err().code(), Some(Code::UNSUPPORTED));
        // Memory can exchange, but the exchanged bytes would be stored in clear text.
        let memory = host.open("memory:?size=100 | xor").unwrap();
        let (report, _) = host.block_on(memory.exchange_raw(0, vec![1; 10])).unwrap();
        assert_eq!(report.min_error().map(|(at, error)| (at, error.code())), Some((0, Code::UNSUPPORTED)));
        // The filter names this capability, but memory does not have it.
        assert!(!memory.capabilities().has(Capability::FLUSH), "{:?}", memory.capabilities());
        let read_only = host.open(&url).unwrap();
        assert!(!read_only.info().writable(), "{:?}", read_only.info());
        // A folder lists and opens names, but the filter does not name these capabilities.
        let tree = host.open(&format!("file:{} | xor", folder.path().display())).unwrap();
        assert!(tree.open("stored").is_err() && host.block_on(tree.list("")).is_err());
        // Streams are changed in both directions.
        let stream = host.open("gated:2 | xor").unwrap();
        let below = stream.below().unwrap();
        host.block_on(async {
            stream.write_raw(NoPos, b"flow".to_vec()).await.unwrap();
            let (_, read) = stream.read_raw(NoPos, vec![0; 2]).await.unwrap();
            assert_eq!(read, b"fl");
            let (_, read) = below.read_raw(NoPos, vec![0; 2]).await.unwrap();
            assert_eq!(read, [b'o' ^ 0x5A, b'w' ^ 0x5A]);
        });
    });
}

fn bytes(host: &Host, device: &Device, range: std::ops::Range<u64>) -> Vec<u8> {
    let buffer = vec![0; (range.end - range.start) as usize];
    host.block_on(device.read_exact_at(range.start, buffer)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_written_over_a_file_stays_in_memory() {
    in_time(|| {
        let host = filters();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        fs::write(&path, "0123456789").unwrap();
        let url = format!("file:{} | cow", path.display());
        // Not even these options empty the file below a filter that only reads it.
        let everything = OpenOptions::new().read(true).write(true).create(true).truncate(true);
        let device = host.open_with(&url, everything).unwrap();
        host.block_on(async {
            device.write_all_at(2, b"abc").await.unwrap();
            device.write_all_at(4, b"XY").await.unwrap();
        });
        assert_eq!(bytes(&host, &device, 0..10), b"01abXY6789");
        assert_eq!(bytes(&host, &device, 3..5), b"bX");
        assert_eq!(fs::read(&path).unwrap(), b"0123456789");
        // Past the end there are no bytes to overwrite.
        let (report, _) = host.block_on(device.write_at(8, b"UVWX".to_vec())).unwrap();
        assert_eq!((report.done(), report.min_error().unwrap().1.code()), (2, Code::END));
        // Positions past the end of any file.
        let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
        for position in [u64::MAX, u64::MAX - 4, 1 << 63, 10] {
            pactio_sdk::PacketIo::send_io(&device, position, packet.bind().unwrap());
            host.block_on(&mut packet);
            assert_eq!(packet.report().done(), 0, "at {position}");
        }
        let other = host.open(&url).unwrap();
        assert_eq!(bytes(&host, &other, 0..10), b"0123456789", "each open has an overlay of its own");
    });
}

#[test]
fn an_overlay_has_a_limit() {
    let host = filters();
    let device = host.open("memory:?size=100 | cow?limit=10").unwrap();
    host.block_on(device.write_all_at(0, &[1; 10])).unwrap();
    let error = host.block_on(device.write_all_at(10, &[1])).unwrap_err();
    assert_eq!(error.code(), Some(Code::NO_SPACE));
    host.block_on(device.write_all_at(0, &[2; 10])).unwrap();
    assert_eq!(bytes(&host, &device, 9..11), [2, 0]);
}

#[test]
fn a_stack_is_shown_from_the_bottom_and_can_be_made_of_parts() {
    let host = filters();
    let cow = Url::filter("cow").unwrap().with_option("limit", "1KiB");
    let url = Url::new("memory", "").unwrap().with_option("size", "10").with_filter(cow);
    let device = host.open_url(&url, OpenOptions::new().read(true)).unwrap();
    assert_eq!(device.url(), "memory:?size=10 | cow?limit=1KiB");
    assert_eq!(device.plugin().manifest().id, "cow");
    let below = device.below().unwrap();
    assert_eq!((below.url(), below.plugin().manifest().id.as_str()), ("memory:?size=10", "memory"));
    assert!(below.below().is_none());
}

#[test]
fn what_makes_no_sense_in_a_stack_is_explained() {
    let host = filters();
    for (url, kind, message) in [
        ("cow:", ErrorKind::UnknownScheme, "'cow' is a filter and opens nothing by itself"),
        ("memory:?size=1 | file", ErrorKind::UnknownScheme, "'file' is not a filter"),
        (
            "memory:?size=1 | cow?limti=1",
            ErrorKind::InvalidOption,
            "'cow?limti=***': the filter 'cow' has no option 'limti'; did you mean 'limit'?",
        ),
        (
            "memory:?size=1 | cow?limit=0",
            ErrorKind::InvalidOption,
            "'cow?limit=0': option 'limit' is 0, but must be 1 to 1TiB",
        ),
        ("memory:?size=1 | ", ErrorKind::InvalidUrl, "'' is not the name of a filter"),
        ("memory:?size=1 | co w", ErrorKind::InvalidUrl, "'co w' is not the name of a filter"),
        ("memory:?size=1 | cow?limit", ErrorKind::InvalidUrl, "option 1 of 'cow?...' has no '='"),
    ] {
        let error = host.open(url).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message), "{url}");
        assert!(error.hint().is_some(), "{url}");
    }
    let error = host.open("memory:?size=1 | nothing").unwrap_err().to_string();
    assert!(
        error.starts_with(
            "no plugin has the filter 'nothing'; those that exist are: cow, fault, identity, leaky, xor\n"
        ),
        "{error}"
    );
}

#[test]
fn drivers_threads_and_failures_below_reach_through_filters() {
    in_time(|| {
        let host = filters();
        for base in ["descriptor:", "eight-threads:", "queued:4096"] {
            let plain = host.open(base).unwrap();
            let expected = bytes(&host, &plain, 0..64);
            let stacked = host.open(&format!("{base} | identity | cow | identity")).unwrap();
            assert_eq!(bytes(&host, &stacked, 0..64), expected, "{base}");
            // The same under another executor.
            let buffer = pollster::block_on(stacked.read_exact_at(0, vec![0; 64])).unwrap();
            assert_eq!(buffer, expected, "{base}");
            assert_eq!(stacked.size(), plain.size());
        }
        let device = host.open("panic-submit: | identity").unwrap();
        let error = host.block_on(device.read_exact_at(0, vec![0; 4])).unwrap_err();
        assert_eq!(error.code(), Some(Code::UNANSWERED), "{error}");
    });
}

#[test]
fn closing_in_any_order_answers_everything() {
    in_time(|| {
        for order in 0..6 {
            let host = filters();
            let device = host.open("queued:4096 | identity | cow").unwrap();
            let mut packet = PacketBox::<Write>::new_buf(16).unwrap();
            pactio_sdk::PacketIo::send_io(&device, 0u64, packet.bind().unwrap());
            let mut parts = [Some(Box::new(host) as Box<dyn std::any::Any>), Some(Box::new(device)), None];
            for part in [order % 3, (order + 1 + order / 3) % 3, (order + 2 - order / 3) % 3] {
                drop(parts[part].take());
            }
            pollster::block_on(&mut packet);
            assert!(packet.is_done() || packet.report().min_error().is_some(), "{}", packet.report());
        }
    });
}

#[test]
fn faults_come_as_they_were_asked_for_and_come_again() {
    in_time(|| {
        let host = filters();
        // The number of done bytes of each of 200 reads of 64 bytes.
        let done = |options: &str| -> Vec<usize> {
            let device = host.open(&format!("memory:?size=4KiB&fill=7 | fault?{options}")).unwrap();
            let reads = (0..200).map(|_| {
                let (report, bytes) = host.block_on(device.read_at(0, vec![0; 64])).unwrap();
                assert!(bytes[..report.done()].iter().all(|&byte| byte == 7), "{report}: {bytes:?}");
                if let Some((at, error)) = report.min_error() {
                    assert_eq!((at, error.code()), (report.done(), Code::BUSY));
                }
                report.done()
            });
            reads.collect()
        };
        let some = done("read=30&error=busy&seed=5");
        assert!(some.iter().all(|&done| done == 0 || done == 64), "{some:?}");
        assert!((20..120).contains(&some.iter().filter(|&&done| done == 0).count()), "{some:?}");
        assert_eq!(some, done("read=30&error=busy&seed=5"));
        assert_ne!(some, done("read=30&error=busy&seed=6"));
        assert_eq!(done("read=0&error=busy"), [64; 200]);
        assert_eq!(done("read=100&error=busy"), [0; 200]);
        let partly = done("read=100&error=busy&partly=true");
        assert!(partly.iter().all(|&done| done < 64) && partly.iter().any(|&done| done > 0), "{partly:?}");
        // The option `read` does not affect writes.
        let device = host.open("memory:?size=10 | fault?read=100&error=corrupt").unwrap();
        host.block_on(device.write_all_at(0, b"x")).unwrap();
        assert_eq!(
            host.block_on(device.read_exact_at(0, vec![0; 1])).unwrap_err().code(),
            Some(Code::CORRUPT)
        );
    });
}

#[test]
fn stacks_have_a_bound_and_fit_on_a_small_stack() {
    // The bench does the same with optimised code on 512 KiB; these frames are several times as large, and more so under a
    // sanitizer.
    let stack = 16 << 20;
    let run = || {
        let host = pactio_tests::host(&["pactio_memory", "pactio_stats", "pactio_cow", "pactio_retry"]);
        let url = |count: usize| {
            let filters = ["stats", "retry", "cow"].iter().cycle().take(count);
            filters.fold("memory:?size=4KiB&fill=7".to_owned(), |url, filter| format!("{url} | {filter}"))
        };
        let device = host.open(&url(255)).unwrap();
        host.block_on(async {
            let bytes = device.read_exact_at(1, vec![0; 100]).await.unwrap();
            assert_eq!(bytes, [7; 100]);
        });
        let mut bytes = [0; 10];
        device.blocking_read_exact_at(5, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 10]);
        drop(device);
        for count in [256, 4000] {
            let error = host.open(&url(count)).unwrap_err().to_string();
            let text = format!("a device has at most 256 layers, but this one would have {}", count + 1);
            assert!(error.contains(&text), "{error}");
        }
    };
    std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
}
