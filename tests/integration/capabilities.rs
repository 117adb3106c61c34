//! Capabilities of devices beyond reading and writing, and the requests that they take: the host observes both.

use std::fs;

use pactio::{Capability, Code, Device, Host, OpenOptions, Unit, ZeroMode};
use pactio_tests::{host, in_time};

fn picky(url: &str) -> (Host, Device) {
    let host = host(&["fixture_picky", "fixture_identity", "pactio_cow", "pactio_file", "pactio_memory"]);
    let device = host
        .open_with(url, OpenOptions::new().read(true).write(true))
        .unwrap_or_else(|error| panic!("{error}"));
    (host, device)
}

fn requests(host: &Host, device: &Device) -> u64 {
    host.block_on(device.statistics()).unwrap()[0].value
}

#[test]
fn a_device_is_only_sent_what_it_takes() {
    in_time(|| {
        for url in ["picky:100000", "picky:100000 | identity", "picky:100000 | identity | identity"] {
            let (host, device) = picky(url);
            let mut random = pactio_tests::random();
            for _ in 0..300 {
                let position = random.u64(0..101_000);
                let buffer = vec![0xEE; random.usize(1..20_000)];
                let (report, buffer) = host.block_on(device.read_at(position, buffer)).unwrap();
                let exists = 100_000u64.saturating_sub(position).min(buffer.len() as u64) as usize;
                assert_eq!(report.done(), exists, "{} at {position}: {report}", buffer.len());
                let right = |(index, byte): (usize, &u8)| *byte == ((position + index as u64) % 251) as u8;
                assert!(buffer.iter().enumerate().take(exists).all(right), "{exists} bytes at {position}");
                if let Some((offset, error)) = report.min_error() {
                    assert_eq!((offset, error.code()), (exists, Code::END));
                }
            }
        }
    });
}

#[test]
fn large_requests_are_split_and_the_rest_of_a_unit_is_not_given_away() {
    in_time(|| {
        let (host, device) = picky("picky:100000");
        host.block_on(async {
            device.read_exact_at(0, vec![0; 4096 * 3]).await.unwrap();
        });
        assert_eq!(requests(&host, &device), 3);
        // Seven bytes lie in one unit, or in two.
        host.block_on(device.read::<[u8; 7]>(100)).unwrap();
        assert_eq!(requests(&host, &device), 4);
        let value: [u8; 7] = host.block_on(device.read(510)).unwrap();
        assert_eq!(value, [8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(requests(&host, &device), 5);
        let mut blocking = [0; 3];
        device.blocking_read_exact_at(251, &mut blocking).unwrap();
        assert_eq!(blocking, [0, 1, 2]);
        // Positions at the end of the range of `u64`.
        let (report, _) = host.block_on(device.read_at(u64::MAX - 3, vec![0; 3])).unwrap();
        assert_eq!(report.done(), 0);
    });
}

#[test]
fn a_write_that_does_not_fit_is_refused_and_the_message_says_what_fits() {
    in_time(|| {
        let (host, device) = picky("picky:100000");
        host.block_on(device.write_all_at(512, vec![1; 512 * 20])).unwrap();
        assert_eq!(requests(&host, &device), 3);
        for (position, len) in [(1, 512), (512, 100)] {
            let error = host.block_on(device.write_all_at(position, vec![1; len])).unwrap_err();
            assert_eq!(error.code(), Some(Code::MISALIGNED));
            assert_eq!(error.hint(), Some("positions and lengths of writes here are multiples of 512 bytes"));
        }
        assert_eq!(requests(&host, &device), 3);
    });
}

#[test]
fn what_a_device_can_is_known_and_reaches_through_filters() {
    in_time(|| {
        for url in ["picky:100000", "picky:100000 | identity"] {
            let (host, device) = picky(url);
            let can = device.capabilities();
            let all = [
                Capability::FLUSH,
                Capability::RESIZE,
                Capability::ZERO,
                Capability::LIST,
                Capability::MAP,
                Capability::STATISTICS,
            ];
            assert!(all.iter().all(|capability| can.has(*capability)), "{can:?}");
            assert_eq!(can.limits().in_flight(), Some(3));
            host.block_on(async {
                device.flush().await.unwrap();
                device.flush_data().await.unwrap();
                let code = |done: Result<(), pactio::Error>| done.unwrap_err().code().unwrap();
                device.zero_fast(512..1024, ZeroMode::Keep).await.unwrap();
                device.zero_fast(7..7, ZeroMode::Keep).await.unwrap();
                let late = device.zero_fast(0..u64::MAX, ZeroMode::Keep).await;
                assert_eq!(code(late), Code::END);
                let slow = device.zero_fast(0..512, ZeroMode::Release).await;
                assert_eq!(code(slow), Code::UNSUPPORTED);
                device.zero(0..512, ZeroMode::Release).await.unwrap();
                assert_eq!(code(device.zero_fast(13..14, ZeroMode::Keep).await), Code::UNANSWERED);
                device.resize(30_000).await.unwrap();
                assert_eq!(device.size(), Some(30_000));
                let all = device.list("").await.unwrap();
                assert_eq!(all.len(), 5001);
                assert!(
                    all.iter()
                        .take(5000)
                        .enumerate()
                        .all(|(index, entry)| entry.name == format!("file {index}")
                            && entry.size() == Some(index as u64)
                            && !entry.is_folder())
                );
                assert!(all[5000].is_folder() && all[5000].size().is_none(), "{:?}", all[5000]);
                assert_eq!(device.list("deep").await.unwrap().len(), 1);
                let (mut pages, mut count, mut paged) = (device.list_pages(""), 0, Vec::new());
                while let Some(page) = pages.next().await.unwrap() {
                    // A future that is dropped loses no page.
                    drop(pages.next());
                    assert!(page.len() < 5000, "{}", page.len());
                    (count, paged) = (count + 1, [paged, page].concat());
                }
                assert!(count > 1 && paged == all, "{count} pages with {} names", paged.len());
                assert!(pages.next().await.unwrap().is_none());
                assert!(device.list_pages("gone").next().await.is_err());
                let regions = device.regions().await.unwrap();
                assert_eq!(regions.len(), 4);
                assert_eq!(
                    (regions[1].range.clone(), regions[1].name.to_str()),
                    (8192..12288, Some("block 1"))
                );
                assert!(!regions[0].writable && regions[1].writable, "{regions:?}");
                let figures = device.statistics().await.unwrap();
                assert_eq!(
                    (figures[1].name.as_str(), figures[1].value, figures[1].unit),
                    ("flushes", 101, Unit::Count)
                );
            });
        }
    });
}

#[test]
fn what_fails_says_what_was_asked_for() {
    in_time(|| {
        let (host, device) = picky("picky:100000");
        let error = |result: Result<(), pactio::Error>| result.unwrap_err().to_string();
        let ask = |size| host.block_on(device.resize(size));
        assert_eq!(
            error(ask(1 << 50)),
            "cannot set a size of 1125899906842624 bytes on 'picky:100000' (plugin 'fixture-picky'): no space left"
        );
        assert_eq!(
            error(ask(13)),
            "cannot set a size of 13 bytes on 'picky:100000' (plugin 'fixture-picky'): dropped by the device without an answer"
        );
        let list = |folder: &str| host.block_on(device.list(folder)).map(drop);
        assert_eq!(
            error(list("nowhere")),
            "cannot list 'nowhere' in 'picky:100000' (plugin 'fixture-picky'): not found"
        );
        // If a device gives a list without end, the host stops asking.
        assert_eq!(
            error(list("deep/stuck")),
            "cannot list 'deep/stuck' in 'picky:100000' (plugin 'fixture-picky'): corrupt data"
        );
        let memory = host.open("memory:?size=4KiB").unwrap();
        assert_eq!(
            error(host.block_on(memory.resize(1))),
            "cannot set a size of 1 bytes on 'memory:?size=4KiB': its plugin 'memory' does not support 'resize'"
        );
        // A device without these extensions flushes nothing and has no statistics.
        host.block_on(memory.flush()).unwrap();
        assert!(host.block_on(memory.statistics()).unwrap().is_empty());
        assert_eq!(host.block_on(memory.regions()).unwrap()[0].range, 0..4096);
        assert!(host.block_on(memory.list("")).is_err());
        // Last: a panic puts the device out of use.
        assert!(error(ask(14)).ends_with(": dropped by the device without an answer"));
        assert!(error(ask(20)).ends_with(": out of use since the plugin panicked"));
    });
}

#[test]
fn ranges_become_zeros() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = format!("file:{}", path.display());
        let urls = [
            file.clone(),
            format!("{file}?direct=true"),
            format!("{file} | identity"),
            "memory:?size=1MiB".to_owned(),
            // The zeros are written to the overlay.
            "memory:?size=1MiB | cow".to_owned(),
        ];
        for url in urls {
            fs::write(&path, vec![7; 1 << 20]).unwrap();
            let (host, device) = picky(&url);
            host.block_on(device.write_all_at(0, vec![7; 1 << 20])).unwrap();
            let mut model = vec![7; 1 << 20];
            let mut random = pactio_tests::random();
            for step in 0..40 {
                let unit = if url.contains("direct") { 4096 } else { 1 };
                let start = random.usize(0..1 << 20) / unit * unit;
                let end = (start + random.usize(0..100_000) / unit * unit).min(1 << 20);
                let mode = [ZeroMode::Keep, ZeroMode::Release][step % 2];
                host.block_on(device.zero(start as u64..end as u64, mode))
                    .unwrap_or_else(|error| panic!("{error}"));
                model[start..end].fill(0);
                assert!(
                    host.block_on(device.read_exact_at(0, vec![1; 1 << 20])).unwrap() == model,
                    "{url}: {start}..{end}"
                );
            }
            assert_eq!(device.size(), Some(1 << 20));
            let beyond = host.block_on(device.zero(0..(1 << 20) + 1, ZeroMode::Keep)).unwrap_err();
            assert_eq!(beyond.code(), Some(Code::END), "{url}: {beyond}");
        }
        let read_only = picky(&file).0.open(&file).unwrap();
        let (host, _) = picky(&file);
        assert!(host.block_on(read_only.zero(0..1, ZeroMode::Keep)).is_err());
    });
}

#[test]
fn a_file_is_flushed_resized_and_has_holes() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        fs::write(&path, vec![7; 4096]).unwrap();
        let url = format!("file:{}", path.display());
        let (host, device) = picky(&url);
        host.block_on(async {
            device.resize(1 << 20).await.unwrap();
            device.write_all_at(1 << 19, b"island").await.unwrap();
            device.flush().await.unwrap();
            let regions = device.regions().await.unwrap();
            assert_eq!(device.size(), Some(1 << 20));
            // The existing regions cover the written bytes; on a file system with holes, they cover no more than the blocks of
            // these bytes.
            let covered = |at: u64| regions.iter().any(|region| region.range.contains(&at));
            assert!(covered(0) && covered(4095) && covered(1 << 19), "{regions:?}");
            assert!(
                regions.iter().all(|region| region.readable && region.writable && !region.range.is_empty()),
                "{regions:?}"
            );
            assert!(regions.windows(2).all(|pair| pair[0].range.end < pair[1].range.start), "{regions:?}");
        });
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        let read_only = host.open(&url).unwrap();
        assert!(!read_only.capabilities().has(Capability::RESIZE), "{:?}", read_only.capabilities());
        let error = host.block_on(read_only.write_all_at(0, b"x")).unwrap_err();
        assert_eq!(error.hint(), Some("it can only be read, or was opened so: see `OpenOptions::write`"));
        // A filter that keeps writes in memory forwards none of these capabilities.
        let overlay = host.open(&format!("{url} | cow")).unwrap();
        let can = overlay.capabilities();
        assert!(!can.has(Capability::RESIZE) && !can.has(Capability::FLUSH), "{can:?}");
    });
}

#[test]
fn reads_of_a_stream_keep_its_unit() {
    in_time(|| {
        let (host, device) = pactio_tests::open("fixture_gated", "gated:9,512");
        host.block_on(async {
            let sent: Vec<u8> = (0..512).map(|at| (at % 251) as u8).collect();
            assert!(device.write_next(sent.clone()).await.unwrap().0.is_done());
            // Bytes behind a shorter request would be lost.
            let (report, _) = device.read_next(vec![0; 100]).await.unwrap();
            assert_eq!(report.min_error().map(|(_, error)| error.code()), Some(Code::MISALIGNED));
            let (report, bytes) = device.read_next(vec![0; 512]).await.unwrap();
            assert!(report.is_done() && bytes == sent, "{report}");
        });
    });
}
