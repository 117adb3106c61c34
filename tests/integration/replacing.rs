//! Plugin files that are replaced while the plugins are used.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pactio::{Device, Host, OpenOptions};
use pactio_tests::{host_of, in_time, library};

/// A library in which a word can be replaced by another one.
struct Library {
    bytes: Vec<u8>,
    word: &'static [u8],
    places: Vec<usize>,
}

impl Library {
    fn new(name: &str, word: &'static [u8]) -> Self {
        // Most of the file is not needed here.
        let folder = tempfile::tempdir().unwrap();
        let stripped = folder.path().join("stripped");
        let strip =
            Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(library(name)).status();
        assert!(strip.unwrap().success());
        let bytes = fs::read(stripped).unwrap();
        let mut places = Vec::new();
        // The word is searched by its first byte, since builds for tests are slow.
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|byte| *byte == word[0]) {
            at += next;
            if bytes[at..].starts_with(word) {
                places.push(at);
            }
            at += 1;
        }
        assert!(!places.is_empty(), "{name} does not have the word");
        Self { bytes, word, places }
    }

    fn version(&self, other: &[u8]) -> Vec<u8> {
        assert_eq!(self.word.len(), other.len());
        let mut bytes = self.bytes.clone();
        for at in &self.places {
            bytes[*at..at + other.len()].copy_from_slice(other);
        }
        bytes
    }
}

/// Moves a new file over the old one, as a package manager does.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

/// The name that the fixture's code gives its first region.
fn says(host: &Host, device: &Device) -> String {
    host.block_on(device.regions()).unwrap()[0].name.to_string()
}

/// The number of different libraries with a file name that are mapped.
fn mapped(name: &str) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let inodes: BTreeSet<&str> = maps
        .lines()
        .filter(|line| line.contains(name))
        .filter_map(|line| line.split_whitespace().nth(4))
        .collect();
    inodes.len()
}

#[test]
fn a_file_that_was_replaced_is_a_new_plugin() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libreplaced.so");
        let picky = Library::new("fixture_picky", b"block ");
        replace(&path, &picky.version(b"first "));
        let host = host_of(folder.path());
        let first = host.open("picky:10000").unwrap();
        assert_eq!(says(&host, &first), "first 0");
        assert!(!host.rescan());
        for round in 0..20u8 {
            let word = [b'n', b'e', b'w', b'a' + round, b'-', b' '];
            replace(&path, &picky.version(&word));
            assert!(host.rescan(), "in round {round}");
            let device = host.open("picky:10000").unwrap();
            // The code is that of the new file, not only the manifest, although the system has loaded the path already.
            assert_eq!(says(&host, &device), format!("new{}- 0", char::from(b'a' + round)));
            assert!(!host.rescan(), "in round {round}");
        }
        // Open devices do not change.
        assert_eq!(says(&host, &first), "first 0");
        // If the content of an earlier file comes back, in another file, the plugin is not loaded again.
        let before = mapped("libreplaced.so");
        assert_eq!(before, 21);
        replace(&path, &picky.version(b"first "));
        assert!(host.rescan());
        let again = host.open("picky:10000").unwrap();
        assert_eq!(says(&host, &again), "first 0");
        assert!(std::ptr::eq(again.plugin(), first.plugin()));
        assert_eq!(mapped("libreplaced.so"), before);
        // A plugin without its file is gone, but open devices stay.
        fs::remove_file(&path).unwrap();
        assert!(host.rescan());
        assert!(
            host.open("picky:10000").unwrap_err().to_string().contains("no plugin has the scheme 'picky'")
        );
        assert_eq!(says(&host, &again), "first 0");
    });
}

#[test]
fn a_thousand_replacements_under_load_lose_no_request() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libchanging.so");
        let (one, other) = (&b"answers in its driver"[..], &b"answers in the driver"[..]);
        let queued = Library::new("fixture_queued", one);
        let versions = [queued.version(one), queued.version(other)];
        replace(&path, &versions[0]);
        let host = host_of(folder.path());
        let live = Arc::new(host.open_live("queued:100000", OpenOptions::new().read(true)).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..8u64)
            .map(|task| {
                let (live, stop, requests) = (live.clone(), stop.clone(), requests.clone());
                host.spawn(async move {
                    let mut position = task;
                    while !stop.load(Ordering::SeqCst) {
                        position = position * 31 % 99_000;
                        let bytes = live.device().read_exact_at(position, vec![0; 100]).await.unwrap();
                        assert!(
                            bytes.iter().zip(position..).all(|(byte, at)| *byte == (at % 251) as u8),
                            "{position}: {bytes:?}"
                        );
                        requests.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for round in 1..=1000 {
            replace(&path, &versions[round % 2]);
            assert!(host.rescan(), "in round {round}");
            let description = if round % 2 == 0 { one } else { other };
            // While one of the tasks opens the new device, the other tasks use the old one.
            while live.device().plugin().manifest().description.as_bytes() != description {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::SeqCst);
        for task in tasks {
            host.block_on(task);
        }
        assert!(requests.load(Ordering::SeqCst) > 1000, "{requests:?} requests");
        // Libraries stay mapped: one for each different file.
        assert_eq!(mapped("libchanging.so"), 2);
    });
}

#[test]
fn a_new_plugin_that_cannot_be_used_leaves_the_old_one() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libpicky.so");
        let picky = Library::new("fixture_picky", b"block ");
        replace(&path, &picky.version(b"first "));
        let host = host_of(folder.path());
        let live = host.open_live("picky:10000", OpenOptions::new().read(true)).unwrap();
        replace(&path, b"no library at all");
        assert!(host.rescan());
        assert_eq!(says(&host, &live.device()), "first 0");
        assert!(host.open("picky:10000").is_err());
        replace(&path, &picky.version(b"third "));
        assert!(host.rescan());
        assert_eq!(says(&host, &live.device()), "third 0");
    });
}

/// The files of one name change all the time. A host runs the code of the file that it has examined, or refuses it.
#[test]
fn what_was_examined_is_what_runs() {
    let rounds: u32 = std::env::var("PACTIO_SWAPS").map_or(300, |count| count.parse().unwrap());
    in_time(move || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libswapped.so");
        let picky = Library::new("fixture_picky", b"block ");
        // The description is in the manifest, the name of the regions in the code.
        let version = |word: &[u8]| {
            let mut bytes = picky.version(word);
            let said = b"takes only what";
            let places: Vec<usize> =
                (0..bytes.len() - said.len()).filter(|&at| bytes[at..].starts_with(said)).collect();
            assert!(!places.is_empty(), "the file does not have the description");
            for at in places {
                bytes[at..at + word.len()].copy_from_slice(word);
            }
            bytes
        };
        let versions = [version(b"first "), version(b"other ")];
        replace(&path, &versions[0]);
        let stop = Arc::new(AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let (stop, path) = (stop.clone(), path.clone());
            move || {
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    match round % 3 {
                        // The file is written in place, as careless programs do.
                        2 => fs::write(&path, &versions[round % 2]).unwrap(),
                        _ => replace(&path, &versions[round % 2]),
                    }
                    std::thread::sleep(Duration::from_millis(fastrand::u64(..20)));
                }
            }
        });
        let (mut used, mut refused) = (0, 0);
        for _ in 0..rounds {
            let host = host_of(folder.path());
            let Some(plugin) = host.plugins().first().cloned() else { continue };
            match plugin.load() {
                Ok(()) => {
                    let code = says(&host, &host.open("picky:10000").unwrap());
                    assert_eq!(code[..6], plugin.manifest().description[..6], "other code runs");
                    used += 1;
                }
                Err(refusal) => {
                    assert_eq!(refusal.kind(), pactio::RefusalKind::Replaced, "{refusal}");
                    refused += 1;
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        swapping.join().unwrap();
        println!("swaps: {used} used, {refused} refused, 0 other code");
    });
}
