//! The NBD server, by a client of its own and by the tools of the NBD project where they are installed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use pactio::{Device, Host, OpenOptions};
use pactio_nbd::{Address, Builder};
use pactio_tests::{host, in_time};

/// A server in a thread of its own, until it is dropped.
struct Running {
    folder: tempfile::TempDir,
    uri: String,
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(builder: Builder) -> Self {
        Self::at(builder, |folder| Address::Unix(folder.join("socket")))
    }

    fn at(builder: Builder, address: impl FnOnce(&Path) -> Address) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = builder.bind(&address(folder.path())).unwrap();
        let (uri, (stop, stopped)) = (server.uri(), channel::<()>());
        let thread = thread::spawn(move || {
            futures_lite::future::block_on(server.run(async move {
                let _ = blocking::unblock(move || stopped.recv()).await;
            }));
        });
        Self { folder, uri, stop: Some(stop), thread: Some(thread) }
    }

    fn of(host: &Host, device: Device) -> Self {
        Self::start(host.block_on(Builder::new().writable().export("", device)).unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client that sends what it is told to.
struct Client(UnixStream);

/// A chunk of a reply: its flags, type, cookie and bytes; a simple reply has the type `u16::MAX` and its error as bytes.
type Chunk = (u16, u16, u64, Vec<u8>);

impl Client {
    fn connect(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        stream.write_all(&3u32.to_be_bytes()).unwrap();
        Self(stream)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn number(&mut self, len: usize) -> u64 {
        self.bytes(len).into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
    }

    /// Sends an option, and gives the replies up to the last one.
    fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.0.write_all(&bytes).unwrap();
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.number(8), 0x3_e889_0455_65a9);
            assert_eq!(self.number(4), u64::from(option));
            let kind = self.number(4) as u32;
            let len = self.number(4) as usize;
            replies.push((kind, self.bytes(len)));
            if kind == 1 || kind >> 31 == 1 {
                return replies;
            }
        }
    }

    /// Chooses an export; gives its size and flags.
    fn go(&mut self, name: &str) -> (u64, u16) {
        let data = [&(name.len() as u32).to_be_bytes()[..], name.as_bytes(), &[0, 0]].concat();
        let replies = self.option(7, &data);
        assert_eq!(replies.last().unwrap().0, 1, "{replies:?}");
        let export = &replies.iter().find(|(kind, data)| *kind == 3 && data[..2] == [0, 0]).unwrap().1;
        (
            u64::from_be_bytes(export[2..10].try_into().unwrap()),
            u16::from_be_bytes(export[10..].try_into().unwrap()),
        )
    }

    /// A connection with structured replies.
    fn structured(path: &Path) -> Self {
        let mut client = Self::connect(path);
        assert_eq!(client.option(8, b"")[0].0, 1);
        client
    }

    fn send(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, len: u32, data: &[u8]) {
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(data);
        self.0.write_all(&bytes).unwrap();
    }

    fn chunk(&mut self) -> Chunk {
        match self.number(4) {
            0x6744_6698 => {
                let error = self.bytes(4);
                (1, u16::MAX, self.number(8), error)
            }
            0x668e_33ef => {
                let (flags, kind, cookie) = (self.number(2) as u16, self.number(2) as u16, self.number(8));
                let len = self.number(4) as usize;
                (flags, kind, cookie, self.bytes(len))
            }
            magic => panic!("{magic:#x}"),
        }
    }

    /// The error of a simple reply.
    fn result(&mut self) -> u64 {
        let (_, kind, _, error) = self.chunk();
        assert_eq!(kind, u16::MAX);
        error.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
    }
}

fn writable(host: &Host, url: &str) -> Device {
    host.open_with(url, OpenOptions::new().read(true).write(true)).unwrap()
}

#[test]
fn a_client_reads_and_writes_and_is_told_what_fails() {
    in_time(|| {
        let host = host(&["pactio_memory"]);
        let mut server = Running::of(&host, writable(&host, "memory:?size=1MiB&fill=7"));
        let mut client = Client::connect(&server.socket());
        assert_eq!(client.option(3, b"")[0], (2, vec![0, 0, 0, 0]));
        // Options that are unknown, malformed, or for an export that does not exist.
        assert_eq!(client.option(77, b"x")[0].0, 1 << 31 | 1);
        assert_eq!(client.option(7, b"x")[0].0, 1 << 31 | 3);
        assert_eq!(client.option(6, &[0, 0, 0, 1, b'y', 0, 0])[0].0, 1 << 31 | 6);
        assert_eq!(client.option(5, b"")[0].0, 1 << 31 | 1);
        let (size, flags) = client.go("");
        assert_eq!((size, flags & 0b1111), (1 << 20, 0b1101));
        client.send(0, 0, 1, 10, 5, b"");
        assert_eq!(client.result(), 0);
        assert_eq!(client.bytes(5), [7; 5]);
        client.send(1, 1, 2, 10, 3, b"abc");
        assert_eq!(client.result(), 0);
        client.send(0, 6, 3, 11, 1, b"");
        assert_eq!(client.result(), 0);
        client.send(0, 3, 4, 0, 0, b"");
        assert_eq!(client.result(), 0);
        client.send(0, 0, 5, 9, 5, b"");
        assert_eq!(client.result(), 0);
        assert_eq!(client.bytes(5), [7, b'a', 0, b'c', 7]);
        // TRIM, and zeros that must be fast and leave no hole.
        client.send(1, 4, 5, 12, 1, b"");
        assert_eq!(client.result(), 0);
        client.send(16 | 2, 6, 5, 10, 1, b"");
        assert_eq!(client.result(), 0);
        client.send(0, 0, 5, 9, 5, b"");
        assert_eq!(client.result(), 0);
        assert_eq!(client.bytes(5), [7, 0, 0, 0, 7]);
        for (flags, command, offset, len, error) in [
            (0, 0, 1 << 20, 1, 22),
            (0, 0, u64::MAX, 1, 22),
            (0, 0, 0, (32 << 20) + 1, 22),
            (0, 99, 0, 1, 22),
            (1 << 9, 0, 0, 1, 22),
            (0, 6, (1 << 20) - 1, 2, 28),
            (0, 4, (1 << 20) - 1, 2, 22),
            (0, 7, 0, 1, 22),
        ] {
            client.send(flags, command, 6, offset, len, b"");
            assert_eq!(client.result(), error, "command {command} at {offset}");
        }
        client.send(0, 1, 7, (1 << 20) - 1, 2, b"zz");
        assert_eq!(client.result(), 28);
        client.send(0, 2, 8, 0, 0, b"");
        assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
        server.end();
        assert!(!server.socket().exists());
    });
}

#[test]
fn a_failed_range_is_exactly_that_range() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let (image, hashes) = (folder.path().join("image"), folder.path().join("hashes"));
        std::fs::write(&image, vec![5; 1 << 20]).unwrap();
        let host = host(&["pactio_file", "pactio_verify"]);
        let url = format!("file:{} | verify?hashes={}", image.display(), hashes.display());
        drop(host.open(&url.replace("?hashes", "?make=true&hashes")).unwrap());
        std::fs::File::options().write(true).open(&image).unwrap().write_all(&[5, 6]).unwrap();
        let server = Running::of(&host, host.open(&url).unwrap());
        let mut client = Client::structured(&server.socket());
        let (_, flags) = client.go("");
        assert_eq!(flags & 2, 2, "it can only be read");
        client.send(0, 0, 1, 1000, 100_000, b"");
        let mut chunks = vec![client.chunk()];
        while chunks.last().unwrap().0 & 1 == 0 {
            chunks.push(client.chunk());
        }
        // The first block is damaged: 64 KiB, of which the request has all but 1000 bytes.
        let error = chunks.iter().find(|(_, kind, ..)| *kind == 1 << 15 | 2).unwrap();
        assert_eq!(
            (&error.3[..4], &error.3[error.3.len() - 8..]),
            (&5u32.to_be_bytes()[..], &1000u64.to_be_bytes()[..])
        );
        let text = String::from_utf8_lossy(&error.3[6..error.3.len() - 8]).into_owned();
        assert!(text.starts_with("64536 bytes: "), "{text}");
        let data = chunks.iter().find(|(_, kind, ..)| *kind == 1).unwrap();
        assert_eq!(data.3[..8], 65536u64.to_be_bytes());
        assert_eq!(data.3[8..], vec![5; 101_000 - 65536]);
        assert_eq!(chunks.len(), 3, "{:?}", chunks.iter().map(|chunk| chunk.1).collect::<Vec<_>>());
        // One chunk is asked for: the error alone.
        client.send(4, 0, 3, 1000, 100_000, b"");
        let mut chunks = vec![client.chunk()];
        while chunks.last().unwrap().0 & 1 == 0 {
            chunks.push(client.chunk());
        }
        assert!(chunks.iter().all(|(_, kind, ..)| *kind != 1) && chunks.len() == 2);
        client.send(0, 1, 2, 0, 1, b"x");
        let (_, kind, _, error) = client.chunk();
        assert_eq!((kind, &error[..4]), (1 << 15 | 1, &1u32.to_be_bytes()[..]));
    });
}

#[test]
fn requests_overtake_each_other_and_are_answered_at_the_end() {
    in_time(|| {
        let host = host(&["pactio_memory", "pactio_delay"]);
        let device = writable(&host, "memory:?size=1MiB&fill=3 | delay?latency=300ms");
        let mut server = Running::of(&host, device);
        let mut client = Client::structured(&server.socket());
        client.go("");
        let begun = Instant::now();
        for cookie in 0..100 {
            client.send(0, 0, cookie, cookie * 100, 10, b"");
        }
        let mut cookies: Vec<u64> = (0..50).map(|_| client.chunk().2).collect();
        // The rest is answered after the server was told to end.
        let ending = thread::spawn(move || server.end());
        cookies.extend((50..100).map(|_| client.chunk().2));
        assert!(begun.elapsed() < Duration::from_secs(25), "one after the other takes 30 s");
        cookies.sort_unstable();
        assert!(cookies.into_iter().eq(0..100));
        assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
        ending.join().unwrap();
    });
}

#[test]
fn states_of_ranges_follow_the_device() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image # 1");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(1 << 20).unwrap();
        let host = host(&["pactio_file"]);
        let server = Running::start(
            host.block_on(
                Builder::new().export("a b", host.open(&format!("file:{}", image.display())).unwrap()),
            )
            .unwrap(),
        );
        assert!(server.uri.starts_with("nbd+unix:///a%20b?socket="), "{}", server.uri);
        let mut client = Client::structured(&server.socket());
        let query = |name: &str, context: &str| {
            let mut data = (name.len() as u32).to_be_bytes().to_vec();
            data.extend(name.as_bytes());
            data.extend(1u32.to_be_bytes());
            data.extend((context.len() as u32).to_be_bytes());
            data.extend(context.as_bytes());
            data
        };
        assert_eq!(client.option(9, &query("a b", "base:"))[0].0, 4);
        let set = client.option(10, &query("a b", "base:allocation"));
        assert_eq!(set[0], (4, [&1u32.to_be_bytes()[..], b"base:allocation"].concat()));
        // An option that fails takes the contexts back.
        assert_eq!(client.option(10, b"x")[0].0, 1 << 31 | 3);
        client.go("a b");
        client.send(0, 7, 1, 0, 100, b"");
        assert_eq!(client.chunk().1, 1 << 15 | 1);
        let mut client = Client::structured(&server.socket());
        client.option(10, &query("a b", "base:allocation"));
        client.go("a b");
        let states = |client: &mut Client, flags| {
            client.send(flags, 7, 1, 0, 1 << 20, b"");
            let (_, kind, _, data) = client.chunk();
            assert_eq!((kind, &data[..4]), (5, &1u32.to_be_bytes()[..]));
            let numbers: Vec<u32> =
                data[4..].chunks(4).map(|number| u32::from_be_bytes(number.try_into().unwrap())).collect();
            numbers
        };
        assert_eq!(states(&mut client, 0), [1 << 20, 3]);
        // Another program fills the hole of an export that can only be read.
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 65536], 65536).unwrap();
        let since = Instant::now();
        while states(&mut client, 0) == [1 << 20, 3] {
            assert!(since.elapsed() < Duration::from_secs(20), "the state is never asked for again");
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(states(&mut client, 0), [65536, 3, 65536, 0, (1 << 20) - 131_072, 3]);
        assert_eq!(states(&mut client, 8), [65536, 3]);
    });
}

#[test]
fn a_client_that_takes_no_replies_does_not_hold_up_the_end() {
    in_time(|| {
        let host = host(&["pactio_memory", "pactio_delay"]);
        let mut server = Running::of(&host, writable(&host, "memory:?size=32MiB&fill=1"));
        let mut client = Client::structured(&server.socket());
        client.go("");
        for cookie in 0..60 {
            client.send(0, 0, cookie, 0, 1 << 20, b"");
        }
        let since = Instant::now();
        server.end();
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
        // A device that does not answer.
        let mut server = Running::of(&host, writable(&host, "memory:?size=1MiB | delay?latency=1h"));
        let mut waiting = Client::structured(&server.socket());
        waiting.go("");
        waiting.send(0, 0, 1, 0, 10, b"");
        let since = Instant::now();
        server.end();
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
        drop(client);
    });
}

#[test]
fn devices_that_are_written_as_a_whole_are_not_exported_for_writing() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(&["pactio_file"]);
    let url = format!("file:{}", folder.path().join("new").display());
    let device = host.open_with(&url, OpenOptions::new().replace(true)).unwrap();
    let error = host.block_on(Builder::new().writable().export("", device)).err().unwrap();
    assert!(error.to_string().contains("is only written as a whole"), "{error}");
}

#[test]
fn garbage_ends_only_its_own_connection() {
    in_time(|| {
        let host = host(&["pactio_memory"]);
        let server = Running::of(&host, writable(&host, "memory:?size=1MiB&fill=1"));
        let mut good = Client::structured(&server.socket());
        good.go("");
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..60 {
            let mut bad = Client::connect(&server.socket());
            if round % 2 == 0 {
                bad.go("");
            }
            let bytes: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            let _ = bad.0.write_all(&bytes);
            if round % 3 == 0 {
                let _ = bad.0.shutdown(std::net::Shutdown::Write);
                let _ = bad.0.read_to_end(&mut Vec::new());
            }
        }
        // A write whose bytes never come, and one that is too large.
        let mut cut = Client::connect(&server.socket());
        cut.go("");
        cut.send(0, 1, 1, 0, 1000, b"only a part");
        drop(cut);
        let mut large = Client::connect(&server.socket());
        large.go("");
        large.send(0, 1, 1, 0, u32::MAX, b"");
        assert_eq!(large.0.read(&mut [0]).unwrap_or(0), 0);
        good.send(0, 0, 9, 0, 4, b"");
        let (flags, kind, cookie, bytes) = good.chunk();
        assert_eq!((flags, kind, cookie, &bytes[8..]), (1, 1, 9, &[1; 4][..]));
    });
}

#[test]
fn names_of_a_tree_are_exports() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/ü"), b"deep").unwrap();
        std::fs::write(folder.path().join("top"), b"high").unwrap();
        let host = host(&["pactio_file"]);
        let tree = host.open(&format!("file:{}", folder.path().display())).unwrap();
        let server = Running::start(Builder::new().tree(tree).unwrap());
        let mut client = Client::connect(&server.socket());
        let listed = client.option(3, b"");
        let mut names: Vec<_> =
            listed[..listed.len() - 1].iter().map(|(_, data)| data[4..].to_vec()).collect();
        names.sort();
        assert_eq!(names, ["sub/ü".as_bytes(), b"top"]);
        for bad in ["none", "../top", "sub", ""] {
            let data = [&(bad.len() as u32).to_be_bytes()[..], bad.as_bytes(), &[0, 0]].concat();
            assert_eq!(client.option(6, &data).last().unwrap().0, 1 << 31 | 6, "{bad}");
        }
        assert_eq!(client.go("sub/ü").0, 4);
        client.send(0, 0, 1, 0, 4, b"");
        assert_eq!((client.result(), client.bytes(4)), (0, b"deep".to_vec()));
    });
}

#[test]
fn addresses_are_guarded() {
    let host = host(&["pactio_memory"]);
    let builder = || host.block_on(Builder::new().export("", host.open("memory:?size=1").unwrap())).unwrap();
    let error = builder().bind(&Address::Tcp("0.0.0.0:0".parse().unwrap())).err().unwrap();
    assert!(error.to_string().contains("needs TLS"), "{error}");
    let server = builder().bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    assert!(server.uri().starts_with("nbd://127.0.0.1:"), "{}", server.uri());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let first = builder().bind(&Address::Unix(path.clone())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let error = builder().bind(&Address::Unix(path.clone())).err().unwrap();
    assert!(error.to_string().contains("cannot listen at"), "{error}");
    drop(first);
    // A socket that was left behind, and a file that is none.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(builder().bind(&Address::Unix(path.clone())).unwrap());
    std::fs::write(&path, b"data").unwrap();
    assert!(builder().bind(&Address::Unix(path.clone())).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

/// Whether a tool is installed; if not, its test says so.
fn has(tool: &str) -> bool {
    let found = Path::new("/usr/bin").join(tool).exists();
    if !found {
        println!("skipped: {tool} is not installed");
    }
    found
}

fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(Path::new("/usr/bin").join(tool)).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{tool} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn tls_requires_certificates_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(path("ca-cert.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(root, key);
    for side in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        std::fs::write(path(&format!("{side}-cert.pem")), params.signed_by(&key, &issuer).unwrap().pem())
            .unwrap();
        std::fs::write(path(&format!("{side}-key.pem")), key.serialize_pem()).unwrap();
    }
    let wrong =
        pactio_nbd::tls_config(&path("server-key.pem"), &path("server-key.pem"), &path("ca-cert.pem"));
    assert!(wrong.unwrap_err().to_string().contains("server-key.pem': it has no certificate"));
    let config =
        pactio_nbd::tls_config(&path("server-cert.pem"), &path("server-key.pem"), &path("ca-cert.pem"))
            .unwrap();
    in_time(move || {
        let path = |name: &str| folder.path().join(name);
        let host = host(&["pactio_memory"]);
        let builder = Builder::new().tls(config).export("", host.open("memory:?size=64KiB&fill=1").unwrap());
        let server =
            Running::at(host.block_on(builder).unwrap(), |_| Address::Tcp("127.0.0.1:0".parse().unwrap()));
        assert!(server.uri.starts_with("nbds://127.0.0.1:"), "{}", server.uri);
        let address = server.uri.trim_start_matches("nbds://").to_owned();
        // A client without TLS gets nothing.
        let mut plain = std::net::TcpStream::connect(&address).unwrap();
        plain.read_exact(&mut [0; 18]).unwrap();
        plain.write_all(&[&3u32.to_be_bytes()[..], b"IHAVEOPT", &[0, 0, 0, 3, 0, 0, 0, 0]].concat()).unwrap();
        let mut reply = [0; 20];
        plain.read_exact(&mut reply).unwrap();
        assert_eq!(reply[12..16], (1u32 << 31 | 5).to_be_bytes());
        if has("nbdinfo") {
            let uri = format!("nbds://{address}/?tls-certificates={}", folder.path().display());
            assert_eq!(run("nbdinfo", &["--size", &uri]).trim(), "65536");
            // Without a certificate of its own.
            std::fs::remove_file(path("client-cert.pem")).unwrap();
            let refused = Command::new("/usr/bin/nbdinfo").args(["--size", &uri]).output().unwrap();
            assert!(!refused.status.success());
        }
    });
}

#[test]
fn the_tools_of_others_agree() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let (image, copy) = (folder.path().join("image"), folder.path().join("copy"));
        let mut random = fastrand::Rng::with_seed(3);
        let bytes: Vec<u8> = (0..3 << 20).map(|_| random.u8(..)).collect();
        let file = std::fs::File::create(&image).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 4 << 20).unwrap();
        file.set_len(20 << 20).unwrap();
        let expected = std::fs::read(&image).unwrap();
        let host = host(&["pactio_file"]);
        let server = Running::of(&host, writable(&host, &format!("file:{}", image.display())));
        if has("nbdinfo") {
            assert_eq!(run("nbdinfo", &["--size", &server.uri]).trim(), (20 << 20).to_string());
            let map = run("nbdinfo", &["--map", &server.uri]);
            let lines: Vec<Vec<&str>> =
                map.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
            let regions =
                host.block_on(host.open(&format!("file:{}", image.display())).unwrap().regions()).unwrap();
            let data: Vec<_> = lines.iter().filter(|line| line[2] == "0").collect();
            assert_eq!(data.len(), regions.len(), "{map}");
            for (line, region) in data.iter().zip(&regions) {
                let (start, len) =
                    (region.range.start.to_string(), (region.range.end - region.range.start).to_string());
                assert_eq!(line[..2], [start.as_str(), len.as_str()], "{map}");
            }
            assert!(lines.iter().filter(|line| line[2] != "0").all(|line| line[2] == "3"), "{map}");
        }
        if has("nbdcopy") {
            run("nbdcopy", &[&server.uri, copy.to_str().unwrap()]);
            assert!(std::fs::read(&copy).unwrap() == expected);
        }
        if has("qemu-img") {
            run("qemu-img", &["convert", "-O", "raw", &server.uri, copy.to_str().unwrap()]);
            assert!(std::fs::read(&copy).unwrap() == expected);
            let commands = [
                "write -P 0x5a 1M 64k",
                "write -f -P 1 0 512",
                "write -z 2M 1M",
                "flush",
                "read -P 0x5a 1M 64k",
                "read -P 0 2M 1M",
                "write -zu 5M 1M",
                "discard 6M 1M",
                "read -P 0 5M 2M",
            ];
            let arguments: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
            run("qemu-io", &[&["-f", "raw", "-d", "unmap"], &arguments[..], &[&server.uri]].concat());
            // The storage of these ranges is given back.
            let device = host.open(&format!("file:{}", image.display())).unwrap();
            let regions = host.block_on(device.regions()).unwrap();
            let is_hole = |range: std::ops::Range<u64>| {
                regions
                    .iter()
                    .all(|region| region.range.end <= range.start || range.end <= region.range.start)
            };
            assert!(is_hole(5 << 20..7 << 20) && !is_hole(2 << 20..3 << 20), "{regions:?}");
            let now = std::fs::read(&image).unwrap();
            assert!(now[..512] == [1; 512] && now[1 << 20..(1 << 20) + 65536] == [0x5a; 65536]);
            assert!(
                now[2 << 20..3 << 20].iter().all(|byte| *byte == 0)
                    && now[4 << 20..5 << 20] == expected[4 << 20..5 << 20]
                    && now[7 << 20..] == expected[7 << 20..]
            );
        }
        if has("fio") && run("fio", &["--enghelp"]).contains("nbd") {
            let verified = run(
                "fio",
                &[
                    "--name=verify",
                    "--verify_state_save=0",
                    "--ioengine=nbd",
                    &format!("--uri={}", server.uri),
                    "--rw=randrw",
                    "--bs=4k",
                    "--iodepth=16",
                    "--size=8m",
                    "--verify=crc32c",
                    "--do_verify=1",
                    "--fsync=64",
                    "--minimal",
                ],
            );
            assert!(!verified.is_empty());
        }
    });
}
