//! The file plugin through the library.

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::task::Poll;

use futures_util::future::join_all;
use pactio::{BufferPool, Code, OpenOptions};
use pactio_sdk::{ComplexPacket, Generated};
use pactio_sdk::{PacketIo, Read};
use pactio_tests::{host, in_time, random};
use tempfile::tempdir;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte * 7 % 253) as u8).collect()
}

/// Options for the plugin's ways to do I/O.
const WAYS: [&str; 5] = ["", "?io=ring", "?io=threads", "?direct=true", "?map=true"];

/// Makes the system drop its cache of a file, so that the next read waits for the disk, if there is one.
fn evict(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn random_requests_in_flight_together_leave_what_a_model_has() {
    in_time(|| {
        const BLOCK: usize = 4096;
        let folder = tempdir().unwrap();
        let host = host(&["pactio_file"]);
        for (seed, options) in WAYS.iter().enumerate() {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            let path = folder.path().join(seed.to_string());
            let mut model = content(300 * BLOCK);
            fs::write(&path, &model).unwrap();
            let device = host
                .open_with(
                    &format!("file:{}{options}", path.display()),
                    OpenOptions::new().read(true).write(true),
                )
                .unwrap();
            for round in 0..20 {
                if round % 4 == 0 {
                    evict(&path);
                }
                // Writes of one round do not overlap each other or the reads.
                let mut free: Vec<usize> = (0..300 / 3).collect();
                random.shuffle(&mut free);
                let (mut reads, mut writes) = (Vec::new(), Vec::new());
                for third in free {
                    let start = third * 3 * BLOCK + random.usize(0..2) * BLOCK;
                    let len = random.usize(1..3) * BLOCK;
                    if random.bool() {
                        let fill = random.u8(..);
                        model[start..start + len].fill(fill);
                        writes.push(device.write_all_at(start as u64, vec![fill; len]));
                    } else {
                        let (from, len) = (start + random.usize(0..100), len - 100);
                        let there = model[from..from + len].to_vec();
                        reads.push((device.read_exact_at(from as u64, vec![0; len]), there));
                    }
                }
                host.block_on(async {
                    let writes = join_all(writes);
                    let reads = join_all(reads.into_iter().map(|(read, there)| async move {
                        assert_eq!(read.await.unwrap(), there, "{options} seed {seed}");
                    }));
                    let (written, _) = futures_lite::future::zip(writes, reads).await;
                    written.into_iter().for_each(|written| drop(written.unwrap()));
                });
            }
            drop(device);
            assert!(fs::read(&path).unwrap() == model, "{options} seed {seed}");
        }
    });
}

/// Waits for all requests with the waker of the task, so that the host sends them in one call.
async fn together(requests: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut requests: Vec<_> = requests.map(Box::pin).collect();
    poll_fn(|cx| {
        requests.retain_mut(|request| request.as_mut().poll(cx).is_pending());
        if requests.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[test]
fn each_of_many_reads_in_one_call_says_what_there_is() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes = content(1 << 20);
        fs::write(&path, &bytes).unwrap();
        let host = host(&["pactio_file"]);
        for options in WAYS {
            let device = host.open(&format!("file:{}{options}", path.display())).unwrap();
            let mut random = fastrand::Rng::with_seed(1);
            for round in 0..30 {
                if round % 3 == 2 {
                    evict(&path);
                }
                // Some reads end or begin behind the end of the file, are long, or are dropped before they are sent.
                let count = random.usize(1..400);
                let reads: Vec<_> = (0..count)
                    .map(|_| {
                        let len = if random.u8(..) < 2 { 1_100_000 } else { random.usize(0..5000) };
                        (random.usize(0..bytes.len() + 5000), len, random.u8(..) > 10)
                    })
                    .collect();
                host.block_on(together(reads.iter().map(|&(position, len, wanted)| {
                    let read = device.read_at(position as u64, vec![0; len]);
                    let bytes = &bytes;
                    async move {
                        if !wanted {
                            return drop(futures_lite::future::poll_once(read).await);
                        }
                        let (report, memory) = read.await.unwrap();
                        let there = bytes.get(position..).unwrap_or_default();
                        let there = &there[..len.min(there.len())];
                        assert_eq!(report.done(), there.len(), "{options} {len} bytes at {position}");
                        assert!(memory[..report.done()] == *there, "{options} {len} bytes at {position}");
                    }
                })));
            }
        }
    });
}

#[test]
fn requests_that_nobody_waits_for_may_be_with_the_kernel_when_the_device_is_closed() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, vec![7; 32 << 20]).unwrap();
        let host = host(&["pactio_file"]);
        for _ in 0..20 {
            evict(&path);
            let device = host.open(&format!("file:{}?io=ring&direct=true", path.display())).unwrap();
            // The requests are sent, and dropped right before the device is closed.
            let mut requests: Vec<_> =
                (0..200).map(|n| Box::pin(device.read_exact_at(n * 131_072, vec![0; 131_072]))).collect();
            for request in &mut requests {
                let _ = futures_lite::future::block_on(futures_lite::future::poll_once(request));
            }
            drop(requests);
            drop(device);
        }
    });
}

/// The number of files to open: `wanted`, or fewer where the system does not allow this process that many.
fn open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    // The other descriptors are for the rest of this process, in which other tests run.
    let possible = maximum.map_or(wanted, |most| wanted.min(most.saturating_sub(2000)));
    assert!(possible > 300, "only {possible} files can be open");
    if possible < wanted {
        println!("tried with {possible} instead of {wanted} open files, as the system allows no more");
    }
    possible
}

#[test]
fn a_request_that_no_memory_can_be_had_for_fails_alone() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [1; 100]).unwrap();
        let host = host(&["pactio_file"]);
        let options = OpenOptions::new().read(true).write(true);
        let device = host.open_with(&format!("file:{}", path.display()), options).unwrap();
        // The generated bytes need more memory than exists; the request asks for that memory when it is sent.
        let made = Generated::new(1 << 46, |_, part: &mut [u8]| {
            part.fill(7);
            Ok(())
        });
        let mut packet = ComplexPacket::<_, Read>::new(made).unwrap();
        device.send_io(0u64, packet.bind().unwrap());
        host.block_on(&mut packet);
        assert_eq!(packet.report().min_error().unwrap().1.code(), Code::OUT_OF_MEMORY);
        assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 100])).unwrap(), [1; 100]);
    });
}

#[test]
fn memory_that_is_registered_is_used_until_it_is_forgotten() {
    in_time(|| {
        let (folder, host) =
            (tempfile::tempdir().unwrap(), host(&["pactio_file", "pactio_memory", "pactio_stats"]));
        const LEN: usize = 8192;
        let bytes = content(64 * LEN);
        for way in ["", "?io=ring", "?direct=true", "?io=ring | stats"] {
            let path = folder.path().join("file");
            fs::write(&path, vec![0; bytes.len()]).unwrap();
            let url = format!("file:{}{way}", path.display());
            let device = host.open_with(&url, OpenOptions::new().read(true).write(true)).unwrap();
            for round in 0..4 {
                // The pool is so large that its memory is given back to the system. The next pool most likely has the address of
                // the previous one, which the kernel must no longer know.
                let pool = BufferPool::new(64, 1 << 20).unwrap();
                if round != 2 {
                    match device.register(&pool) {
                        // A process may not be allowed to lock that amount of memory.
                        Err(error) if error.code() == Some(Code::OUT_OF_MEMORY) => {
                            return println!("skipped: {error}");
                        }
                        registered => assert!(registered.unwrap() && device.register(&pool).unwrap()),
                    }
                }
                let buffer = || {
                    let mut buffer = pool.try_get()?;
                    buffer.set_len(LEN);
                    Some(buffer)
                };
                let buffers = || std::iter::from_fn(buffer).enumerate();
                let place = |index: usize| ((index * 7 + round) % 64 * LEN) as u64;
                let writes = buffers().map(|(index, mut buffer)| {
                    let at = place(index);
                    buffer.copy_from_slice(&bytes[at as usize..][..LEN]);
                    device.write_all_at(at, buffer)
                });
                host.block_on(join_all(writes)).into_iter().for_each(|written| drop(written.unwrap()));
                assert!(fs::read(&path).unwrap() == bytes, "{url}");
                // Two reads from the page cache, if it is used, and one read from the disk.
                for evicted in [false, false, true] {
                    if evicted {
                        evict(&path);
                    }
                    let reads = buffers().map(|(index, mut buffer)| {
                        buffer.fill(1);
                        device.read_exact_at(place(index), buffer)
                    });
                    for (index, read) in host.block_on(join_all(reads)).into_iter().enumerate() {
                        assert!(read.unwrap()[..] == bytes[place(index) as usize..][..LEN], "{url}, {index}");
                    }
                }
                // Another device with the same pool may be closed before the pool.
                if round == 3 {
                    drop(
                        host.open_with(&url, OpenOptions::new().read(true).write(true))
                            .map(|other| other.register(&pool)),
                    );
                }
            }
        }
        // A filter may be closed before the file.
        let path = folder.path().join("file");
        let filtered = host.open(&format!("file:{}?direct=true | stats", path.display())).unwrap();
        let below = filtered.below().unwrap().clone();
        let read = |pool: BufferPool| {
            let reads = std::iter::from_fn(|| pool.try_get()).map(|mut buffer| {
                buffer.fill(1);
                buffer.set_len(LEN);
                below.read_exact_at(0, buffer)
            });
            assert!(host.block_on(join_all(reads)).into_iter().all(|read| read.unwrap()[..] == bytes[..LEN]));
        };
        let pool = BufferPool::new(64, 1 << 20).unwrap();
        assert!(filtered.register(&pool).unwrap());
        drop(filtered);
        read(pool);
        read(BufferPool::new(64, 1 << 20).unwrap());
        let pool = BufferPool::new(1, 100).unwrap();
        for url in [
            format!("file:{}?io=threads", folder.path().join("file").display()),
            "memory:?size=1KiB".to_owned(),
        ] {
            assert!(!host.open(&url).unwrap().register(&pool).unwrap(), "{url}");
        }
        // More pools than a device takes.
        let device = host.open(&format!("file:{}?io=ring", folder.path().join("file").display())).unwrap();
        let pools: Vec<_> = (0..9).map(|_| BufferPool::new(1, 100).unwrap()).collect();
        let error = pools.iter().find_map(|pool| device.register(pool).err()).unwrap();
        assert!(error.to_string().contains("cannot register 128 bytes with 'file:"), "{error}");
        drop(pools);
        assert!(device.register(&pool).unwrap());
    });
}

#[test]
fn more_files_than_have_a_queue_of_their_own() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"the same").unwrap();
        // Small files have no queue.
        fs::File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
        let host = host(&["pactio_file"]);
        let url = format!("file:{}", path.display());
        let devices: Vec<_> = (0..open_files(10_100)).map(|_| host.open(&url).unwrap()).collect();
        evict(&path);
        for (index, device) in devices.iter().enumerate() {
            let device = &device;
            // One request, or enough requests in one call for a shared queue.
            host.block_on(together((0..if index % 2 == 0 { 1 } else { 8 }).map(|_| async move {
                assert_eq!(device.read_exact_at(4, vec![0; 4]).await.unwrap(), b"same");
            })));
        }
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(descriptors < devices.len() + 1500, "{descriptors} descriptors for {} files", devices.len());
        let error = host.open(&format!("{url}?io=ring")).unwrap_err();
        assert!(error.to_string().contains("256 files have a queue already"), "{error}");
        drop(devices);
        host.open(&format!("{url}?io=ring")).unwrap();
    });
}

#[test]
fn a_mapped_file_shows_what_others_write_and_how_it_grows() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let (path, host) = (folder.path().join("x"), host(&["pactio_file"]));
        let mut model = content(300_000);
        fs::write(&path, &model).unwrap();
        let url = format!("file:{}?map=true", path.display());
        let device = host.open_with(&url, OpenOptions::new().read(true).write(true)).unwrap();
        assert!(
            !device.capabilities().has(pactio::Capability::RESIZE),
            "it would be made shorter under the mapping"
        );
        let mut random = random();
        for _ in 0..2000 {
            let (position, len) = (random.usize(0..model.len() + 100), random.usize(0..5000));
            let (report, bytes) = host.block_on(device.read_at(position as u64, vec![0; len])).unwrap();
            let there = model.len().saturating_sub(position).min(len);
            assert_eq!(report.done(), there);
            assert!(
                there == 0 || bytes[..there] == model[position..][..there],
                "{there} bytes at {position}"
            );
            // Either the device or another writer changes the file, also behind its end.
            let at = random.usize(0..=model.len());
            let new = vec![random.u8(..); random.usize(1..500)];
            model.resize(model.len().max(at + new.len()), 0);
            model[at..at + new.len()].copy_from_slice(&new);
            if random.bool() {
                fs::File::options().write(true).open(&path).unwrap().write_all_at(&new, at as u64).unwrap();
            } else {
                host.block_on(device.write_all_at(at as u64, new)).unwrap();
            }
        }
        let fails = |url: &str, code, expected: &str| {
            let error = host.open(url).unwrap_err();
            assert_eq!(error.code(), Some(code), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        fails("file:/dev/zero?map=true", Code::UNSUPPORTED, "cannot be mapped into memory");
        fails(&format!("{url}&direct=true"), Code::INVALID_INPUT, "`direct` and `map` cannot be combined");
        fs::write(folder.path().join("empty"), []).unwrap();
        let empty = host.open(&format!("file:{}/empty?map=true", folder.path().display())).unwrap();
        assert_eq!(host.block_on(empty.read_at(0, vec![0; 5])).unwrap().0.done(), 0);
    });
}

#[test]
fn every_range_of_a_file_is_read_as_far_as_it_exists() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let host = host(&["pactio_file"]);
        for len in [0, 1, 4095, 4096, 4097] {
            let path = folder.path().join(len.to_string());
            let content = content(len);
            fs::write(&path, &content).unwrap();
            for (options, start, wanted) in WAYS.iter().flat_map(|options| {
                let starts = [0, 1, 4094, 4095, 4096, 4097, 9000].into_iter();
                starts.flat_map(move |start| [0, 1, 2, 4096, 5000].map(|wanted| (options, start, wanted)))
            }) {
                evict(&path);
                let device = host.open(&format!("file:{}{options}", path.display())).unwrap();
                assert_eq!(device.size(), Some(len as u64));
                let there = &content[start.min(len)..(start + wanted).min(len)];
                let (report, bytes) =
                    host.block_on(device.read_at(start as u64, vec![0xee; wanted])).unwrap();
                assert_eq!((report.len(), report.done()), (wanted, there.len()), "{start} {wanted} of {len}");
                assert_eq!(&bytes[..there.len()], there);
                if there.len() < wanted {
                    let (offset, error) = report.min_error().unwrap();
                    assert_eq!((offset, error.code()), (there.len(), Code::END));
                }
                let mut buffer = vec![0xee; wanted];
                let blocking = device.blocking_read_at(start as u64, &mut buffer).unwrap();
                assert_eq!(blocking, report);
                // The bytes behind the end are undefined: direct I/O moves whole blocks.
                assert_eq!(&buffer[..there.len()], there);
            }
        }
    });
}

#[test]
fn positions_at_the_end_of_the_world_are_errors() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"x").unwrap();
        let host = host(&["pactio_file", "pactio_memory"]);
        let url = format!("file:{}", path.display());
        for url in [url.as_str(), "memory:?size=10"] {
            let device = host.open_with(url, OpenOptions::new().read(true).write(true)).unwrap();
            for position in [u64::MAX, u64::MAX - 3, i64::MAX as u64, i64::MAX as u64 - 1] {
                let error = host.block_on(device.read_exact_at(position, &mut [0; 4])).unwrap_err();
                assert!(matches!(error.code(), Some(Code::END | Code::TOO_LARGE)), "{error}");
                let error = host.block_on(device.write_all_at(position, &[0; 4])).unwrap_err();
                assert!(matches!(error.code(), Some(Code::END | Code::TOO_LARGE)), "{error}");
            }
        }
        assert_eq!(fs::read(&path).unwrap(), b"x");
    });
}

#[test]
fn what_is_written_is_there() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new");
        let host = host(&["pactio_file"]);
        let url = format!("file:{}", path.display());
        assert_eq!(host.open(&url).unwrap_err().code(), Some(Code::NOT_FOUND));
        let device = host.open_with(&url, OpenOptions::new().read(true).write(true).create(true)).unwrap();
        host.block_on(async {
            device.write_all_at(10, &[1; 5]).await.unwrap();
            assert_eq!(device.write_all_at(4, vec![2; 3]).await.unwrap(), [2; 3]);
            device.write(0, &0x0403_0201u32).await.unwrap();
            assert_eq!(device.read::<u32>(0).await.unwrap(), 0x0403_0201);
        });
        device.blocking_write_all_at(15, b"end").unwrap();
        let expected = [&0x0403_0201u32.to_ne_bytes()[..], &[2; 3], &[0; 3], &[1; 5], b"end"].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        let emptied = host.open_with(&url, OpenOptions::new().read(true).write(true).truncate(true)).unwrap();
        assert_eq!(emptied.size(), Some(0));
    });
}

#[test]
fn a_file_that_was_opened_to_be_read_cannot_be_written() {
    in_time(|| {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"x").unwrap();
        let host = host(&["pactio_file"]);
        let device = host.open(&format!("file:{}", path.display())).unwrap();
        assert!(device.info().readable() && !device.info().writable(), "{:?}", device.info());
        assert!(device.blocking_write_all_at(0, b"y").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"x");
    });
}

#[test]
fn a_full_device_says_so() {
    in_time(|| {
        let host = host(&["pactio_file"]);
        let device = host.open_with("file:/dev/full", OpenOptions::new().read(true).write(true)).unwrap();
        let error = host.block_on(device.write_all_at(0, &[0; 10])).unwrap_err();
        assert_eq!(error.code(), Some(Code::NO_SPACE));
        assert_eq!(error.report().unwrap().done(), 0);
    });
}

#[test]
fn what_has_no_positions_is_refused_without_waiting() {
    in_time(|| {
        let host = host(&["pactio_file"]);
        let folder = tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = host.open(&format!("file:{}", socket.display())).unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_SEEKABLE));
        let folder = host.open(&format!("file:{}", folder.path().display())).unwrap();
        let error = host.block_on(folder.read_exact_at(0, vec![0; 4])).unwrap_err();
        assert_eq!(error.code(), Some(Code::IS_DIRECTORY));
        assert_eq!(host.open("file:").unwrap_err().code(), Some(Code::INVALID_INPUT));
        assert_eq!(host.open("file:x?cahce=1").unwrap_err().code(), Some(Code::INVALID_INPUT));
    });
}
