//! Writers: if every call has returned `Ok`, the bytes are written; before that, none of them is visible.

use pactio::{Capability, Code, Device, Host, OpenOptions, Seekable};
use pactio_tests::{host, in_time};
use std::fs;
use std::time::Duration;
use tokio_util::compat::FuturesAsyncWriteCompatExt as _;

/// Writes bytes through one kind of writer.
type Writer = fn(Device, &[u8]) -> std::io::Result<()>;

fn by_std(device: Device, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;

    let mut file = std::io::BufWriter::new(Seekable::new(device));
    file.write_all(bytes)?;
    file.into_inner()?.finish().map(drop)
}

fn by_futures(device: Device, bytes: &[u8]) -> std::io::Result<()> {
    use futures_lite::AsyncWriteExt;

    pollster::block_on(async {
        let mut file = Seekable::new(device);
        file.write_all(bytes).await?;
        file.flush().await?;
        file.close().await
    })
}

fn by_tokio(device: Device, mut bytes: &[u8]) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut file = Seekable::new(device).compat_write();
        tokio::io::copy(&mut bytes, &mut file).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut file).await
    })
}

const WRITERS: [(&str, Writer); 3] = [("std", by_std), ("futures", by_futures), ("tokio", by_tokio)];

fn writers_host() -> Host {
    host(&["pactio_file", "pactio_object", "pactio_memory", "pactio_limit"])
}

#[test]
fn a_writer_that_ends_without_an_error_has_written_everything() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), writers_host());
        let path = folder.path().join("x");
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(12_345_678).collect();
        let shown = path.display();
        let urls = [
            format!("file:{shown}"),
            format!("local:{shown}?part=5MiB"),
            format!("local:{shown} | limit?rate=1GiB"),
            format!("file:{} | /x", folder.path().display()),
        ];
        for (name, write) in WRITERS {
            for url in &urls {
                for options in [
                    OpenOptions::new().replace(true),
                    OpenOptions::new().write(true).create(true).truncate(true),
                ] {
                    for len in [0, 5, random.len()] {
                        fs::write(&path, "content from before").unwrap();
                        let what = format!("{name} {url} {len} {options:?}");
                        write(host.open_with(url, options).unwrap(), &random[..len]).expect(&what);
                        assert!(fs::read(&path).unwrap() == random[..len], "{what}");
                    }
                }
            }
            let memory =
                host.open_with("memory:?size=1MiB", OpenOptions::new().read(true).write(true)).unwrap();
            write(memory.clone(), &random[..1 << 20]).unwrap();
            assert!(
                host.block_on(memory.read_exact_at(0, vec![0; 1 << 20])).unwrap() == random[..1 << 20],
                "{name}"
            );
            // Bytes past the end of a fixed size are an error.
            let error = write(memory, &random).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WriteZero, "{name}");
        }
    });
}

#[test]
fn nothing_is_seen_of_bytes_that_are_not_published() {
    use std::io::Write;

    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), writers_host());
        let path = folder.path().join("x");
        fs::write(&path, "before").unwrap();
        for url in [format!("file:{}", path.display()), format!("local:{}", path.display())] {
            let open = || host.open_with(&url, OpenOptions::new().replace(true)).unwrap();
            let device = open();
            assert!(device.capabilities().has(Capability::PUBLISH), "{url}: {:?}", device.capabilities());
            let mut file = Seekable::new(device);
            file.flush().expect("nothing was written");
            file.write_all(b"after").unwrap();
            let error = file.flush().unwrap_err();
            assert!(error.to_string().contains("call `Seekable::finish`"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), b"before");
            // A thread of the host may poll the driver at this moment: `close` waits for it, a drop does not.
            file.into_inner().close(Duration::from_secs(60)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"before");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{url}");
            let device = open();
            host.block_on(device.write_all_at(0, b"new".to_vec())).unwrap();
            host.block_on(device.publish()).unwrap();
            host.block_on(device.publish()).unwrap();
            host.block_on(device.flush()).unwrap();
            let late = host.block_on(device.write_all_at(0, b"late".to_vec())).unwrap_err();
            assert_eq!(late.code(), Some(Code::READ_ONLY));
            assert_eq!(fs::read(&path).unwrap(), b"new");
            fs::write(&path, "before").unwrap();
        }
    });
}

/// A write was accepted and failed later, so bytes are missing: the fragment must not become the content.
#[test]
fn a_fragment_is_not_published() {
    use futures_lite::AsyncWriteExt;

    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), host(&["pactio_file", "pactio_fault"]));
        let path = folder.path().join("x");
        fs::write(&path, "before").unwrap();
        let url = format!("file:{} | fault?write=100", path.display());
        let mut file = Seekable::new(host.open_with(&url, OpenOptions::new().replace(true)).unwrap());
        let written = pollster::block_on(async {
            file.write_all(&[1; 100]).await?;
            file.close().await
        });
        assert!(written.is_err(), "{written:?}");
        assert!(pollster::block_on(file.close()).is_err(), "also if it is closed again");
        assert_eq!(fs::read(&path).unwrap(), b"before");
    });
}

#[test]
fn a_filter_that_hides_how_a_device_is_published_is_refused_for_writing() {
    let (folder, host) = (tempfile::tempdir().unwrap(), host(&["pactio_file", "fixture_xor"]));
    let path = folder.path().join("x");
    fs::write(&path, "before").unwrap();
    let url = format!("file:{} | xor", path.display());
    let error = host.open_with(&url, OpenOptions::new().replace(true)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the filter 'fixture-xor' does not forward 'publish'"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    host.open_with(&url, OpenOptions::new().write(true)).unwrap();
}
