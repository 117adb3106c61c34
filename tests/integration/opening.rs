//! Opening and closing as requests: futures that block no thread of the caller or of the host.

use std::fs;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pactio::{Code, Host, OpenOptions};
use pactio_tests::{host, in_time};

fn opening_host() -> Host {
    host(&["fixture_stuck", "fixture_panic_open", "pactio_file", "pactio_memory"])
}

fn read() -> OpenOptions {
    OpenOptions::new().read(true)
}

/// A file that does not exist yet, and the URL of a device that opens when it does.
fn gate(folder: &tempfile::TempDir) -> (std::path::PathBuf, String) {
    let path = folder.path().join("gate");
    let url = format!("stuck:open@{}", path.display());
    (path, url)
}

#[test]
fn many_devices_are_opened_at_once_and_other_tasks_go_on() {
    in_time(|| {
        let (host, folder) = (opening_host(), tempfile::tempdir().unwrap());
        let (path, url) = gate(&folder);
        let memory = host.open("memory:?size=4KiB").unwrap();
        let all = {
            let (host, url) = (host.clone(), url.clone());
            let task_host = host.clone();
            task_host.spawn(async move { join_all((0..200).map(|_| host.opening(&url, read()))).await })
        };
        // They are under way on no thread that the host needs for these tasks.
        let bytes =
            host.block_on(host.spawn(async move { memory.read_exact_at(0, vec![1; 64]).await.unwrap() }));
        assert_eq!(bytes, [0; 64]);
        assert!(!all.is_finished());
        fs::write(&path, b"").unwrap();
        let opened = host.block_on(all);
        assert_eq!(opened.len(), 200);
        opened.into_iter().for_each(|device| drop(device.unwrap()));
    });
}

#[test]
fn an_opening_is_given_up_by_its_limit_or_its_drop() {
    in_time(|| {
        let (host, folder) = (opening_host(), tempfile::tempdir().unwrap());
        let (path, url) = gate(&folder);
        let error = host.block_on(host.opening(&url, read().within(Duration::from_millis(20)))).unwrap_err();
        assert_eq!(error.code(), Some(Code::TIMED_OUT), "{error}");
        assert!(error.to_string().contains("it is not open after 20ms"), "{error}");
        drop(host.opening(&url, read()));
        fs::write(&path, b"").unwrap();
        // The device that was given up is closed.
        let begun = Instant::now();
        while !host.in_flight().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        // Names in trees.
        fs::write(folder.path().join("one"), b"1").unwrap();
        let tree = host.open(&format!("file:{}", folder.path().display())).unwrap();
        host.block_on(async {
            let device = tree.opening("one", read().within(Duration::from_secs(30))).await.unwrap();
            assert_eq!(device.read_exact_at(0, vec![0; 1]).await.unwrap(), b"1");
            device.closing(Duration::from_secs(30)).await.unwrap();
            for (name, code) in [("none", Code::NOT_FOUND), ("../x", Code::INVALID_INPUT)] {
                let error = tree.opening(name, read()).await.unwrap_err();
                assert_eq!(error.code(), Some(code), "{error}");
            }
            let error = host.opening("none:", read()).await.unwrap_err();
            assert!(error.to_string().contains("no plugin has the scheme 'none'"), "{error}");
            let error = host.opening("no URL", read()).await.unwrap_err();
            assert!(error.to_string().contains("no URL"), "{error}");
            let error = host.opening("panic-open:", read()).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::PANICKED), "{error}");
        });
    });
}

#[test]
fn closing_waits_for_its_limit_and_blocks_nothing() {
    in_time(|| {
        let (host, folder) = (opening_host(), tempfile::tempdir().unwrap());
        let path = folder.path().join("gate");
        let device = host.open(&format!("stuck:close@{}", path.display())).unwrap();
        let (closing, closed) = channel();
        host.spawn(async move {
            closing.send(device.closing(Duration::from_millis(20)).await).unwrap();
        })
        .detach();
        let error = closed.recv().unwrap().unwrap_err();
        assert!(error.to_string().ends_with("its plugin has not come back from closing it"), "{error}");
        let device = host.open(&format!("stuck:close@{}", path.display())).unwrap();
        let closing = device.closing(Duration::from_secs(30));
        fs::write(&path, b"").unwrap();
        host.block_on(closing).unwrap();
        // It is closed also if nothing waits.
        let device = host.open("memory:?size=1").unwrap();
        let other = device.clone();
        drop(device.closing(Duration::from_secs(30)));
        host.block_on(other.closing(Duration::from_secs(30))).unwrap();
    });
}
