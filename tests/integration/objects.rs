//! The object plugin against servers on loopback: one that is made here and misbehaves on request, and those of other projects,
//! where they are installed.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use pactio::{Code, Device, Host, OpenOptions};
use pactio_tests::servers::{self, Store};
use pactio_tests::{host, in_time, random};

pub(super) fn object_host() -> Host {
    host(&["pactio_archive", "pactio_core", "pactio_file", "pactio_memory", "pactio_object"])
}

/// The faults of the server.
#[derive(Clone, Copy, Default)]
pub(super) struct Manners {
    /// Closes the connection after this number of bytes of each body.
    pub(super) cut_after: Option<usize>,
    /// Answers every range with the whole body.
    pub(super) ignores_ranges: bool,
    /// Ignores conditions.
    pub(super) ignores_conditions: bool,
    /// Waits before each answer.
    pub(super) slow: Duration,
    /// Answers this number of requests with an error first.
    pub(super) busy: usize,
    /// The status of these answers, and the pause in seconds that they ask for.
    pub(super) status: Option<(u16, Option<u32>)>,
    /// The answers that have a tag: all, only those to HEAD, or none.
    pub(super) tags: Tags,
    /// Gives no dates.
    pub(super) dateless: bool,
    /// Reports an empty file, until the file is read.
    pub(super) lazy: bool,
    /// Refuses requests for the metadata alone.
    pub(super) refuses_heads: bool,
    /// Says no lengths.
    pub(super) lengthless: bool,
    /// Receives other bytes than those sent, in this number of requests.
    pub(super) damaging: usize,
    /// Then refuses them itself.
    pub(super) compares: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Tags {
    #[default]
    Always,
    OnlyOfHeads,
    Never,
}

/// A web server of one file, which may be replaced. It may be killed, and started again at the same address.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) shared: Arc<Mutex<Shared>>,
    /// `None` while the server is down.
    listening: Option<thread::JoinHandle<()>>,
}

pub(super) struct Shared {
    body: Vec<u8>,
    version: u32,
    pub(super) manners: Manners,
    /// Ranges that were requested.
    asked: Vec<(usize, usize)>,
    /// The lines of the requests, and their headers.
    pub(super) heads: Vec<(String, HashMap<String, String>)>,
    /// Every request is sent there instead.
    pub(super) elsewhere: Option<String>,
    /// Number of requests.
    pub(super) requests: usize,
    is_down: bool,
    /// The open connections by number, and the next number.
    connections: (HashMap<u64, TcpStream>, u64),
}

impl Server {
    pub(super) fn start(body: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Shared {
            body: body.to_vec(),
            version: 1,
            manners: Manners::default(),
            asked: Vec::new(),
            heads: Vec::new(),
            elsewhere: None,
            requests: 0,
            is_down: false,
            connections: Default::default(),
        };
        let shared = Arc::new(Mutex::new(shared));
        let listening = Some(listen(listener, shared.clone()));
        Self { address, shared, listening }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/folder/file?timeout=2s", self.address)
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared.lock().unwrap());
    }

    /// Closes all connections, and refuses new ones until [`restart`](Self::restart).
    pub(super) fn kill(&mut self) {
        let open = {
            let mut shared = self.shared.lock().unwrap();
            shared.is_down = true;
            std::mem::take(&mut shared.connections.0)
        };
        for connection in open.into_values() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        // The listening thread notices it at the next connection.
        if TcpStream::connect(&self.address).is_ok() {
            self.listening.take().unwrap().join().unwrap();
        }
    }

    pub(super) fn restart(&mut self) {
        self.set(|shared| shared.is_down = false);
        // Another connection of this machine may have the port meanwhile.
        let listener = loop {
            match TcpListener::bind(&self.address) {
                Ok(listener) => break listener,
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        self.listening = Some(listen(listener, self.shared.clone()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.listening.is_some() {
            self.kill();
        }
    }
}

/// Serves each connection on a thread of its own, until the server is down.
fn listen(listener: TcpListener, shared: Arc<Mutex<Shared>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), shared) = (stream, shared.clone()) else { return };
            let number = {
                let mut locked = shared.lock().unwrap();
                if locked.is_down {
                    return;
                }
                let Ok(connection) = stream.try_clone() else { continue };
                let (connections, next) = &mut locked.connections;
                *next += 1;
                connections.insert(*next, connection);
                *next
            };
            thread::spawn(move || {
                while serve(&stream, &shared).is_some() {}
                // The clone goes, too, so that the connection is closed.
                shared.lock().unwrap().connections.0.remove(&number);
            });
        }
    })
}

/// Answers one request; `None` if the connection is to be closed.
fn serve(stream: &TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines();
    let request = lines.next()?.ok()?;
    let mut headers = HashMap::new();
    for line in lines.by_ref() {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let sent = headers.get("content-length").filter(|_| request.starts_with("PUT"));
    let mut sent = vec![0; sent.map_or(0, |len| len.parse().unwrap())];
    reader.read_exact(&mut sent).ok()?;
    let (body, version, manners, elsewhere) = {
        let mut shared = shared.lock().unwrap();
        shared.heads.push((request.clone(), headers.clone()));
        shared.requests += 1;
        let busy = shared.manners.busy;
        shared.manners.busy = busy.saturating_sub(1);
        if !sent.is_empty() && shared.manners.compares && shared.manners.damaging > 0 {
            shared.manners.damaging -= 1;
            sent.clear();
        } else if !sent.is_empty() {
            let damaging = shared.manners.damaging;
            shared.manners.damaging = damaging.saturating_sub(1);
            sent[0] ^= u8::from(damaging > 0);
            shared.body = sent.clone();
        }
        (shared.body.clone(), shared.version, Manners { busy, ..shared.manners }, shared.elsewhere.clone())
    };
    thread::sleep(manners.slow);
    let mut stream = stream;
    let mut answer = |head: String, body: &[u8]| {
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()
    };
    let tag = format!("\"v{version}\"");
    if manners.busy > 0 {
        let text = b"the disks are being moved until noon";
        let (status, pause) = manners.status.unwrap_or((503, None));
        let pause = pause.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} Busy\r\n{pause}Content-Length: {}\r\n\r\n", text.len());
        // An answer to HEAD has no body.
        return answer(head, if request.starts_with("HEAD") { &[] } else { text });
    }
    if let Some(elsewhere) = elsewhere {
        return answer(
            format!("HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"),
            &[],
        );
    }
    if manners.refuses_heads && request.starts_with("HEAD") {
        return answer("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n".to_owned(), &[]);
    }
    if !request.contains("/folder/file ") && !request.contains("/folder/file?") {
        return answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), &[]);
    }
    if headers.get("if-match").is_some_and(|wanted| *wanted != tag) && !manners.ignores_conditions {
        return answer("HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".to_owned(), &[]);
    }
    if request.starts_with("PUT") && sent.is_empty() {
        let text = b"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>";
        return answer(format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n", text.len()), text);
    }
    if !sent.is_empty() {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &sent) as u32;
        let crc = base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes());
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: {tag}\r\nx-goog-hash: crc32c={crc}\r\nContent-Length: 0\r\n\r\n"
        );
        return answer(head, &[]);
    }
    let is_head = request.starts_with("HEAD");
    let mut common = "Accept-Ranges: bytes\r\n".to_owned();
    if manners.tags == Tags::Always || (manners.tags == Tags::OnlyOfHeads && is_head) {
        common += &format!("ETag: {tag}\r\n");
    }
    if !manners.dateless {
        common += &format!("Last-Modified: Mon, 23 Nov 2026 10:00:{version:02} GMT\r\n");
    }
    if is_head {
        if manners.lengthless {
            return answer(format!("HTTP/1.1 200 OK\r\n{common}\r\n"), &[]);
        }
        let len = if manners.lazy { 0 } else { body.len() };
        return answer(format!("HTTP/1.1 200 OK\r\n{common}Content-Length: {len}\r\n\r\n"), &[]);
    }
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let range = range.map(|(from, to)| (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap() + 1));
    let (status, extra, bytes) = match range.filter(|_| !manners.ignores_ranges) {
        Some((from, to)) => {
            let to = to.min(body.len());
            shared.lock().unwrap().asked.push((from, to));
            let extra = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, body.len());
            ("206 Partial Content", extra, &body[from..to])
        }
        None => ("200 OK", String::new(), &body[..]),
    };
    let head = if manners.lengthless {
        format!("HTTP/1.1 {status}\r\n{common}{extra}Connection: close\r\n\r\n")
    } else {
        format!("HTTP/1.1 {status}\r\n{common}{extra}Content-Length: {}\r\n\r\n", bytes.len())
    };
    match manners.cut_after.filter(|cut| *cut < bytes.len()) {
        Some(cut) => {
            answer(head, &bytes[..cut]);
            None
        }
        None => answer(head, bytes).filter(|()| !manners.lengthless),
    }
}

pub(super) fn body(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

pub(super) fn open(host: &Host, url: &str) -> Device {
    host.open(url).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn ranges_are_read_and_joined_where_they_are_close() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1_000_000)));
        let device = open(&host, &format!("{}&gap=1000", server.url()));
        assert_eq!(device.size(), Some(1_000_000));
        // One call, scattered: three places that are far from each other.
        let places: Vec<u64> = [0, 200, 900, 300_000, 300_100, 999_990].into();
        let tasks: Vec<_> = places
            .iter()
            .map(|&place| {
                let device = device.clone();
                (place, host.spawn(async move { device.read_at(place, vec![0; 100]).await.unwrap() }))
            })
            .collect();
        for (place, task) in tasks {
            let (report, bytes) = host.block_on(task);
            let there = (1_000_000 - place as usize).min(100);
            assert_eq!(report.done(), there);
            assert!(bytes[..there] == body(1_000_000)[place as usize..][..there]);
        }
        let mut random = random();
        for _ in 0..50 {
            let (position, len) = (random.usize(0..1_000_100), random.usize(1..50_000));
            let (report, bytes) = host.block_on(device.read_at(position as u64, vec![0; len])).unwrap();
            let there = 1_000_000usize.saturating_sub(position).min(len);
            assert_eq!(report.done(), there);
            assert!(there == 0 || bytes[..there] == body(1_000_000)[position..][..there]);
        }
        server.set(|shared| shared.asked.clear());
        let buffers: Vec<(u64, Vec<u8>)> = (0..64).map(|index| (index * 500, vec![0; 100])).collect();
        let read = host.block_on(async {
            let all = buffers.into_iter().map(|(at, buffer)| device.read_exact_at(at, buffer));
            futures_util::future::join_all(all).await
        });
        assert!(
            read.into_iter().enumerate().all(|(index, bytes)| bytes.unwrap()[0] == (index * 500 % 251) as u8)
        );
        let asked = server.shared.lock().unwrap().asked.len();
        assert!(asked < 32, "64 ranges close to each other took {asked} requests");
    });
}

#[test]
fn devices_with_the_same_settings_share_a_client() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1000)));
        for _ in 0..20 {
            let device = open(&host, &server.url());
            assert_eq!(host.block_on(device.read_exact_at(999, vec![0; 1])).unwrap(), body(1000)[999..]);
        }
        // A client of its own would need a connection of its own. A shared one may make a few: a connection comes back
        // to its client a moment after the last byte.
        let connections = server.shared.lock().unwrap().connections.1;
        assert!(connections < 20, "20 devices made {connections} connections");
        // Other settings need another client.
        open(&host, &format!("{}&retry-for=1s", server.url()));
        assert!(server.shared.lock().unwrap().connections.1 > connections);
    });
}

#[test]
fn what_the_server_says_reaches_the_program() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1000)));
        let device = open(&host, &format!("{}&retry-for=0s", server.url()));
        let stat = host.block_on(device.stat()).unwrap();
        assert_eq!((stat.kind, stat.size), (Some(pactio::Kind::FILE), Some(1000)));
        assert_eq!(stat.version.as_deref(), Some("\"v1\""));
        let modified = stat.modified.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(modified.as_secs() % 60, 1, "{modified:?}");
        let address = server.address.as_str();
        let same = pactio::Identity::stored(format!("http {address}"), "folder/file");
        assert_eq!(stat.identity, Some(same));
        server.set(|shared| shared.manners.busy = 100);
        let error = host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap_err();
        assert!(error.to_string().contains("the disks are being moved until noon"), "{error}");
    });
}

#[test]
fn an_object_that_is_replaced_is_an_error_and_no_mixture() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(100_000)));
        for ignores_conditions in [false, true] {
            let device = open(&host, &server.url());
            assert!(host.block_on(device.read_exact_at(0, vec![0; 100])).is_ok());
            server.set(|shared| {
                shared.version += 1;
                shared.manners.ignores_conditions = ignores_conditions;
            });
            let error = host.block_on(device.read_exact_at(100, vec![0; 100])).unwrap_err();
            assert_eq!(error.code(), Some(Code::CHANGED), "{error}");
            assert!(host.block_on(open(&host, &server.url()).read_exact_at(100, vec![0; 100])).is_ok());
        }
    });
}

#[test]
fn versions_are_told_apart_by_whatever_the_server_says() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(100_000)));
        for tags in [Tags::OnlyOfHeads, Tags::Never] {
            server.set(|shared| {
                shared.manners = Manners { tags, ignores_conditions: true, ..Manners::default() };
            });
            let device = open(&host, &server.url());
            assert!(host.block_on(device.read_exact_at(0, vec![0; 100])).is_ok());
            server.set(|shared| shared.version += 1);
            let error = host.block_on(device.read_exact_at(100, vec![0; 100])).unwrap_err();
            assert_eq!(error.code(), Some(Code::CHANGED), "{error}");
        }
        // An object without any version is read only when the option asks for that.
        server.set(|shared| shared.manners.dateless = true);
        let error = host.open(&server.url()).unwrap_err();
        assert!(error.to_string().contains("unversioned=true reads it all the same"), "{error}");
        let device = open(&host, &format!("{}&unversioned=true", server.url()));
        assert!(host.block_on(device.read_exact_at(0, vec![0; 100])).unwrap() == body(100));
        server.set(|shared| shared.manners = Manners { lazy: true, ..Manners::default() });
        assert_eq!(open(&host, &server.url()).size(), Some(100_000));
    });
}

#[test]
fn large_reads_share_connections_and_far_ones_have_their_turn() {
    in_time(|| {
        let len = 20_000_000;
        let (host, server) = (object_host(), Server::start(&body(len)));
        let device = open(&host, &server.url());
        let bytes = host.block_on(device.read_exact_at(0, vec![0; len])).unwrap();
        assert!(bytes == body(len));
        let mut asked = std::mem::take(&mut server.shared.lock().unwrap().asked);
        asked.sort_unstable();
        assert!(asked.len() == 5 && asked.windows(2).all(|pair| pair[0].1 == pair[1].0), "{asked:?}");
        // As many readers as possible at the front: a read at the end is not the last.
        server.set(|shared| shared.manners.slow = Duration::from_millis(5));
        let far = Arc::new(Mutex::new(None));
        let front: Vec<_> = (0..64)
            .map(|lane| {
                let (device, far) = (device.clone(), far.clone());
                host.spawn(async move {
                    for round in 0..20u64 {
                        let at = (round * 64 + lane) % 100 * 80_000;
                        device.read_exact_at(at, vec![0; 10]).await.unwrap();
                        if far.lock().unwrap().is_some() {
                            return round;
                        }
                    }
                    20
                })
            })
            .collect();
        host.block_on(device.read_exact_at(len as u64 - 10, vec![0; 10])).unwrap();
        *far.lock().unwrap() = Some(());
        let rounds: Vec<u64> = front.into_iter().map(|lane| host.block_on(lane)).collect();
        assert!(rounds.iter().all(|round| *round < 19), "{rounds:?}");
    });
}

#[test]
fn options_that_make_no_sense_are_told_and_others_go_on() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(100)));
        for (url, what) in [
            (
                "s3:bucket/key?endpoint=127.0.0.1:9000",
                "endpoint is '127.0.0.1:9000', which is no address; write it as http://",
            ),
            ("gs:bucket/key?endpoint=nonsense", "endpoint is 'nonsense', which is no address"),
            ("s3:bad bucket/key", "'bad bucket' is no name of a bucket"),
            ("s3:bucket/key?token=a%0Ab", "token has a line break"),
            ("s3:bucket//key", "the key '/key' begins with a slash"),
            ("s3:", "no bucket is named"),
        ] {
            let error = host.open(url).unwrap_err().to_string();
            assert!(error.contains(what), "{url}: {error}");
        }
        open(&host, &server.url());
    });
}

#[test]
fn connections_that_are_cut_are_taken_up_where_they_ended() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(300_000)));
        let device = open(&host, &server.url());
        server.set(|shared| shared.manners.cut_after = Some(70_000));
        let bytes = host.block_on(device.read_exact_at(0, vec![0; 300_000])).unwrap();
        assert!(bytes == body(300_000));
        // A server that sends some bytes and dies: the received bytes are done, and the rest is reported.
        server.set(|shared| shared.manners = Manners { busy: 2, ..Manners::default() });
        assert!(host.block_on(device.read_exact_at(7, vec![0; 10])).unwrap()[0] == 7);
        let few = open(&host, &format!("{}&retry-for=0s", server.url()));
        server.set(|shared| shared.manners.cut_after = Some(1000));
        let (report, bytes) = host.block_on(few.read_at(0, vec![0; 5000])).unwrap();
        assert!(report.done() < 5000, "{report}");
        assert!(bytes[..report.done()] == body(5000)[..report.done()]);
    });
}

#[test]
fn servers_that_are_slow_or_gone_give_errors_in_time() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(10_000)));
        let device = open(&host, &format!("{}&retry-for=0s", server.url().replace("2s", "300ms")));
        server.set(|shared| shared.manners.ignores_ranges = true);
        assert!(host.block_on(device.read_exact_at(5, vec![0; 10])).unwrap() == body(15)[5..]);
        server.set(|shared| shared.manners = Manners { slow: Duration::from_secs(8), ..Manners::default() });
        let begun = Instant::now();
        let error = host.block_on(device.read_exact_at(5, vec![0; 10])).unwrap_err();
        assert!(matches!(error.code(), Some(Code::TIMED_OUT | Code::DISCONNECTED)), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(8));
        // A read that is dropped, and a device that is closed, while an answer is awaited.
        let slow = open(&host, &format!("http://{}/folder/file", server.address));
        let read = host.spawn({
            let slow = slow.clone();
            async move { slow.read_at(0, vec![0; 10]).await }
        });
        thread::sleep(Duration::from_millis(20));
        drop((read, slow));
        let address = server.address.clone();
        drop(server);
        let error = host.open(&format!("http://{address}/folder/other?retry-for=0s&timeout=1s")).unwrap_err();
        assert!(error.code().is_some(), "{error}");
    });
}

#[test]
fn a_folder_as_a_store_is_read_written_and_listed() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), object_host());
        let path = folder.path().display();
        let new = OpenOptions::new().write(true).create(true).truncate(true);
        let bytes = body(12_000_000);
        let device = host.open_with(&format!("local:{path}/deep/big?part=5MiB"), new).unwrap();
        // Out of order, but not far.
        for start in [1_000_000, 0, 3_000_000, 2_000_000] {
            host.block_on(device.write_all_at(start as u64, bytes[start..start + 1_000_000].to_vec()))
                .unwrap();
        }
        host.block_on(device.write_all_at(4_000_000, bytes[4_000_000..].to_vec())).unwrap();
        assert!(!folder.path().join("deep/big").exists(), "it is seen when it is whole");
        host.block_on(device.publish()).unwrap();
        assert!(fs::read(folder.path().join("deep/big")).unwrap() == bytes);
        let again = host.block_on(device.write_all_at(0, vec![1])).unwrap_err();
        assert_eq!(again.code(), Some(Code::READ_ONLY));
        // With a gap the object is not complete; when it is dropped, it never existed.
        let gap = host.open_with(&format!("local:{path}/gap"), new).unwrap();
        host.block_on(gap.write_all_at(10, vec![1; 10])).unwrap();
        assert_eq!(host.block_on(gap.publish()).unwrap_err().code(), Some(Code::INVALID_INPUT));
        drop(gap);
        // Nothing of the uploaded parts is left either, at once.
        let given_up = host.open_with(&format!("local:{path}/given-up?part=5MiB"), new).unwrap();
        let mut writes: Vec<_> = bytes
            .chunks(1 << 20)
            .zip(0u64..)
            .map(|(part, index)| given_up.write_all_at(index << 20, part.to_vec()))
            .collect();
        host.block_on(async {
            for write in &mut writes {
                let _ = futures_util::poll!(write);
            }
        });
        host.block_on(&mut writes[5]).unwrap();
        drop(writes);
        drop(given_up);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["deep"]);
        let tree = host.open(&format!("local:{path}")).unwrap();
        let listed = host.block_on(tree.list("")).unwrap();
        assert_eq!((listed.len(), listed[0].name.to_str(), listed[0].is_folder()), (1, Some("deep"), true));
        let read = tree.open("deep/big").unwrap();
        assert!(host.block_on(read.read_exact_at(0, vec![0; bytes.len()])).unwrap() == bytes);
        fs::write(folder.path().join("deep/big"), vec![0; bytes.len()]).unwrap();
        let error = host.block_on(read.read_exact_at(0, vec![0; 10])).unwrap_err();
        assert_eq!(error.code(), Some(Code::CHANGED));
        assert_eq!(tree.open("deep/none").unwrap_err().code(), Some(Code::NOT_FOUND));
    });
}

/// The servers of other projects that are installed.
fn stores() -> Vec<Store> {
    [servers::moto("s3"), servers::moto("gs"), servers::azurite()].into_iter().flatten().collect()
}

#[test]
fn servers_of_others_take_parts_list_keys_and_hold_versions() {
    let stores = stores();
    in_time(move || stores.into_iter().for_each(write_list_and_replace));
}

fn write_list_and_replace(store: Store) {
    let host = object_host();
    let new = OpenOptions::new().write(true).create(true).truncate(true);
    let bytes = body(12_345_678);
    for (key, len) in [("small", 5), ("folder/big", bytes.len()), ("empty", 0)] {
        let device = host.open_with(&store.url(key, "&part=5MiB"), new).unwrap();
        if len > 0 {
            host.block_on(device.write_all_at(0, bytes[..len].to_vec())).unwrap();
        }
        host.block_on(device.publish()).unwrap();
        let device = open(&host, &store.url(key, ""));
        assert_eq!(device.size(), Some(len as u64));
        let (report, read) = host.block_on(device.read_at(0, vec![0; len + 3])).unwrap();
        assert_eq!(report.done(), len);
        assert!(read[..len] == bytes[..len]);
    }
    let tree = open(&host, &store.url("", ""));
    let names = |folder: &str| {
        let listed = host.block_on(tree.list(folder)).unwrap();
        listed.into_iter().map(|entry| (entry.name.to_string(), entry.size())).collect::<Vec<_>>()
    };
    let entry = |name: &str, size| (name.to_owned(), size);
    assert_eq!(names(""), [entry("empty", Some(0)), entry("folder", None), entry("small", Some(5))]);
    assert_eq!(names("folder"), [entry("big", Some(12_345_678))]);
    // The object is replaced while it is open.
    let device = tree.open("small").unwrap();
    let other = tree.open_with("small", new).unwrap();
    host.block_on(other.write_all_at(0, b"other".to_vec())).unwrap();
    host.block_on(other.publish()).unwrap();
    let error = host.block_on(device.read_exact_at(0, vec![0; 5])).unwrap_err();
    assert_eq!(error.code(), Some(Code::CHANGED), "{}: {error}", store.scheme);
    assert_eq!(tree.open("none").unwrap_err().code(), Some(Code::NOT_FOUND));
    drop(store);
    let gone = host.block_on(other.read_at(0, vec![0; 1])).unwrap();
    assert_eq!(gone.0.done(), 0);
}

#[test]
fn keys_that_are_no_names_do_not_hide_their_folder() {
    let Some(store) = servers::moto("s3") else { return };
    in_time(move || {
        for key in [
            "folder/good",
            "folder//b",
            "folder/../b",
            "folder/tab%09here",
            "folder/both",
            "folder/both-not",
            "folder/both/x",
            "folder/filled/",
            "folder/twice",
            "folder/twice/",
        ] {
            let mut server = TcpStream::connect(("127.0.0.1", store.server.port)).unwrap();
            // One of the keys only marks a folder.
            let body = if key == "folder/twice/" { "" } else { "x" };
            let head = format!(
                "PUT /bucket/{key} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                store.server.port,
                body.len()
            );
            server.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            BufReader::new(server).read_line(&mut answer).unwrap();
            assert!(answer.contains(" 200 "), "{key}: {answer}");
        }
        let host = object_host();
        let folder = open(&host, &store.url("folder/", ""));
        let listed = host.block_on(folder.list("")).unwrap();
        let names: Vec<_> = listed.iter().map(|entry| entry.name.to_str().unwrap()).collect();
        assert_eq!(names, ["both", "both-not", "filled", "good", "twice"]);
        let refused = host.block_on(folder.refused()).unwrap();
        let keys: Vec<_> = refused.iter().map(|refused| refused.name.to_str().unwrap()).collect();
        for key in ["/b", "tab\there", "both", "filled/"] {
            assert!(keys.contains(&key), "{key:?}: {keys:?}");
        }
        assert!(refused.iter().all(|refused| !refused.reason.is_empty()));
        // The whole bucket has the keys of its folders.
        let bucket = open(&host, &store.url("", ""));
        let all = host.block_on(bucket.refused()).unwrap();
        let all: Vec<_> = all.iter().map(|refused| refused.name.to_str().unwrap()).collect();
        assert!(all.contains(&"folder/tab\there") && all.contains(&"folder//b"), "{all:?}");
        assert!(all.contains(&"folder/both"), "{all:?}");
        assert_eq!(host.block_on(folder.list("none")).unwrap_err().code(), Some(Code::NOT_FOUND));
        let none = open(&host, &store.url("none/", ""));
        assert_eq!(host.block_on(none.list("")).unwrap_err().code(), Some(Code::NOT_FOUND));
        assert_eq!(host.block_on(folder.open("good").unwrap().read_exact_at(0, vec![0; 1])).unwrap(), b"x");
        let error = folder.open("tab\there").unwrap_err();
        assert_eq!(error.code(), Some(Code::INVALID_INPUT), "{error}");
    });
}

#[test]
fn bytes_are_compared_with_the_check_sum_of_the_store_when_all_were_read() {
    let Some(store) = servers::moto("s3") else { return };
    in_time(move || {
        let mut random = fastrand::Rng::with_seed(9);
        let bytes: Vec<u8> = (0..9_000_000).map(|_| random.u8(..)).collect();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32;
        // The store keeps the sum that it is given.
        for (key, sum) in [("right", crc), ("wrong", crc ^ 1)] {
            let mut server = TcpStream::connect(("127.0.0.1", store.server.port)).unwrap();
            let head = format!(
                "PUT /bucket/{key} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n\
                 x-amz-checksum-crc32c: {}\r\nx-amz-sdk-checksum-algorithm: CRC32C\r\n\r\n",
                store.server.port,
                bytes.len(),
                base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes()),
            );
            server.write_all(head.as_bytes()).unwrap();
            server.write_all(&bytes).unwrap();
            let mut answer = String::new();
            BufReader::new(server).read_line(&mut answer).unwrap();
            assert!(answer.contains(" 200 "), "{key}: {answer}");
        }
        let host = object_host();
        let read =
            |key: &str| host.block_on(open(&host, &store.url(key, "")).read_at(0, vec![0; bytes.len()]));
        let (report, read_back) = read("right").unwrap();
        assert!(report.is_done() && read_back == bytes, "{report}");
        let (report, _) = read("wrong").unwrap();
        let (_, error) = report.min_error().expect("the sum differs");
        assert_eq!(error.code(), Code::CORRUPT, "{report}");
        // Parts of it are not compared.
        let device = open(&host, &store.url("wrong", ""));
        assert_eq!(host.block_on(device.read_exact_at(5, vec![0; 100])).unwrap(), bytes[5..105]);
        let error = host.block_on(device.read_exact_at(0, vec![0; bytes.len()])).unwrap_err().to_string();
        assert!(error.contains("the check sum that the store keeps"), "{error}");
    });
}

#[test]
fn versions_are_opened_and_media_types_are_kept() {
    let Some(store) = servers::moto("s3") else { return };
    in_time(move || {
        let host = object_host();
        let write = |bytes: &[u8]| {
            let new = OpenOptions::new().write(true).create(true).truncate(true);
            let device = host.open_with(&store.url("key", "&content-type=text/x-test"), new).unwrap();
            host.block_on(device.write_all_at(0, bytes.to_vec())).unwrap();
            host.block_on(device.publish()).unwrap();
        };
        write(b"first");
        let stat = host.block_on(open(&host, &store.url("key", "")).stat()).unwrap();
        assert_eq!(stat.content_type.as_deref(), Some("text/x-test"));
        let error = host.open(&store.url("key", "&version=none")).unwrap_err();
        assert!(error.code().is_some(), "{error}");
        let new = OpenOptions::new().write(true).create(true).truncate(true);
        let error = host.open_with(&store.url("key", "&version=1"), new).unwrap_err();
        assert!(error.to_string().contains("a version of an object cannot be written"), "{error}");
    });
}

#[test]
fn versions_are_listed_and_opened_by_their_names() {
    let Some(store) = servers::moto("s3") else { return };
    in_time(move || {
        let ask = |method: &str, path: &str, body: &str| {
            let mut server = TcpStream::connect(("127.0.0.1", store.server.port)).unwrap();
            let request = format!(
                "{method} /bucket{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n\
                 Authorization: AWS4-HMAC-SHA256 Credential=id/20261130/us-east-1/s3/aws4_request\r\n\r\n{body}",
                store.server.port,
                body.len(),
            );
            server.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            BufReader::new(server).read_line(&mut answer).unwrap();
            assert!(answer.contains(" 20"), "{method} {path}: {answer}");
        };
        ask(
            "PUT",
            "?versioning",
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        );
        for body in ["first", "second", "the third"] {
            ask("PUT", "/folder/a%20%2B%20b", body);
        }
        ask("PUT", "/folder/a", "one");
        ask("DELETE", "/folder/a", "");
        ask("PUT", "/folder/sub/c", "c");
        let host = object_host();
        let folder = open(&host, &store.url("folder/", "&versions=true"));
        let listed = host.block_on(folder.list("")).unwrap();
        let of = |object: &str| {
            let names = listed.iter().map(|entry| entry.name.to_str().unwrap().to_owned());
            names.filter(|name| name.starts_with(&format!("{object}?version="))).collect::<Vec<_>>()
        };
        assert_eq!((listed.len(), of("a + b").len(), of("a").len()), (5, 3, 1), "{listed:?}");
        let read = |device: &Device| {
            let len = device.size().unwrap() as usize;
            host.block_on(device.read_exact_at(0, vec![0; len])).unwrap()
        };
        let mut bodies: Vec<_> = of("a + b").iter().map(|name| read(&folder.open(name).unwrap())).collect();
        bodies.sort();
        assert_eq!(bodies, [&b"first"[..], b"second", b"the third"]);
        // An object that is deleted now.
        assert_eq!(read(&folder.open(&of("a")[0]).unwrap()), b"one");
        let sub = host.block_on(folder.list("sub")).unwrap();
        assert!(sub[0].name.to_str().unwrap().starts_with("c?version="), "{sub:?}");
        // The versions of one object.
        let object = open(&host, &store.url("folder/a", "&versions=true"));
        let listed = host.block_on(object.list("")).unwrap();
        assert_eq!(listed.iter().map(|entry| entry.name.to_str().unwrap()).collect::<Vec<_>>(), of("a"));
        let error = host.open(&store.url("folder/a", "&versions=true&version=1")).unwrap_err();
        assert!(error.to_string().contains("leave version= out"), "{error}");
    });
}

#[test]
fn bytes_that_a_store_received_otherwise_are_sent_again() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(b""));
        let url = format!("gs:folder/file?endpoint=http://{}&token=x&timeout=5s", server.address);
        let new = OpenOptions::new().write(true).create(true).truncate(true);
        let write = |url: &str| {
            let device = host.open_with(url, new).unwrap();
            host.block_on(device.write_all_at(0, body(100_000))).unwrap();
            host.block_on(device.publish())
        };
        server.set(|shared| shared.manners.damaging = 2);
        write(&url).unwrap();
        server.set(|shared| {
            assert!(shared.body == body(100_000));
            let puts = shared.heads.iter().filter(|(request, _)| request.starts_with("PUT")).count();
            assert_eq!(puts, 3);
            shared.manners.damaging = 2;
            shared.manners.compares = true;
        });
        write(&url).unwrap();
        server.set(|shared| {
            shared.manners.damaging = usize::MAX;
            shared.manners.compares = false;
        });
        let error = write(&format!("{url}&retry-for=0s")).unwrap_err();
        assert!(error.to_string().contains("its check sum differs"), "{error}");
    });
}

#[test]
fn a_key_that_is_wrong_is_told() {
    let Some(store) = servers::azurite() else { return };
    in_time(move || {
        let url = store.url("key", "").replace("&key=Eby8", "&retry-for=0s&key=Abc8");
        let error = object_host().open(&url).unwrap_err();
        assert_eq!(error.code(), Some(Code::PERMISSION_DENIED), "{error}");
    });
}

#[test]
fn a_dump_in_an_archive_on_an_s3_server_is_read_at_its_addresses() {
    let Some(store) = servers::moto("s3") else { return };
    in_time(move || {
        let host = object_host();
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let deflated =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file("dumps/image", deflated).unwrap();
        zip.write_all(&body(20_000_000)).unwrap();
        let new = OpenOptions::new().write(true).create(true).truncate(true);
        let url = store.url("dumps.zip", "");
        let device = host.open_with(&url, new).unwrap();
        host.block_on(device.write_all_at(0, zip.finish().unwrap().into_inner())).unwrap();
        host.block_on(device.publish()).unwrap();
        let dump = open(&host, &format!("{url} | archive | /dumps/image | core?at=0x400000"));
        let read = host.block_on(dump.read_exact_at(0x40_0000 + 9_876_543, vec![0; 1000])).unwrap();
        assert!(read == body(20_000_000)[9_876_543..9_877_543]);
    });
}

#[test]
fn nginx_gives_ranges_of_one_version_and_takes_what_is_put() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = servers::nginx(folder.path(), None) else { return };
    in_time(move || {
        let (host, bytes) = (object_host(), body(3_000_000));
        fs::write(folder.path().join("file"), &bytes).unwrap();
        let url = format!("http://127.0.0.1:{}/file?retry-for=1s&timeout=2s", server.port);
        let device = open(&host, &url);
        assert_eq!(device.size(), Some(3_000_000));
        let mut random = random();
        for _ in 0..100 {
            let (position, len) = (random.usize(0..3_000_100), random.usize(1..200_000));
            let (report, read) = host.block_on(device.read_at(position as u64, vec![0; len])).unwrap();
            let there = 3_000_000usize.saturating_sub(position).min(len);
            assert_eq!(report.done(), there);
            assert!(read[..there] == bytes[position.min(3_000_000)..][..there]);
        }
        // The file is replaced as programs do it, by another file of the same length.
        fs::write(folder.path().join("new"), vec![1; 3_000_000]).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(2);
        fs::File::options()
            .append(true)
            .open(folder.path().join("new"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        fs::rename(folder.path().join("new"), folder.path().join("file")).unwrap();
        let error = host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap_err();
        assert_eq!(error.code(), Some(Code::CHANGED), "{error}");
        let new = OpenOptions::new().write(true).create(true).truncate(true);
        let device = host.open_with(&url.replace("/file", "/deep/put"), new).unwrap();
        host.block_on(device.write_all_at(0, bytes.clone())).unwrap();
        host.block_on(device.publish()).unwrap();
        assert!(fs::read(folder.path().join("deep/put")).unwrap() == bytes);
        let device = open(&host, &url);
        assert_eq!(host.open(&url.replace("/file", "/none")).unwrap_err().code(), Some(Code::NOT_FOUND));
        drop(server);
        let (report, _) = host.block_on(device.read_at(0, vec![0; 10])).unwrap();
        assert_eq!(report.done(), 0);
        let (_, error) = report.failed_ranges().next().unwrap();
        assert_eq!(error.code(), Code::DISCONNECTED);
    });
}
