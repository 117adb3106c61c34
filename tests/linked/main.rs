//! Plugins that are linked into the program: no file of a plugin is loaded, unless a test says so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use pactio::{Code, ErrorKind, Host, HostBuilder, OpenOptions, RefusalKind};

/// Records the largest allocation of this program, of which linked plugins are a part.
struct Largest;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`, which is the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives a pointer that `alloc` returned for this layout, which came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

fn builder() -> HostBuilder {
    Host::builder()
        .default_search_paths(false)
        .plugin(pactio_plugin_archive::PLUGIN)
        .plugin(pactio_plugin_crypt::PLUGIN)
        .plugin(pactio_plugin_file::PLUGIN)
        .plugin(pactio_plugin_memory::PLUGIN)
        .plugin(pactio_plugin_verify::PLUGIN)
}

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// One test, since the allocator counts for the whole program.
#[test]
fn linked_plugins_work_without_a_file() {
    let host = builder().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, b"linked in").unwrap();
    let device = host.open(&format!("file:{}", path.display())).unwrap();
    assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 9])).unwrap(), b"linked in");
    assert_eq!((device.plugin().path(), device.plugin().place().as_str()), (None, "linked into the program"));
    // The plugin's log goes to the program's log, and errors have the same text as those of a loaded plugin.
    let error = host.open("file:/no/such/file").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open(Code::NOT_FOUND));
    assert_eq!(
        error.to_string(),
        "cannot open 'file:/no/such/file' with plugin 'file': there is no such file"
    );
    let error = host.open("memory:?sizes=1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);

    // Filters on a device of another linked plugin, and a tree.
    let options = OpenOptions::new().read(true).write(true);
    let disk = host.open_with(&format!("memory:?size=64KiB | crypt?key={KEY}"), options).unwrap();
    host.block_on(disk.write_all_at(100, b"secret")).unwrap();
    assert_eq!(host.block_on(disk.read_exact_at(100, vec![0; 6])).unwrap(), b"secret");
    let zip = folder.path().join("tree.zip");
    fs::write(&zip, include_bytes!("../../host/command/src/tree.zip")).unwrap();
    let inner = host.open(&format!("file:{} | archive | /folder/inner", zip.display())).unwrap();
    assert_eq!(inner.size(), Some(12));
    assert!(!host.rescan(), "nothing of a linked plugin changes");
    assert_eq!(host.plugins().len(), 5);

    // A file with the id of a linked plugin is refused; without the linked plugin, the file is loaded.
    let plugins = pactio_tests::folder_of(&["pactio_memory"]);
    let both = builder().search_path(plugins.path()).build().unwrap();
    let candidates = both.candidates();
    let refusal = candidates[0].refusal().unwrap();
    assert_eq!(refusal.kind(), RefusalKind::Duplicate);
    assert!(
        refusal.to_string().contains("is taken by the plugin that is linked into the program"),
        "{refusal}"
    );
    assert!(both.open("memory:?size=1").unwrap().plugin().path().is_none());
    let loaded = Host::builder().default_search_paths(false).search_path(plugins.path()).build().unwrap();
    assert!(loaded.open("memory:?size=1").unwrap().plugin().path().is_some());

    let error = builder().plugin(pactio_plugin_file::PLUGIN).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(RefusalKind::Duplicate));
    assert!(
        error.to_string().starts_with("the linked plugin 'file' cannot be used: two linked plugins"),
        "{error}"
    );

    whole_blocks_are_read_in_place(&host, folder.path());
}

/// Reads of whole blocks allocate no memory of a block's size: blocks are checked and decrypted in the memory of the request.
fn whole_blocks_are_read_in_place(host: &Host, folder: &std::path::Path) {
    let hashes = folder.join("hashes").display().to_string();
    for url in [
        format!("memory:?size=1MiB | verify?make=true&block=16KiB&hashes={hashes}"),
        format!("memory:?size=1MiB | crypt?key={KEY}&block=16KiB"),
        format!(
            "memory:?size=1MiB | verify?make=true&block=16KiB&hashes={hashes} | crypt?key={KEY}&block=16KiB"
        ),
    ] {
        let device = host.open(&url).unwrap();
        let mut buffer = vec![0; 256 << 10];
        for round in 0..20 {
            if round == 2 {
                LARGEST.store(0, Ordering::Relaxed);
            }
            buffer = host.block_on(device.read_exact_at(round * 16384, buffer)).unwrap();
        }
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(largest < 2048, "{url}: an allocation of {largest} bytes");
        // A part of a block takes a buffer, which is used again.
        let mut part = vec![0; 1000];
        part = host.block_on(device.read_exact_at(5, part)).unwrap();
        assert!(LARGEST.swap(0, Ordering::Relaxed) >= 16384, "{url}: the buffer was not seen");
        for _ in 0..10 {
            part = host.block_on(device.read_exact_at(50_000, part)).unwrap();
        }
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(largest < 2048, "{url}: an allocation of {largest} bytes for a part");
    }
}
