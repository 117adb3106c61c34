//! The filters `crypt` and `verify`, which process whole blocks only.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pactio::{Capability, Code, Device, Host, OpenOptions};
use pactio_tests::{host, in_time, random};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

fn hosted() -> Host {
    host(&["pactio_crypt", "pactio_delay", "pactio_fault", "pactio_file", "pactio_memory", "pactio_verify"])
}

fn open(host: &Host, url: &str) -> Device {
    let options = OpenOptions::new().read(true).write(true).create(true);
    host.open_with(url, options).unwrap_or_else(|error| panic!("{error}"))
}

fn read(host: &Host, device: &Device, position: u64, len: usize) -> Vec<u8> {
    host.block_on(device.read_exact_at(position, vec![0; len])).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_written_encrypted_is_read_back_and_nothing_of_it_is_in_the_file() {
    in_time(|| {
        let (host, folder, mut random) = (hosted(), tempfile::tempdir().unwrap(), random());
        let (path, key) = (folder.path().join("disk"), folder.path().join("key"));
        fs::write(&key, (0..64).collect::<Vec<u8>>()).unwrap();
        for block in ["512", "4KiB"] {
            fs::write(&path, vec![0; 64 << 10]).unwrap();
            let url = format!("file:{} | crypt?key-file={}&block={block}", path.display(), key.display());
            let device = open(&host, &url);
            let mut model = read(&host, &device, 0, 64 << 10);
            for _ in 0..300 {
                let (start, len) = (random.usize(..model.len()), random.usize(1..9000));
                let range = start..(start + len).min(model.len());
                if random.bool() {
                    let bytes: Vec<u8> = range.clone().map(|_| random.u8(..)).collect();
                    host.block_on(device.write_all_at(start as u64, bytes.clone())).unwrap();
                    model[range].copy_from_slice(&bytes);
                } else {
                    assert!(
                        read(&host, &device, start as u64, range.len()) == model[range],
                        "{len} bytes at {start}"
                    );
                }
            }
            let text = b"no reader may get this text from the disk without the key!";
            host.block_on(device.write_all_at(1000, text)).unwrap();
            drop(device);
            let stored = fs::read(&path).unwrap();
            assert!(!stored.windows(8).any(|window| text.windows(8).any(|part| part == window)), "{block}");
            // The key in digits is the same key, and another key shows other bytes.
            let url = format!("file:{} | crypt?key={KEY}&block={block}", path.display());
            assert_eq!(read(&host, &host.open(&url).unwrap(), 1000, text.len()), text);
            let other = url.replace("?key=00", "?key=01");
            assert_ne!(read(&host, &host.open(&other).unwrap(), 1000, text.len()), text);
        }
    });
}

#[test]
fn writes_to_parts_of_a_block_at_the_same_time_lose_nothing() {
    in_time(|| {
        let host = hosted();
        // Each request takes some time, and the answers come in any order.
        let url = format!("memory:?size=4KiB | delay?latency=1ms&jitter=5ms | crypt?key={KEY}&block=1KiB");
        let device = open(&host, &url);
        host.block_on(device.write_all_at(0, vec![0; 4096])).unwrap();
        let mut tasks = Vec::new();
        for at in 0..256u64 {
            let device = device.clone();
            // Parts of blocks, some of which lie in two blocks.
            tasks.push(
                host.spawn(async move { device.write_all_at(at * 16, vec![at as u8; 16]).await.map(drop) }),
            );
        }
        for task in tasks {
            host.block_on(task).unwrap();
        }
        let all = read(&host, &device, 0, 4096);
        assert!(all.chunks(16).zip(0..=255u8).all(|(part, at)| part == [at; 16]), "{all:?}");
    });
}

#[test]
fn a_device_that_is_closed_with_writes_in_flight_answers_them() {
    in_time(|| {
        let host = hosted();
        let device = open(&host, &format!("memory:?size=4KiB | delay?latency=50ms | crypt?key={KEY}"));
        let writes: Vec<_> = (0..20)
            .map(|at| {
                let device = device.clone();
                host.spawn(async move { device.write_all_at(at * 3, vec![1; 3]).await.map(drop) })
            })
            .collect();
        drop(device);
        for write in writes {
            // The write may succeed or fail, but the request ends.
            let _ = host.block_on(write);
        }
    });
}

#[test]
fn an_encrypted_device_grows_by_whole_blocks() {
    in_time(|| {
        let (host, folder) = (hosted(), tempfile::tempdir().unwrap());
        let path = folder.path().join("disk");
        let url = format!("file:{} | crypt?key={KEY}", path.display());
        let device = open(&host, &url);
        let error = host.block_on(device.write_all_at(0, vec![7; 100])).unwrap_err();
        assert_eq!(error.code(), Some(Code::END));
        assert!(
            error.to_string().contains("ends with a whole block; write 512 bytes past its end"),
            "{error}"
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        host.block_on(device.write_all_at(0, vec![7; 1024])).unwrap();
        host.block_on(device.write_all_at(100, b"part")).unwrap();
        assert_eq!((device.size(), fs::metadata(&path).unwrap().len()), (Some(1024), 1024));
        assert_eq!(read(&host, &device, 98, 8), b"\x07\x07part\x07\x07");
        // A write over the end writes the existing block.
        let (report, _) = host.block_on(device.write_at(1000, vec![9; 100])).unwrap();
        assert_eq!((report.done(), report.min_error().unwrap().0), (24, 24));
        // No capability bypasses the filter with clear text.
        let can = device.capabilities();
        assert!(
            can.has(Capability::FLUSH) && !can.has(Capability::RESIZE) && !can.has(Capability::MAP),
            "{can:?}"
        );
        fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
        let error = host.open(&url).unwrap_err().to_string();
        assert!(error.contains("has 1000 bytes, which are no whole blocks of 512 bytes"), "{error}");
    });
}

#[test]
fn keys_that_make_no_sense_are_explained_and_never_shown() {
    in_time(|| {
        let (host, folder) = (hosted(), tempfile::tempdir().unwrap());
        let short = folder.path().join("short");
        fs::write(&short, [1; 20]).unwrap();
        for (options, what) in [
            (String::new(), "no key is given; make one with `head -c 64 /dev/urandom > disk.key`"),
            (
                format!("?key-file={}", short.display()),
                "the key has 20 bytes; AES-256 takes 64, AES-128 takes 32",
            ),
            ("?key-file=/none".to_owned(), "the key file '/none' cannot be read: No such file"),
            ("?key=0g".to_owned(), "the key is not pairs of hexadecimal digits"),
            (format!("?key={KEY}&key-file=x"), "give key-file or key, and not both"),
            (format!("?key={KEY}&block=600"), "a block of 600 bytes is no power of two"),
        ] {
            let error = host.open(&format!("memory:?size=4KiB | crypt{options}")).unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains(&KEY[10..]), "{options}: {error}");
        }
    });
}

fn image(path: &Path, len: usize) -> Vec<u8> {
    let mut random = random();
    let bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn a_block_that_has_rotted_is_named_and_the_others_are_read() {
    in_time(|| {
        let (host, folder, mut random) = (hosted(), tempfile::tempdir().unwrap(), random());
        let path = folder.path().join("image");
        // The last block is shorter.
        let content = image(&path, 10_100);
        let url =
            format!("file:{} | verify?block=1KiB&hashes={}/hashes", path.display(), folder.path().display());
        let error = host.open(&url).unwrap_err().to_string();
        assert!(
            error.contains("/hashes' cannot be read: No such file") && error.contains("make=true makes it"),
            "{error}"
        );
        let device = host.open(&format!("{url}&make=true")).unwrap();
        assert!(!device.info().writable(), "{:?}", device.info());
        for _ in 0..100 {
            let (start, len) = (random.usize(..10_200), random.usize(1..5000));
            let exists = content.len().saturating_sub(start).min(len);
            let (report, bytes) = host.block_on(device.read_at(start as u64, vec![0; len])).unwrap();
            assert_eq!((report.done(), report.error_clamp()), (exists, exists));
            assert!(
                exists == 0 || bytes[..exists] == content[start..start + exists],
                "{exists} bytes at {start}"
            );
        }
        // One bit of block 5, and one of the short block.
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        for at in [5 * 1024 + 77, 10_099] {
            file.write_all_at(&[content[at] ^ 1], at as u64).unwrap();
        }
        let (report, bytes) = host.block_on(device.read_at(500, vec![0; 9600])).unwrap();
        let failed: Vec<_> = report.failed_ranges().map(|(range, error)| (range, error.code())).collect();
        assert_eq!(
            failed,
            [(5 * 1024 - 500..6 * 1024 - 500, Code::CORRUPT), (9 * 1024 - 500..9600, Code::CORRUPT)]
        );
        for done in report.done_ranges() {
            assert!(bytes[done.clone()] == content[500 + done.start..500 + done.end], "{done:?}");
        }
        let error = host.block_on(device.read_exact_at(5 * 1024 + 500, vec![0; 8])).unwrap_err();
        assert!(
            error.to_string().contains("the 1024 bytes at 0x1400 do not have the hash of block 5"),
            "{error}"
        );
        let error = host.block_on(device.read_exact_at(10_000, vec![0; 8])).unwrap_err();
        assert!(
            error.to_string().contains("the 884 bytes at 0x2400 do not have the hash of block 9"),
            "{error}"
        );
    });
}

#[test]
fn hashes_of_other_tools_do_and_those_that_were_changed_are_refused() {
    use sha2::{Digest, Sha256};
    in_time(|| {
        let (host, folder) = (hosted(), tempfile::tempdir().unwrap());
        let (path, hashes) = (folder.path().join("image"), folder.path().join("hashes"));
        let content = image(&path, 200_000);
        let mut made: Vec<u8> =
            content.chunks(64 << 10).flat_map(|block| Sha256::digest(block).to_vec()).collect();
        fs::write(&hashes, &made).unwrap();
        let url = format!("file:{} | verify?hashes={}", path.display(), hashes.display());
        let device = host.open(&url).unwrap();
        assert!(read(&host, &device, 1, 199_999) == content[1..]);
        let root: String = Sha256::digest(&made).iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(host.open(&format!("{url}&root={root}")).is_ok());
        // Hashes that fit the changed bytes do not fit the root.
        made[40] ^= 1;
        fs::write(&hashes, &made).unwrap();
        let error = host.open(&format!("{url}&root={root}")).unwrap_err().to_string();
        assert!(error.contains(&format!("and not the root {root}")), "{error}");
        made.pop();
        fs::write(&hashes, &made).unwrap();
        let error = host.open(&url).unwrap_err().to_string();
        assert!(
            error.contains(
                "has 127 bytes; a device of 200000 bytes in blocks of 65536 has 128 bytes of hashes"
            ),
            "{error}"
        );
        // A stack over another device: the blocks are verified, and then decrypted.
        let disk = folder.path().join("disk");
        fs::write(&disk, &content[..65536]).unwrap();
        let url = format!(
            "file:{} | verify?make=true&hashes={}/2 | crypt?key={KEY}",
            disk.display(),
            folder.path().display()
        );
        let clear = read(&host, &host.open(&url).unwrap(), 0, 65536);
        let direct = format!("file:{} | crypt?key={KEY}", disk.display());
        assert!(clear == read(&host, &host.open(&direct).unwrap(), 0, 65536));
        fs::File::options().write(true).open(&disk).unwrap().write_all_at(b"x", 9).unwrap();
        assert_eq!(
            host.block_on(host.open(&url).unwrap().read::<u8>(5)).unwrap_err().code(),
            Some(Code::CORRUPT)
        );
    });
}
