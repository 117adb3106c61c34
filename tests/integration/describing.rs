//! `stat`: the description that devices give of the stored bytes, alone and through filters.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use pactio::{Capability, Host, Identity, Kind, Stat};
use pactio_tests::{host, in_time};

fn hosted() -> Host {
    host(&[
        "pactio_archive",
        "pactio_cache",
        "pactio_cow",
        "pactio_file",
        "pactio_limit",
        "pactio_memory",
        "pactio_mount",
        "pactio_object",
        "pactio_process",
        "pactio_stats",
        "fixture_picky",
    ])
}

fn stat(host: &Host, url: &str) -> Stat {
    let device = host.open(url).unwrap_or_else(|error| panic!("{error}"));
    host.block_on(device.stat()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_file_tells_what_the_system_knows_and_filters_pass_it_on() {
    in_time(|| {
        let (host, folder) = (hosted(), tempfile::tempdir().unwrap());
        let path = folder.path().join("a");
        fs::write(&path, [7; 5000]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let known = fs::metadata(&path).unwrap();
        let url = format!("file:{}", path.display());
        let plain = stat(&host, &url);
        assert_eq!((plain.kind, plain.size, plain.mode), (Some(Kind::FILE), Some(5000), Some(0o640)));
        assert_eq!(plain.modified, known.modified().ok());
        assert_eq!(plain.created, known.created().ok());
        assert_eq!(plain.identity, Some(Identity::file(known.dev(), known.ino())));
        for filter in ["stats", "cache", "limit?rate=1GiB", "limit?rate=1GiB | stats | cache"] {
            let filtered = stat(&host, &format!("{url} | {filter}"));
            // Reads through the filter may have changed the time of the last access.
            assert_eq!(steady(&filtered), steady(&plain), "{filter}");
        }
        let folder_url = format!("file:{}", folder.path().display());
        let opened = stat(&host, &format!("{folder_url} | /a"));
        assert_eq!((opened.identity, opened.size), (plain.identity.clone(), Some(5000)));
        let tree = stat(&host, &folder_url);
        assert!(tree.is_folder() && tree.size.is_none(), "{tree:?}");
        let listed = host.block_on(host.open(&folder_url).unwrap().list("")).unwrap();
        assert_eq!(
            (listed[0].stat.identity.clone(), listed[0].stat.modified),
            (plain.identity, plain.modified)
        );
    });
}

/// The fields that reading does not change.
fn steady(stat: &Stat) -> Stat {
    let mut stat = stat.clone();
    stat.accessed = None;
    stat
}

#[test]
fn other_bytes_have_their_own_size_and_version_and_the_identity_of_their_storage() {
    in_time(|| {
        let (host, folder) = (hosted(), tempfile::tempdir().unwrap());
        let path = folder.path().join("x.zip");
        fs::write(&path, include_bytes!("../../host/command/src/tree.zip")).unwrap();
        let url = format!("file:{}", path.display());
        let storage = stat(&host, &url);
        for name in ["deflated", "stored"] {
            let member = stat(&host, &format!("{url} | archive | /{name}"));
            assert_eq!((member.kind, &member.identity), (Some(Kind::FILE), &storage.identity), "{name}");
            assert!(member.size != storage.size && member.mode.is_none(), "{member:?}");
            assert!(member.version.unwrap().starts_with("crc32:"));
        }
        let mounted = stat(&host, &format!("mount:{url}%7Carchive | /deflated"));
        assert_eq!(mounted.identity, storage.identity);
        let overlay = stat(&host, &format!("{url} | cow"));
        assert_eq!((overlay.identity, overlay.version, overlay.size), (storage.identity, None, storage.size));
    });
}

#[test]
fn memory_and_processes_tell_which_they_are() {
    in_time(|| {
        let host = hosted();
        let memory = stat(&host, "memory:?size=4KiB");
        assert_eq!((memory.kind, memory.size), (Some(Kind::MEMORY), Some(4096)));
        let process = stat(&host, &format!("process:{}", std::process::id()));
        assert_eq!((process.kind, process.size), (Some(Kind::MEMORY), None));
        assert!(matches!(process.identity, Some(Identity::Stored { .. })), "{process:?}");
        // The description of a device without `stat` has only the size.
        let device = host.open("picky:4096").unwrap();
        assert!(!device.capabilities().has(Capability::STAT), "{:?}", device.capabilities());
        assert_eq!(host.block_on(device.stat()).unwrap(), Stat::default().with_size(4096));
    });
}
