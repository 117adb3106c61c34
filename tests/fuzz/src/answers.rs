//! Any answers of a store's server lead to a device, a list or an error. A read returns the bytes that the server sent.
#![no_main]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};

use libfuzzer_sys::fuzz_target;
use pactio::{Host, OpenOptions};

/// The answers of a round, the last one first.
static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Separates the answers of an input.
const BETWEEN: &[u8] = b"\n--\n";

/// The host, and the address of the server.
fn host() -> &'static (Host, SocketAddr) {
    static HOST: OnceLock<(Host, SocketAddr)> = OnceLock::new();
    HOST.get_or_init(|| {
        let builder = Host::builder().default_search_paths(false).worker_threads(1);
        let host = builder.plugin(pactio_plugin_object::PLUGIN).build().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || server.incoming().for_each(|client| answer(client.unwrap())));
        (host, address)
    })
}

/// Answers a request, unless there are no more answers, and closes the connection.
fn answer(client: TcpStream) {
    let mut request = BufReader::new(&client);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if request.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
    }
    let answer = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).pop();
    // A client may refuse an answer before its end.
    let _ = (&client).write_all(&answer.unwrap_or_default());
}

/// The answer for a part of the input: the part itself, if it begins as an answer does, or else an answer with the part as its
/// body.
fn whole(part: &[u8]) -> Vec<u8> {
    // A redirection is not sent, since the client would follow it to another host.
    if part.starts_with(b"HTTP/") && !part.to_ascii_lowercase().windows(8).any(|word| word == b"location") {
        return part.to_vec();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"1\"\r\nLast-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
        part.len()
    );
    [head.as_bytes(), part].concat()
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let (host, address) = host();
    let mut parts = vec![];
    let mut rest = input;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    let answers = parts.iter().rev().map(|part| whole(part)).collect();
    *ANSWERS.lock().unwrap() = answers;
    let url = match kind % 4 {
        0 => format!("http://{address}/file?retry-for=0s&timeout=5s"),
        1 => format!("http://{address}/folder/?retry-for=0s&timeout=5s"),
        2 => format!("s3:bucket/file?endpoint=http://{address}&anonymous=true&retry-for=0s&timeout=5s"),
        _ => format!("s3:bucket/folder/?endpoint=http://{address}&anonymous=true&retry-for=0s&timeout=5s"),
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
    assert!(report.done() <= bytes.len(), "{report} into {} bytes", bytes.len());
    // If no part is an answer by itself, the content of each answer is known: a part.
    if report.is_done() && size > 0 && parts.iter().all(|part| !part.starts_with(b"HTTP/")) {
        assert!(parts.iter().any(|part| **part == bytes[..]), "these bytes were not sent");
    }
});
