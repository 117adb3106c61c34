//! The file plugin through the library.

use std::fs;

use pactio::{Code, OpenOptions};
use pactio_tests::{host, in_time};
use tempfile::tempdir;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte * 7 % 253) as u8).collect()
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
            let device = host.open(&format!("file:{}", path.display())).unwrap();
            assert_eq!(device.size(), Some(len as u64));
            for start in [0, 1, 4094, 4095, 4096, 4097, 9000] {
                for wanted in [0, 1, 2, 4096, 5000] {
                    let there = &content[start.min(len)..(start + wanted).min(len)];
                    let (report, bytes) =
                        host.block_on(device.read_at(start as u64, vec![0xee; wanted])).unwrap();
                    assert_eq!(
                        (report.len(), report.done()),
                        (wanted, there.len()),
                        "{start} {wanted} of {len}"
                    );
                    assert_eq!(&bytes[..there.len()], there);
                    if there.len() < wanted {
                        let (offset, error) = report.min_error().unwrap();
                        assert_eq!((offset, error.code()), (there.len(), Code::End));
                    }
                    let mut buffer = vec![0xee; wanted];
                    let blocking = device.blocking_read_at(start as u64, &mut buffer).unwrap();
                    assert_eq!(blocking, report);
                    assert_eq!(buffer, bytes);
                }
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
            let device = host.open_with(url, OpenOptions::new().write(true)).unwrap();
            for position in [u64::MAX, u64::MAX - 3, i64::MAX as u64, i64::MAX as u64 - 1] {
                let error = host.block_on(device.read_exact_at(position, &mut [0; 4])).unwrap_err();
                assert!(matches!(error.code(), Some(Code::End | Code::TooLarge)), "{error}");
                let error = host.block_on(device.write_all_at(position, &[0; 4])).unwrap_err();
                assert!(matches!(error.code(), Some(Code::End | Code::TooLarge)), "{error}");
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
        assert_eq!(host.open(&url).unwrap_err().code(), Some(Code::NotFound));
        let device = host.open_with(&url, OpenOptions::new().write(true).create(true)).unwrap();
        host.block_on(async {
            device.write_all_at(10, &[1; 5]).await.unwrap();
            assert_eq!(device.write_all_at(4, vec![2; 3]).await.unwrap(), [2; 3]);
            device.write(0, 0x0403_0201u32).await.unwrap();
            assert_eq!(device.read::<u32>(0).await.unwrap(), 0x0403_0201);
        });
        device.blocking_write_all_at(15, b"end").unwrap();
        let expected = [&0x0403_0201u32.to_ne_bytes()[..], &[2; 3], &[0; 3], &[1; 5], b"end"].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        let emptied = host.open_with(&url, OpenOptions::new().write(true).truncate(true)).unwrap();
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
        assert!(device.info().readable() && !device.info().writable());
        assert!(device.blocking_write_all_at(0, b"y").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"x");
    });
}

#[test]
fn a_full_device_says_so() {
    in_time(|| {
        let host = host(&["pactio_file"]);
        let device = host.open_with("file:/dev/full", OpenOptions::new().write(true)).unwrap();
        let error = host.block_on(device.write_all_at(0, &[0; 10])).unwrap_err();
        assert_eq!(error.code(), Some(Code::NoSpace));
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
        assert_eq!(error.code(), Some(Code::NotSeekable));
        let error = host.open(&format!("file:{}", folder.path().display())).unwrap_err();
        assert_eq!(error.code(), Some(Code::IsDirectory));
        assert_eq!(host.open("file:").unwrap_err().code(), Some(Code::InvalidInput));
        assert_eq!(host.open("file:x?cahce=1").unwrap_err().code(), Some(Code::InvalidInput));
    });
}
