//! Any answers of a store's server give a device, a list, or errors; what is read is what the server has sent.
#![no_main]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use libfuzzer_sys::fuzz_target;
use pactio::{Host, OpenOptions};

/// The answers of a round, the last one first.
static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Separates the answers of an input.
const BETWEEN: &[u8] = b"\n--\n";

/// The host, and the addresses of servers. A closed connection keeps the two addresses busy for a minute.
fn host() -> &'static (Host, Vec<SocketAddr>) {
    static HOST: OnceLock<(Host, Vec<SocketAddr>)> = OnceLock::new();
    HOST.get_or_init(|| {
        let builder = Host::builder().default_search_paths(false).worker_threads(1);
        let host = builder.plugin(pactio_plugin_object::PLUGIN).build().unwrap();
        let serve = |number: u8| {
            let server = TcpListener::bind(([127, 0, 0, number], 0)).unwrap();
            let address = server.local_addr().unwrap();
            std::thread::spawn(move || server.incoming().for_each(|client| answer(client.unwrap())));
            address
        };
        (host, (1..=32).map(serve).collect())
    })
}

/// Answers requests until there are no more answers, or the client is gone.
fn answer(client: TcpStream) {
    // The other side of a broken connection is what is tested, so errors are expected here.
    let mut requests = BufReader::new(&client);
    loop {
        let (mut line, mut body) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if requests.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(len) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                body = len.trim().parse().unwrap_or(0);
            }
        }
        let _ = std::io::copy(&mut (&mut requests).take(body), &mut std::io::sink());
        let Some(answer) = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return };
        if (&client).write_all(&answer).is_err() {
            return;
        }
    }
}

/// The answer of a part of the input: the part itself, if it begins as an answer does, or else one with the part as its body.
fn whole(part: &[u8]) -> Vec<u8> {
    // The client would follow it to another host.
    if part.starts_with(b"HTTP/") && !part.to_ascii_lowercase().windows(8).any(|word| word == b"location") {
        return part.to_vec();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nLast-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
        part.len()
    );
    [head.as_bytes(), part].concat()
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let (host, addresses) = host();
    let mut parts = vec![];
    let mut rest = input;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    let answers = parts.iter().rev().map(|part| whole(part)).collect();
    *ANSWERS.lock().unwrap() = answers;
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    let address = addresses[ROUND.fetch_add(1, Ordering::Relaxed) % addresses.len()];
    let url = match kind % 4 {
        0 => format!("http://{address}/file?retries=0&timeout=5s"),
        1 => format!("http://{address}/folder/?retries=0&timeout=5s"),
        2 => format!("s3:bucket/file?endpoint=http://{address}&anonymous=true&retries=0&timeout=5s"),
        _ => format!("s3:bucket/folder/?endpoint=http://{address}&anonymous=true&retries=0&timeout=5s"),
    };
    let device = match host.open_with(&url, OpenOptions::new().read(true)) {
        Ok(device) => device,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    if kind % 2 == 1 {
        if let Err(error) = pollster::block_on(device.list("")) {
            assert!(!error.to_string().is_empty());
        }
        return;
    }
    let Some(size) = device.size().filter(|&size| size <= 1 << 16) else { return };
    let (report, bytes) = pollster::block_on(device.read_at(0, vec![0; size as usize])).unwrap();
    assert!(report.done() <= bytes.len());
    // The content of an answer that was not given as a whole is known.
    if report.is_done() && size > 0 && parts.iter().all(|part| !part.starts_with(b"HTTP/")) {
        assert!(parts.iter().any(|part| **part == bytes[..]), "these bytes were not sent");
    }
});
