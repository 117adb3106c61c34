//! Any bytes of an NBD client end in replies or a closed connection, and leave the server to others.
#![no_main]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pactio::{Host, OpenOptions};
use pactio_nbd::{Address, Builder};

/// The socket of a server with one export, which runs for the life of the process.
fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("pactio-fuzz-nbd-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let builder = Host::builder().default_search_paths(false).worker_threads(1);
            let host = builder.plugin(pactio_plugin_memory::PLUGIN).build().unwrap();
            let options = OpenOptions::new().read(true).write(true);
            let device = host.open_with("memory:?size=64KiB", options).unwrap();
            let server = host.block_on(Builder::new().writable().export("", device)).unwrap().bind(&address).unwrap();
            ready.send(()).unwrap();
            host.block_on(server.run(std::future::pending()));
        });
        is_ready.recv().unwrap();
        path
    })
}

/// The option that chooses the export, with structured replies and contexts before it.
const CHOOSE: [&[u8]; 3] = [
    b"IHAVEOPT\0\0\0\x08\0\0\0\0",
    b"IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation",
    b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0",
];

fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let mut client = UnixStream::connect(socket()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut greeting = [0; 18];
    client.read_exact(&mut greeting).unwrap();
    let mut bytes = 3u32.to_be_bytes().to_vec();
    // Options, or requests with or without structured replies.
    for option in CHOOSE.iter().skip(match kind % 3 {
        0 => 3,
        1 => 2,
        _ => 0,
    }) {
        bytes.extend(*option);
    }
    bytes.extend(input);
    let _ = client.write_all(&bytes);
    let _ = client.shutdown(std::net::Shutdown::Write);
    let mut replies = Vec::new();
    // The server closes the connection after its last reply, whatever it was sent.
    if let Err(error) = client.read_to_end(&mut replies) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the server does not answer");
    }
});
