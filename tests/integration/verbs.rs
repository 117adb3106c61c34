//! Names in trees are removed and renamed, and folders are made.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use pactio::{Capability, ChangeKind, Code, Device, Host, OpenOptions, RenameMode, Stat};
use pactio_tests::{host, in_time};

use pactio_tests::servers;

fn writable(host: &Host, url: &str) -> Device {
    host.open_with(url, OpenOptions::new().read(true).write(true)).unwrap_or_else(|error| panic!("{error}"))
}

fn put(host: &Host, tree: &Device, name: &str, bytes: &[u8]) {
    let new = OpenOptions::new().write(true).create(true).truncate(true);
    let device = tree.open_with(name, new).unwrap_or_else(|error| panic!("{error}"));
    host.block_on(device.write_all_at(0, bytes.to_vec())).unwrap();
    host.block_on(device.publish()).unwrap();
}

fn names(host: &Host, tree: &Device) -> Vec<String> {
    let entries = host.block_on(tree.list("")).unwrap_or_default();
    entries.iter().map(|entry| entry.name.to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_file_is_made_by_one_of_many_callers() {
    in_time(|| {
        let host = host(&["pactio_file", "pactio_memory", "pactio_object"]);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [path, store] = [0, 1].map(|index| folders[index].path().display().to_string());
        for url in [format!("file:{path}"), "memory:a/?size=1MiB".to_owned(), format!("local:{store}/")] {
            let tree = writable(&host, &url);
            assert!(tree.capabilities().has(Capability::CREATE_FILE), "{url}");
            put(&host, &tree, "kept", b"some bytes");
            let code = |name: &str| host.block_on(tree.create_file(name)).unwrap_err().code();
            assert_eq!(code("kept"), Some(Code::ALREADY_EXISTS), "{url}");
            let kept = tree.open("kept").unwrap();
            assert_eq!(host.block_on(kept.read_range(0..10)).unwrap(), b"some bytes");
            for round in 0..20 {
                let name = format!("new {round}");
                let tasks: Vec<_> = (0..16)
                    .map(|_| {
                        let (tree, name) = (tree.clone(), name.clone());
                        host.spawn(async move { tree.create_file(name).await })
                    })
                    .collect();
                let made: Vec<_> = tasks.into_iter().map(|task| host.block_on(task)).collect();
                let (one, others): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
                assert_eq!(one.len(), 1, "{url}, {name}: {others:?}");
                for error in others {
                    assert_eq!(error.unwrap_err().code(), Some(Code::ALREADY_EXISTS), "{url}");
                }
                assert_eq!(tree.open(&name).unwrap().size(), Some(0), "{url}");
            }
            assert_eq!(code("../x"), Some(Code::INVALID_INPUT));
            // A tree that was opened to be read makes nothing.
            let error = host.block_on(host.open(&url).unwrap().create_file("x")).unwrap_err();
            assert!(error.to_string().contains("does not support 'make files'"), "{error}");
        }
        assert_eq!(
            host.block_on(writable(&host, &format!("file:{path}")).create_file("none/x")).unwrap_err().code(),
            Some(Code::NOT_FOUND)
        );
    });
}

#[test]
fn files_are_copied_within_a_tree() {
    in_time(|| {
        let host = host(&["pactio_file", "pactio_memory", "pactio_object", "fixture_identity"]);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [path, store] = [0, 1].map(|index| folders[index].path().display().to_string());
        for url in [format!("file:{path}"), "memory:c/?size=1MiB".to_owned(), format!("local:{store}/")] {
            let tree = writable(&host, &url);
            assert!(tree.capabilities().has(Capability::COPY_FILE), "{url}");
            let bytes: Vec<u8> = (0..100_000u32).map(|number| (number % 251) as u8).collect();
            put(&host, &tree, "one", &bytes);
            put(&host, &tree, "other", b"old bytes");
            // Stores have no folders of their own.
            let _ = host.block_on(tree.create_folder("folder"));
            put(&host, &tree, "folder/in it", b"");
            let copy = |from: &str, to: &str, mode| {
                host.block_on(tree.copy_file(from, to, mode)).map_err(|error| error.code().unwrap())
            };
            let content = |name: &str| {
                let device = tree.open(name).unwrap();
                host.block_on(device.read_range(0..device.size().unwrap())).unwrap()
            };
            let (keep, replace) = (RenameMode::Keep, RenameMode::Replace);
            assert_eq!(copy("one", "other", keep), Err(Code::ALREADY_EXISTS), "{url}");
            assert_eq!(content("other"), b"old bytes");
            copy("one", "new \u{fc}", keep).unwrap();
            copy("one", "other", replace).unwrap();
            copy("one", "one", replace).unwrap();
            for name in ["one", "other", "new \u{fc}"] {
                assert_eq!(content(name), bytes, "{url}, {name}");
            }
            // The copy is a file of its own.
            put(&host, &tree, "one", b"changed");
            assert_eq!((content("one").len(), content("other").len()), (7, bytes.len()), "{url}");
            assert_eq!(copy("none", "x", replace), Err(Code::NOT_FOUND), "{url}");
            assert_eq!(copy("folder", "x", replace), Err(Code::IS_DIRECTORY), "{url}");
            assert_eq!(copy("one", "folder", replace), Err(Code::IS_DIRECTORY), "{url}");
            assert_eq!(copy("one", "../x", replace), Err(Code::INVALID_INPUT), "{url}");
            assert_eq!(names(&host, &tree), ["folder", "new \u{fc}", "one", "other"], "{url}");
            // Of many at the same time, one succeeds, and each name has a whole copy at all times.
            let tasks: Vec<_> = (0..16)
                .map(|_| {
                    let tree = tree.clone();
                    host.spawn(async move { tree.copy_file("other", "raced", RenameMode::Keep).await })
                })
                .collect();
            let copied: Vec<_> = tasks.into_iter().map(|task| host.block_on(task)).collect();
            assert_eq!(copied.iter().filter(|result| result.is_ok()).count(), 1, "{url}: {copied:?}");
            assert_eq!(content("raced"), bytes, "{url}");
            let error = host.block_on(host.open(&url).unwrap().copy_file("one", "x", replace)).unwrap_err();
            assert!(error.to_string().contains("does not support 'copy files'"), "{error}");
        }
        // A change in place of the source is none of the copy, and a second copy leaves nothing.
        let (tree, path) = (writable(&host, &format!("local:{store}/")), folders[1].path());
        for name in ["raced", "again"] {
            host.block_on(tree.copy_file("other", name, RenameMode::Replace)).unwrap();
            host.block_on(tree.copy_file("other", name, RenameMode::Replace)).unwrap();
        }
        let before = fs::read(path.join("raced")).unwrap();
        fs::OpenOptions::new().append(true).open(path.join("other")).unwrap().write_all(b"!").unwrap();
        assert!(fs::read(path.join("raced")).unwrap() == before && before.len() == 100_000);
        assert!(
            fs::read_dir(path).unwrap().all(|entry| !entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains('#'))
        );
        // No temporary file is left, and modes are kept.
        let path = folders[0].path();
        assert!(
            fs::read_dir(path).unwrap().all(|entry| !entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.'))
        );
        let tree = writable(&host, &format!("file:{}", path.display()));
        fs::set_permissions(path.join("one"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(path.join("other"), Permissions::from_mode(0o600)).unwrap();
        host.block_on(tree.copy_file("one", "fresh", RenameMode::Keep)).unwrap();
        host.block_on(tree.copy_file("one", "other", RenameMode::Replace)).unwrap();
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("fresh"), mode("other")], [0o640, 0o600]);
        // Two names of one file become two files; a link to nothing gets a file, with the permissions of the source.
        fs::hard_link(path.join("one"), path.join("twin")).unwrap();
        std::os::unix::fs::symlink("made", path.join("dangling")).unwrap();
        for name in ["twin", "dangling"] {
            host.block_on(tree.copy_file("one", name, RenameMode::Replace)).unwrap();
        }
        assert_eq!(mode("made"), 0o640);
        fs::OpenOptions::new().append(true).open(path.join("one")).unwrap().write_all(b"!").unwrap();
        assert_eq!(fs::read(path.join("twin")).unwrap(), b"changed");
        fs::write(path.join("one"), b"changed").unwrap();
        // A link to the file itself changes nothing; a link elsewhere stays a link.
        std::os::unix::fs::symlink("one", path.join("link")).unwrap();
        host.block_on(tree.copy_file("one", "link", RenameMode::Replace)).unwrap();
        host.block_on(tree.copy_file("link", "from link", RenameMode::Keep)).unwrap();
        assert!(fs::symlink_metadata(path.join("link")).unwrap().is_symlink());
        assert_eq!(
            [fs::read(path.join("one")).unwrap(), fs::read(path.join("from link")).unwrap()],
            [b"changed", b"changed"]
        );
    });
}

#[test]
fn metadata_of_names_is_set() {
    in_time(|| {
        let host = host(&["pactio_file", "pactio_memory"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for url in [format!("file:{}", path.display()), "memory:s/?size=1MiB".to_owned()] {
            let tree = writable(&host, &url);
            put(&host, &tree, "one", b"bytes");
            let set = |name: &str, stat: &Stat| {
                host.block_on(tree.set_stat(name, stat)).map_err(|error| error.code().unwrap())
            };
            let second = Duration::from_secs(1);
            for time in [
                SystemTime::UNIX_EPOCH + 1_000_000_000 * second + Duration::from_nanos(5),
                SystemTime::UNIX_EPOCH - 10 * second,
                SystemTime::UNIX_EPOCH - Duration::from_millis(250),
            ] {
                set("one", &Stat::default().with_modified(time)).unwrap();
                let stat = host.block_on(tree.open("one").unwrap().stat()).unwrap();
                assert_eq!((stat.modified, stat.size), (Some(time), Some(5)), "{url}");
            }
            let before = host.block_on(tree.open("one").unwrap().stat()).unwrap();
            // Nothing changes if a field cannot be set.
            let odd = Stat::default().with_modified(SystemTime::now()).with_size(3);
            assert_eq!(set("one", &odd), Err(Code::UNSUPPORTED), "{url}");
            set("one", &Stat::default()).unwrap();
            let after = host.block_on(tree.open("one").unwrap().stat()).unwrap();
            assert_eq!(after.modified, before.modified, "{url}");
            assert_eq!(set("none", &Stat::default().with_modified(SystemTime::now())), Err(Code::NOT_FOUND));
            assert_eq!(set("../one", &Stat::default()), Err(Code::INVALID_INPUT));
            let error =
                host.block_on(host.open(&url).unwrap().set_stat("one", &Stat::default())).unwrap_err();
            assert!(error.to_string().contains("does not support 'set metadata'"), "{error}");
        }
        let tree = writable(&host, &format!("file:{}", path.display()));
        let before = fs::metadata(path.join("one")).unwrap().modified().unwrap();
        host.block_on(tree.set_stat("one", &Stat::default().with_mode(0o604))).unwrap();
        let metadata = fs::metadata(path.join("one")).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.modified().unwrap()), (0o604, before));
        // What the tree gives can be set elsewhere, field by field.
        host.block_on(tree.create_folder("sub")).unwrap();
        let accessed = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let mut stat = Stat::default();
        (stat.accessed, stat.mode) = (Some(accessed), Some(0o700));
        host.block_on(tree.set_stat("sub", &stat)).unwrap();
        let metadata = fs::metadata(path.join("sub")).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.accessed().unwrap()), (0o700, accessed));
    });
}

#[test]
fn a_watched_tree_tells_each_change() {
    in_time(|| {
        let host = host(&["pactio_file", "pactio_memory", "pactio_object"]);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [path, store] = [0, 1].map(|index| folders[index].path().display().to_string());
        for url in [format!("file:{path}"), format!("local:{store}/?poll=100ms")] {
            let tree = writable(&host, &url);
            put(&host, &tree, "old", b"old bytes");
            let mut changes = host.block_on(tree.watch()).unwrap();
            // A task waits for the first change.
            let waits = host.spawn({
                let mut changes = changes.clone();
                async move { changes.next().await }
            });
            host.block_on(tree.create_file("new \u{fc}")).unwrap();
            let first = host.block_on(waits).unwrap();
            assert_eq!(first[0].to_string(), "made 'new \u{fc}'", "{url}");
            _ = host.block_on(tree.create_folder("sub"));
            put(&host, &tree, "sub/in it", b"1");
            host.block_on(tree.rename("old", "renamed", RenameMode::Keep)).unwrap();
            host.block_on(tree.remove("new \u{fc}")).unwrap();
            let expected = ["removed 'old'", "made 'renamed'", "removed 'new \u{fc}'"];
            let mut seen: Vec<String> = Vec::new();
            // A list of a store is not of one moment, so the names may come with different lists.
            let is_sub = |change: &String| matches!(&**change, "made 'sub'" | "made 'sub/in it'");
            while !expected.iter().all(|change| seen.iter().any(|seen| seen == change))
                || !seen.iter().any(is_sub)
            {
                seen.extend(host.block_on(changes.next()).unwrap().iter().map(|change| change.to_string()));
            }
            // A change in a folder that was made later.
            thread::sleep(Duration::from_millis(300));
            put(&host, &tree, "sub/in it", b"22");
            while !seen.iter().any(|change| change.contains("'sub/in it'")) {
                seen.extend(host.block_on(changes.next()).unwrap().iter().map(|change| change.to_string()));
            }
        }
        // The folder itself goes away.
        let tree = host.open(&format!("file:{path}/sub")).unwrap();
        let mut changes = host.block_on(tree.watch()).unwrap();
        fs::remove_dir_all(folders[0].path().join("sub")).unwrap();
        let error = loop {
            if let Err(error) = host.block_on(changes.next()) {
                break error;
            }
        };
        assert_eq!(error.code(), Some(Code::NOT_FOUND), "{error}");
        let error = host.block_on(host.open("memory:?size=1MiB").unwrap().watch()).unwrap_err();
        assert!(error.to_string().contains("does not support 'tell changes'"), "{error}");
    });
}

#[test]
fn a_list_of_a_new_folder_and_its_changes_leave_out_no_name() {
    in_time(|| {
        let host = host(&["pactio_file"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let tree = host.open(&format!("file:{}", path.display())).unwrap();
        let mut changes = host.block_on(tree.watch()).unwrap();
        const FOLDERS: u64 = 2000;
        const GROUP: u64 = 40;
        let maker = thread::spawn(move || {
            // Several at once, since the watch of a new folder takes a moment.
            for first in (0..FOLDERS).step_by(GROUP as usize) {
                for number in first..first + GROUP {
                    let place = path.join(number.to_string());
                    match number % 3 {
                        // A folder that gets another name.
                        0 => {
                            fs::create_dir(path.join("other")).unwrap();
                            fs::rename(path.join("other"), &place).unwrap();
                        }
                        1 => fs::create_dir_all(place.join("deep")).unwrap(),
                        _ => fs::create_dir(&place).unwrap(),
                    }
                }
                thread::sleep(Duration::from_micros(first));
                for number in first..first + GROUP {
                    fs::write(path.join(number.to_string()).join("in it"), b"").unwrap();
                }
            }
        });
        let mut missing: std::collections::BTreeSet<u64> = (0..FOLDERS).collect();
        let ends = std::time::Instant::now() + Duration::from_secs(20);
        while !missing.is_empty() {
            let late = async {
                async_io::Timer::at(ends).await;
                None
            };
            let next = async { Some(changes.next().await.unwrap()) };
            let Some(told) = host.block_on(futures_lite::future::or(next, late)) else {
                panic!("neither listed nor told: {missing:?}");
            };
            for change in told {
                let name = change.name.to_str().unwrap();
                let (place, inner) = name.split_once('/').unwrap_or((name, ""));
                let Ok(number) = place.parse() else { continue };
                let listed = || {
                    host.block_on(tree.list(place))
                        .is_ok_and(|all| all.iter().any(|entry| *entry.name == *b"in it"))
                };
                if inner == "in it" || change.kind == ChangeKind::Made && inner.is_empty() && listed() {
                    missing.remove(&number);
                }
            }
        }
        maker.join().unwrap();
    });
}

#[test]
fn lists_under_change_have_each_name_that_stays_once() {
    in_time(|| {
        let host = host(&["pactio_file", "pactio_memory", "pactio_object"]);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [path, store] = [0, 1].map(|index| folders[index].path().display().to_string());
        for url in [format!("file:{path}"), "memory:b/?size=1MiB".to_owned(), format!("local:{store}/")] {
            let tree = writable(&host, &url);
            for number in 0..1500 {
                host.block_on(tree.create_file(format!("stays {number:04}"))).unwrap();
            }
            let ends = Arc::new(AtomicBool::new(false));
            let changes = {
                let (tree, ends) = (tree.clone(), ends.clone());
                host.spawn(async move {
                    for round in 0.. {
                        let name = format!("goes {:02}", round * 7 % 60);
                        if tree.create_file(&name).await.is_err() {
                            tree.remove(&name).await.unwrap();
                        }
                        if ends.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                })
            };
            for _ in 0..10 {
                let lists: Vec<_> = (0..24)
                    .map(|_| {
                        let tree = tree.clone();
                        host.spawn(async move {
                            let (mut pages, mut all) = (tree.list_pages(""), Vec::new());
                            while let Some(page) = pages.next().await.unwrap() {
                                all.extend(page.into_iter().map(|entry| entry.name.to_string()));
                            }
                            all
                        })
                    })
                    .collect();
                for list in lists {
                    let all = host.block_on(list);
                    assert!(all.is_sorted_by(|one, other| one < other), "{url}: a name is listed twice");
                    let stay = all.iter().filter(|name| name.starts_with("stays")).count();
                    assert_eq!(stay, 1500, "{url}");
                }
            }
            ends.store(true, Ordering::SeqCst);
            host.block_on(changes);
        }
    });
}

#[test]
fn names_of_a_folder_are_changed() {
    in_time(|| {
        let host = host(&["pactio_file"]);
        let folder = tempfile::tempdir().unwrap();
        let tree = writable(&host, &format!("file:{}", folder.path().display()));
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), b"1").unwrap();
        fs::write(path("two"), b"2").unwrap();
        host.block_on(async {
            tree.create_folder("sub").await.unwrap();
            tree.create_folder("sub/deep").await.unwrap();
            tree.rename("one", "sub/deep/\u{fc} \n", RenameMode::Keep).await.unwrap();
            let code = |result: Result<(), pactio::Error>| result.unwrap_err().code().unwrap();
            assert_eq!(code(tree.create_folder("sub").await), Code::ALREADY_EXISTS);
            assert_eq!(code(tree.create_folder("none/x").await), Code::NOT_FOUND);
            assert_eq!(
                code(tree.rename("two", "sub/deep/\u{fc} \n", RenameMode::Keep).await),
                Code::ALREADY_EXISTS
            );
            assert_eq!(fs::read(path("two")).unwrap(), b"2");
            assert_eq!(fs::read(path("sub/deep/\u{fc} \n")).unwrap(), b"1");
            tree.rename("two", "sub/deep/\u{fc} \n", RenameMode::Replace).await.unwrap();
            assert_eq!(fs::read(path("sub/deep/\u{fc} \n")).unwrap(), b"2");
            let error = tree.remove("sub").await.unwrap_err();
            assert!(error.to_string().contains("not empty"), "{error}");
            tree.remove("sub/deep/\u{fc} \n").await.unwrap();
            tree.remove("sub/deep").await.unwrap();
            tree.remove("sub").await.unwrap();
            assert_eq!(code(tree.remove("sub").await), Code::NOT_FOUND);
            for bad in ["", "..", "../x", "a//b", "a/./b", "a\0b"] {
                assert_eq!(code(tree.remove(bad).await), Code::INVALID_INPUT, "{bad:?}");
                assert_eq!(
                    code(tree.rename("x", bad, RenameMode::Replace).await),
                    Code::INVALID_INPUT,
                    "{bad:?}"
                );
            }
            // A link is removed, and not its target.
            fs::write(path("target"), b"kept").unwrap();
            std::os::unix::fs::symlink(path("target"), path("link")).unwrap();
            tree.remove("link").await.unwrap();
        });
        assert_eq!(fs::read(path("target")).unwrap(), b"kept");
        assert_eq!(names(&host, &tree), ["target"]);
        // A tree that was opened to be read is not changed.
        let read = host.open(&format!("file:{}", folder.path().display())).unwrap();
        assert!(!read.capabilities().has(Capability::REMOVE));
        let error = host.block_on(read.remove("target")).unwrap_err();
        assert_eq!(error.code(), Some(Code::UNSUPPORTED));
        assert!(error.to_string().contains("does not support 'remove names'"), "{error}");
        assert!(path("target").exists());
    });
}

#[test]
fn objects_are_removed_and_renamed() {
    // The part of Google's protocol that moto has knows no copies.
    let stores: Vec<_> = [servers::moto("s3"), servers::azurite()].into_iter().flatten().collect();
    in_time(move || {
        let host = host(&["pactio_object"]);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let mut urls = vec![format!("local:{}/folder/", folder.path().display())];
        urls.extend(stores.iter().map(|store| store.url("folder/", "")));
        for url in urls {
            let tree = writable(&host, &url);
            put(&host, &tree, "one", b"1");
            put(&host, &tree, "two", b"2");
            host.block_on(async {
                tree.rename("one", "sub/three", RenameMode::Replace)
                    .await
                    .unwrap_or_else(|error| panic!("{url}: {error}"));
                // Not each store can do it, but none replaces the object.
                let kept = tree.rename("two", "sub/three", RenameMode::Keep).await.expect_err(&url);
                let code = kept.code().unwrap();
                assert!(
                    matches!(code, Code::ALREADY_EXISTS | Code::UNSUPPORTED | Code::CHANGED),
                    "{url}: {kept}"
                );
                let device = tree.open("sub/three").unwrap();
                assert_eq!(device.read_exact_at(0, vec![0; 1]).await.unwrap(), b"1");
                tree.copy_file("sub/three", "copied", RenameMode::Replace)
                    .await
                    .unwrap_or_else(|error| panic!("{url}: {error}"));
                let kept = tree.copy_file("two", "copied", RenameMode::Keep).await.expect_err(&url);
                assert_eq!(kept.code(), Some(Code::ALREADY_EXISTS), "{url}: {kept}");
                let device = tree.open("copied").unwrap();
                assert_eq!(device.read_exact_at(0, vec![0; 1]).await.unwrap(), b"1");
                tree.remove("sub/three").await.unwrap();
                assert_eq!(
                    tree.remove("sub/three").await.unwrap_err().code(),
                    Some(Code::NOT_FOUND),
                    "{url}"
                );
                let gone = tree.rename("none", "x", RenameMode::Replace).await.unwrap_err();
                assert_eq!(gone.code(), Some(Code::NOT_FOUND), "{url}: {gone}");
            });
            assert!(names(&host, &tree).contains(&"two".to_owned()), "{url}");
            assert!(!tree.capabilities().has(Capability::CREATE_FOLDER));
        }
    });
}

/// Makes a random change of a tree, and gives its result.
fn change(host: &Host, tree: &Device, random: &mut fastrand::Rng) -> Result<Vec<u8>, Code> {
    let name = |random: &mut fastrand::Rng| -> String {
        let parts: Vec<_> =
            (0..random.usize(1..4)).map(|_| ["a", "a!", "b", "a.c"][random.usize(..4)]).collect();
        parts.join("/")
    };
    let (one, other) = (name(random), name(random));
    let (len, at) = (random.usize(..5000), random.u64(..3000));
    let way = random.usize(..12);
    let bytes: Vec<u8> = (0..len).map(|byte| (byte as u64 + at) as u8).collect();
    let open = OpenOptions::new().read(true).write(true);
    let done = host.block_on(async {
        match way {
            0 | 1 => tree.create_folder(&one).await?,
            2 => tree.remove(&one).await?,
            3 => tree.rename(&one, &other, RenameMode::Keep).await?,
            10 => tree.copy_file(&one, &other, RenameMode::Keep).await?,
            11 => tree.copy_file(&one, &other, RenameMode::Replace).await?,
            4 => tree.rename(&one, &other, RenameMode::Replace).await?,
            5 => tree
                .open_with(&one, open.create(true).truncate(at < 1500))?
                .write_all_at(at, bytes)
                .await?
                .clear(),
            6 => {
                let device = tree.open_with(&one, open.replace(true))?;
                device.write_all_at(0, bytes).await?;
                // Some are closed without being published.
                if at < 2000 {
                    device.publish().await?;
                }
            }
            7 => tree.open_with(&one, open)?.resize(at).await?,
            8 => tree.open_with(&one, open)?.zero(at / 2..at, pactio::ZeroMode::Keep).await?,
            _ => {
                let mut bytes = Vec::new();
                tree.open(&one)?.read_to_end(0, &mut bytes).await?;
                return Ok(bytes);
            }
        }
        Ok::<_, pactio::Error>(Vec::new())
    });
    done.map_err(|error| error.code().unwrap())
}

/// All names of a tree, with the sizes of files.
fn all_names(host: &Host, tree: &Device) -> Vec<(String, Option<u64>)> {
    let (mut all, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = folders.pop() {
        for entry in host.block_on(tree.list(&folder)).unwrap() {
            let front = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let name = format!("{front}{}", entry.name);
            if entry.is_folder() {
                folders.push(name.clone());
            }
            all.push((name, entry.size().filter(|_| !entry.is_folder())));
        }
    }
    all.sort();
    all
}

#[test]
fn a_tree_in_memory_is_as_one_in_files() {
    in_time(|| {
        let host = host(&["pactio_memory", "pactio_file"]);
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let files = writable(&host, &format!("file:{}", folder.path().display()));
            let memory = writable(&host, "memory:/?size=64MiB");
            let mut random = pactio_tests::random();
            for step in 0..300 {
                let mut same = random.clone();
                let expected = change(&host, &files, &mut random);
                let found = change(&host, &memory, &mut same);
                match (&expected, &found) {
                    (Ok(expected), Ok(found)) => assert!(expected == found, "step {step}"),
                    (Err(_), Err(_)) => {}
                    _ => panic!("step {step}: {expected:?}, {found:?}"),
                }
                assert_eq!(all_names(&host, &files), all_names(&host, &memory), "step {step}");
            }
        }
    });
}

#[test]
fn trees_in_memory_are_shared_by_name_and_have_their_room() {
    in_time(|| {
        let host = host(&["pactio_memory"]);
        let one = writable(&host, "memory:shared/?size=10000");
        put(&host, &one, "x", b"bytes");
        let other = writable(&host, "memory:shared/?size=10000 | /x");
        assert_eq!(host.block_on(other.read_exact_at(0, vec![0; 5])).unwrap(), b"bytes");
        let error = host.open("memory:shared/?size=20000").unwrap_err();
        assert!(error.to_string().contains("is open with size=10000"), "{error}");
        assert!(names(&host, &writable(&host, "memory:/?size=10000")).is_empty());
        // The room is that of all files, and comes back.
        for _ in 0..3 {
            let error = host.block_on(other.write_all_at(1, vec![1; 10_000])).unwrap_err();
            assert_eq!(error.code(), Some(Code::NO_SPACE), "{error}");
            host.block_on(other.write_all_at(0, vec![1; 10_000])).unwrap();
            host.block_on(other.resize(5)).unwrap();
        }
        assert_eq!(host.block_on(other.resize(u64::MAX)).unwrap_err().code(), Some(Code::TOO_LARGE));
        assert_eq!(
            host.block_on(other.write_all_at(u64::MAX - 1, b"x")).unwrap_err().code(),
            Some(Code::TOO_LARGE)
        );
        host.block_on(one.remove("x")).unwrap();
        // The open file goes on, and its name is free.
        assert_eq!(host.block_on(other.read_exact_at(0, vec![0; 1])).unwrap(), [1]);
        drop(other);
        put(&host, &one, "y", &[2; 10_000]);
        drop(one);
        assert!(names(&host, &writable(&host, "memory:shared/?size=20000")).is_empty());
    });
}

/// A store with one object, `old`, that answers requests to copy as it is told.
struct Copier {
    address: String,
    shared: Arc<Mutex<(String, Vec<String>)>>,
}

impl Copier {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Mutex::new((String::new(), Vec::new())));
        let also = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), also.clone());
                thread::spawn(move || while Self::serve(&stream, &shared).is_some() {});
            }
        });
        Self { address, shared }
    }

    fn serve(stream: &TcpStream, shared: &Mutex<(String, Vec<String>)>) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut lines = reader.by_ref().lines().map_while(Result::ok);
        let request = lines.next()?;
        let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let len = headers
            .iter()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        reader.read_exact(&mut vec![0; len.unwrap_or(0)]).ok()?;
        let is_copy = headers.iter().any(|line| line.contains("-copy-source: "));
        let mut shared = shared.lock().unwrap();
        let has_new = shared.1.iter().any(|request| request.starts_with("PUT"));
        let is_there = request.contains("old ") || (request.contains("new ") && has_new);
        let list = |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        let answer = match request.split(' ').next()? {
            "PUT" if is_copy => shared.0.clone(),
            "HEAD" if is_there => {
                let date = "Last-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\nETag: \"1\"";
                format!("HTTP/1.1 200 OK\r\n{date}\r\nContent-Length: 5\r\n\r\n")
            }
            // The new name is no folder.
            "GET" if request.contains("comp=list") => {
                list("<EnumerationResults><Blobs/></EnumerationResults>")
            }
            "GET" => list("<ListBucketResult></ListBucketResult>"),
            "DELETE" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            "POST" => {
                let text = "<DeleteResult><Deleted><Key>folder/old</Key></Deleted></DeleteResult>";
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
            }
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        shared.1.push(request);
        (&*stream).write_all(answer.as_bytes()).ok()
    }

    /// Renames `old` to `new`; gives the result, and whether `old` was removed.
    fn rename(&self, host: &Host, url: &str, answer: String) -> (Result<(), pactio::Error>, bool) {
        *self.shared.lock().unwrap() = (answer, Vec::new());
        let tree = writable(host, &url.replace("ADDRESS", &self.address));
        let renamed = host.block_on(tree.rename("old", "new", RenameMode::Replace));
        let is_removal = |request: &String| request.starts_with("DELETE") || request.starts_with("POST");
        let removed = self.shared.lock().unwrap().1.iter().any(is_removal);
        (renamed, removed)
    }
}

#[test]
fn an_object_is_removed_only_after_its_copy_is_confirmed() {
    in_time(|| {
        let (host, store) = (host(&["pactio_object"]), Copier::start());
        let s3 = "s3:bucket/folder/?endpoint=http://ADDRESS&region=x&key-id=a&key=b&retry-for=0s";
        let gs = "gs:bucket/folder/?endpoint=http://ADDRESS&token=x&retry-for=0s";
        let az = "az:bucket/folder/?endpoint=http://ADDRESS/a&account=a&key=Abc8&retry-for=0s";
        let text = |status: &str, text: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        };
        let done =
            "<?xml version=\"1.0\"?>\n<CopyObjectResult xmlns=\"x\"><ETag>\"1\"</ETag></CopyObjectResult>";
        let azure = |state| {
            format!("HTTP/1.1 202 Accepted\r\nx-ms-copy-status: {state}\r\nContent-Length: 0\r\n\r\n")
        };
        for (url, answer) in [(s3, text("200 OK", done)), (gs, text("200 OK", done)), (az, azure("success"))]
        {
            let (renamed, removed) = store.rename(&host, url, answer);
            assert!(removed, "{url}");
            // This server does not answer removals as Azure does.
            match renamed {
                Err(error) if url == az => {
                    assert!(error.to_string().contains("the new one exists, too"), "{error}")
                }
                renamed => renamed.unwrap_or_else(|error| panic!("{url}: {error}")),
            }
        }
        for (url, answer) in [
            (s3, text("200 OK", "")),
            (s3, text("200 OK", "  \n <Error><Code>InternalError</Code></Error>")),
            (s3, text("200 OK", "<Error><Code>AccessDenied</Code></Error>")),
            (s3, text("200 OK", "<html>It works.</html>")),
            (s3, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n<CopyOb".to_owned()),
            (gs, text("200 OK", "")),
            (az, azure("pending")),
            (az, azure("failed")),
        ] {
            let (renamed, removed) = store.rename(&host, url, answer.clone());
            let error = renamed.expect_err(&answer);
            assert!(!removed, "{answer}: {error}");
            assert!(error.to_string().contains("the old name stays"), "{answer}: {error}");
        }
    });
}

#[test]
fn folders_of_stores_are_opened_for_changes_and_versions_are_not() {
    in_time(|| {
        let host = host(&["pactio_object"]);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("sub")).unwrap();
        fs::write(path("sub/name"), b"1").unwrap();
        let url = |name: &str| format!("local:{}", path(name).display());
        // A slash at the end is not needed.
        let tree = writable(&host, &url("sub"));
        let error = host.block_on(writable(&host, &url("")).remove("sub")).unwrap_err();
        assert!(error.to_string().contains("it is a folder"), "{error}");
        host.block_on(tree.rename("name", "other", RenameMode::Keep)).unwrap();
        let error = host.block_on(tree.rename("other", "other", RenameMode::Keep)).unwrap_err();
        assert_eq!(error.code(), Some(Code::ALREADY_EXISTS), "{error}");
        fs::write(path("top"), b"1").unwrap();
        let error =
            host.block_on(writable(&host, &url("")).rename("top", "sub", RenameMode::Replace)).unwrap_err();
        assert!(error.to_string().contains("the new name is a folder") && path("top").exists(), "{error}");
        let error = host.open_with(&url("sub/other"), OpenOptions::new().read(true).write(true)).unwrap_err();
        assert!(error.to_string().contains("open its folder"), "{error}");
        for (name, write) in [("sub", true), ("sub/", false), ("sub/", true), ("sub", false)] {
            let options = OpenOptions::new().read(true).write(write);
            let url = format!(
                "s3:{name}?version=1&endpoint=http://127.0.0.1:1&region=x&key-id=a&key=b&retry-for=0s"
            );
            let error = host.open_with(&url, options).unwrap_err();
            assert!(error.to_string().contains("leave version= out"), "{name}: {error}");
        }
    });
}

#[test]
fn a_local_folder_is_listed_with_all_its_names() {
    use std::os::unix::ffi::OsStrExt;
    in_time(|| {
        let host = host(&["pactio_object"]);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
        for name in [&b"a"[..], b"notes#1", b"#", b"a#b", b"tab\t", b"\xff"] {
            fs::write(path(name), b"1").unwrap();
        }
        fs::create_dir_all(path(b"empty")).unwrap();
        fs::create_dir_all(path(b"sub")).unwrap();
        fs::write(path(b"sub/song#2"), b"1").unwrap();
        fs::create_dir_all(path(b"version#2/in")).unwrap();
        std::os::unix::fs::symlink("itself", path(b"itself")).unwrap();
        std::os::unix::fs::symlink(".", path(b"sub/circle")).unwrap();
        std::os::unix::fs::symlink("nowhere", path(b"dangling")).unwrap();
        let tree = host.open(&format!("local:{}/", folder.path().display())).unwrap();
        assert_eq!(names(&host, &tree), ["#", "a", "a#b", "empty", "sub", "version#2"]);
        assert!(host.block_on(tree.list("empty")).unwrap().is_empty());
        let mut refused: Vec<_> =
            host.block_on(tree.refused()).unwrap().iter().map(|refused| refused.name.to_string()).collect();
        refused.sort();
        assert_eq!(refused, ["dangling", "itself", "notes#1", "sub/song#2", "tab%09", "\u{fffd}"]);
        // Each listed file is opened.
        for name in ["#", "a", "a#b"] {
            let device = tree.open(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 1])).unwrap(), b"1");
        }
        assert!(tree.open("empty").unwrap().capabilities().has(Capability::LIST));
        assert_eq!(host.block_on(tree.list("none")).unwrap_err().code(), Some(Code::NOT_FOUND));
    });
}
