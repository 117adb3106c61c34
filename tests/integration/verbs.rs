//! Names in trees are removed and renamed, and folders are made.

use std::fs;

use pactio::{Capability, Code, Device, Host, OpenOptions, RenameMode};
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
