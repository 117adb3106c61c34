//! A campaign: random requests to random stacks of backends and filters, and accidents at random moments.
//!
//! Each request ends in time, with the right bytes or with an error that its accidents explain. Memory that came back to the
//! caller is not written any more.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{fs, thread};

use fastrand::Rng;
use futures_util::future::join_all;
use pactio::{Code, Device, Error, Host, OpenOptions};
use pactio_tests::{folder_of, random};

use super::objects::{Manners, Server};

const SIZE: usize = 256 << 10;

/// Maximum duration of one action: far more than the longest accident of a server or plugin takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

const LIBRARIES: [&str; 22] = [
    "pactio_archive",
    "pactio_cache",
    "pactio_core",
    "pactio_cow",
    "pactio_crypt",
    "pactio_delay",
    "pactio_fault",
    "pactio_file",
    "pactio_limit",
    "pactio_memory",
    "pactio_mount",
    "pactio_object",
    "pactio_process",
    "pactio_retry",
    "pactio_stats",
    "pactio_verify",
    "fixture_descriptor",
    "fixture_eight_threads",
    "fixture_panic_driver",
    "fixture_panic_submit",
    "fixture_queued",
    "fixture_stuck",
];

const KEY: &str = "key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

/// A backend, perhaps with the filters that its content needs.
#[derive(Clone)]
struct Source {
    url: String,
    /// The position of the first byte.
    base: u64,
    content: Content,
    /// Requests may fail, since accidents of the source are part of the campaign.
    may_fail: bool,
}

#[derive(Clone, Copy)]
enum Content {
    /// Byte `i` is `i % 251`.
    Counting,
    Constant(u8),
    /// The source panics before it answers.
    None,
}

impl Source {
    fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), base: 0, content: Content::Counting, may_fail: false }
    }

    fn failing(url: impl Into<String>) -> Self {
        Self { may_fail: true, ..Self::new(url) }
    }

    fn constant(url: impl Into<String>, byte: u8) -> Self {
        Self { content: Content::Constant(byte), ..Self::new(url) }
    }

    fn is_right(&self, position: u64, bytes: &[u8]) -> bool {
        match self.content {
            Content::Counting => (position..).zip(bytes).all(|(at, byte)| *byte == (at % 251) as u8),
            Content::Constant(constant) => bytes.iter().all(|byte| *byte == constant),
            Content::None => false,
        }
    }
}

/// Filters that leave the content as it is, and whether requests may fail in them.
const FILTERS: [(&str, bool); 12] = [
    ("cow", false),
    ("cache?block=4KiB", false),
    ("cache?block=64KiB", false),
    ("stats", false),
    ("limit?in-flight=2", false),
    ("limit?rate=200MiB", false),
    ("retry", false),
    ("delay?latency=1ms&jitter=2ms", false),
    ("delay?latency=0s", false),
    ("fault?read=0.05", true),
    ("fault?read=0.05 | retry", true),
    ("", false),
];

/// The sources, and the accidents that they share.
struct World {
    sources: Vec<Source>,
    data: std::path::PathBuf,
    server: Mutex<Server>,
    /// Memory of this process that a source reads.
    _own: Vec<u8>,
    /// Number of events.
    events: AtomicU64,
    counts: Counts,
    host: Host,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    moved: AtomicU64,
    accidents: AtomicU64,
    opened: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

impl World {
    fn new(folder: &Path) -> Self {
        let content: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
        let path = |name: &str| folder.join(name).display().to_string();
        for name in ["data", "hashed"] {
            fs::write(folder.join(name), &content).unwrap();
        }
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, method) in
            [("stored", zip::CompressionMethod::Stored), ("packed", zip::CompressionMethod::Deflated)]
        {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(name, options).unwrap();
            std::io::Write::write_all(&mut zip, &content).unwrap();
        }
        fs::write(folder.join("zip"), zip.finish().unwrap().into_inner()).unwrap();
        let plugins = folder_of(&LIBRARIES);
        let builder = Host::builder().default_search_paths(false).search_path(plugins.path());
        let host = builder.worker_threads(2).hang_limit(Duration::from_secs(20)).build().unwrap();
        let server = Server::start(&content);
        fs::write(folder.join("secret"), vec![0; SIZE]).unwrap();
        let secret = format!("file:{} | crypt?{KEY}", path("secret"));
        let writable = host.open_with(&secret, OpenOptions::new().read(true).write(true)).unwrap();
        host.block_on(writable.write_all_at(0, &content)).unwrap();
        drop(writable);
        let verify = format!("file:{} | verify?hashes={}", path("hashed"), path("hashes"));
        host.open(&format!("{verify}&make=true")).unwrap();
        let process = Source {
            base: content.as_ptr().addr() as u64,
            ..Source::new(format!("process:{}", std::process::id()))
        };
        let sources = vec![
            Source::constant(format!("memory:?size={SIZE}&fill=7"), 7),
            Source::new(format!("file:{}", path("data"))),
            Source::new(format!("file:{}?direct=true", path("data"))),
            Source::new(format!("file:{}?map=true", path("data"))),
            Source::new(format!("file:{} | archive | /stored", path("zip"))),
            Source::new(format!("file:{} | archive | /packed", path("zip"))),
            Source::new(format!("mount:file:{}%7Carchive | /packed", path("zip"))),
            Source::new(format!("local:{}", path("hashed"))),
            Source::failing(server.url()),
            Source::new(secret),
            Source::new(verify),
            process,
            Source::new(format!("queued:{SIZE}")),
            Source::new("eight-threads:"),
            Source::constant("descriptor:", 0x5a),
            // This plugin answers the first half of each request, and then panics.
            Source { may_fail: true, ..Source::constant("panic-submit:", 1) },
            Source { content: Content::None, ..Source::failing("panic-driver:soon") },
        ];
        Self {
            sources,
            data: folder.join("data"),
            server: Mutex::new(server),
            _own: content,
            events: AtomicU64::new(0),
            counts: Counts::default(),
            host,
        }
    }

    /// Opens a random stack.
    fn open(&self, random: &mut Rng) -> (Device, Arc<Source>) {
        loop {
            let mut source = random.choice(&self.sources).unwrap().clone();
            for _ in 0..random.usize(..4) {
                let (filter, may_fail) = random.choice(FILTERS).unwrap();
                if !filter.is_empty() {
                    source.url = format!("{} | {filter}", source.url);
                    source.may_fail |= may_fail;
                }
            }
            count(&self.counts.opened);
            match self.host.open(&source.url) {
                Ok(device) => return (device, Arc::new(source)),
                // Opening also reads, and may fail.
                Err(error) => assert!(source.may_fail, "{}: {error}", source.url),
            }
        }
    }

    /// One accident.
    fn happens(&self, random: &mut Rng) {
        count(&self.counts.accidents);
        match random.u8(..6) {
            5 => {
                let mut server = self.server.lock().unwrap();
                server.kill();
                thread::sleep(Duration::from_millis(random.u64(..300)));
                server.restart();
            }
            4 => self.does_not_come_back(random),
            0 => {
                // The file is replaced by one with the same content.
                let other = self.data.with_extension(random.u64(..).to_string());
                fs::copy(&self.data, &other).unwrap();
                fs::rename(&other, &self.data).unwrap();
            }
            // The server says that it is busy, cuts connections, or is stopped for a while.
            1 => self.server_has(random, |manners| manners.busy = 3),
            2 => self.server_has(random, |manners| manners.cut_after = Some(1000)),
            _ => self.server_has(random, |manners| manners.slow = Duration::from_millis(300)),
        }
    }
}

impl World {
    /// The server misbehaves for a while.
    fn server_has(&self, random: &mut Rng, change: impl FnOnce(&mut Manners)) {
        let server = self.server.lock().unwrap();
        server.set(|shared| change(&mut shared.manners));
        thread::sleep(Duration::from_millis(random.u64(..300)));
        server.set(|shared| shared.manners = Manners::default());
    }

    /// A plugin blocks in a call for a while, and answers its request afterwards.
    fn does_not_come_back(&self, random: &mut Rng) {
        let until = self.data.with_extension(format!("until-{}", random.u64(..)));
        let place = random.choice(["driver", "read"]).unwrap();
        let device = self.host.open(&format!("stuck:{place}@{}", until.display())).unwrap();
        let read = thread::spawn(move || device.blocking_read::<u8>(0));
        thread::sleep(Duration::from_millis(random.u64(..300)));
        fs::write(&until, "").unwrap();
        assert_eq!(read.join().unwrap().unwrap(), 1);
        fs::remove_file(&until).unwrap();
    }
}

/// A read of a device, for any way to poll it.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>, Error>> + Send>>;

/// A request under way.
struct Request {
    reading: Reading,
    source: Arc<Source>,
    position: u64,
}

/// One thread of the campaign.
struct Actor {
    world: Arc<World>,
    random: Rng,
    devices: Vec<(Device, Arc<Source>)>,
    /// Requests go to other actors, which finish them.
    others: Vec<Sender<Request>>,
    moved: Receiver<Request>,
    tokio: Arc<tokio::runtime::Runtime>,
    /// Memory that came back, filled with a mark.
    marked: Vec<Vec<u8>>,
    /// The action under way, and when it began; for the report if it hangs.
    under_way: Arc<Mutex<Option<(Instant, String)>>>,
}

const MARK: u8 = 0xee;

/// If an actor has failed, the others end soon.
impl Drop for Actor {
    fn drop(&mut self) {
        if thread::panicking() {
            self.world.events.store(u64::MAX / 2, Ordering::SeqCst);
        }
        self.ends();
    }
}

impl Actor {
    fn begins(&self, what: impl Into<String>) {
        *self.under_way.lock().unwrap() = Some((Instant::now(), what.into()));
    }

    fn ends(&self) {
        *self.under_way.lock().unwrap() = None;
    }

    fn request(&mut self) -> Request {
        let (device, source) = self.random.choice(&self.devices).unwrap();
        let (device, source) = (device.clone(), source.clone());
        let len = [1, 64, 4096, 70_000][self.random.usize(..4)].min(1 + self.random.usize(..SIZE / 4));
        let offset = self.random.u64(..(SIZE - len) as u64);
        let position = source.base + offset;
        let buffer = vec![0; len];
        Request {
            reading: Box::pin(async move { device.read_exact_at(position, buffer).await }),
            source,
            position: offset,
        }
    }

    /// Runs a future in a random way.
    fn run<T: Send + 'static>(&mut self, future: impl Future<Output = T> + Send + 'static) -> T {
        match self.random.u8(..5) {
            0 | 1 => self.world.host.block_on(future),
            2 => self.world.host.block_on(self.world.host.spawn(future)),
            3 => pollster::block_on(future),
            _ => self.tokio.block_on(self.tokio.spawn(future)).unwrap(),
        }
    }

    /// Checks the result of a request.
    fn ended(&mut self, result: Result<Vec<u8>, Error>, source: &Source, position: u64) {
        match result {
            Ok(mut bytes) => {
                count(&self.world.counts.answered);
                assert!(source.is_right(position, &bytes), "wrong bytes at {position} of {}", source.url);
                bytes.fill(MARK);
                if self.marked.len() < 64 {
                    self.marked.push(bytes);
                } else {
                    let index = self.random.usize(..64);
                    self.marked[index] = bytes;
                }
            }
            Err(error) => {
                count(&self.world.counts.failed);
                assert!(source.may_fail, "{} at {position}: {error}", source.url);
            }
        }
        // Each time, one of the buffers that came back is checked.
        let looked = self.random.choice(&self.marked);
        assert!(
            looked.is_none_or(|bytes| bytes.iter().all(|byte| *byte == MARK)),
            "memory that came back was written"
        );
    }

    fn finish(&mut self, request: Request) {
        let Request { reading, source, position } = request;
        self.begins(format!("a read of {}", source.url));
        let result = self.run(reading);
        self.ended(result, &source, position);
    }

    fn poll_some(&mut self, request: &mut Request) -> Option<Result<Vec<u8>, Error>> {
        for _ in 0..self.random.u8(1..4) {
            let polled = request.reading.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(result) = polled {
                return Some(result);
            }
        }
        None
    }

    /// Performs one event.
    fn act(&mut self) {
        match self.random.u8(..20) {
            0 => {
                let index = self.random.usize(..self.devices.len());
                self.begins(format!("a drop of {}", self.devices[index].1.url));
                self.devices[index] = self.world.open(&mut self.random);
            }
            1 => {
                self.begins("an accident");
                self.world.clone().happens(&mut self.random);
            }
            2..=6 => {
                let request = self.request();
                self.finish(request);
            }
            7..=9 => {
                let requests: Vec<_> = (0..self.random.usize(2..50)).map(|_| self.request()).collect();
                let places: Vec<_> =
                    requests.iter().map(|request| (request.source.clone(), request.position)).collect();
                let urls: Vec<_> = places.iter().map(|(source, _)| source.url.as_str()).collect();
                self.begins(format!("reads of {}", urls.join(", ")));
                let readings = requests.into_iter().map(|request| request.reading);
                let results = self.run(join_all(readings));
                for (result, (source, position)) in results.into_iter().zip(places) {
                    self.ended(result, &source, position);
                }
            }
            10 | 11 => {
                let mut request = self.request();
                match self.poll_some(&mut request) {
                    Some(result) => self.ended(result, &request.source, request.position),
                    None => count(&self.world.counts.dropped),
                }
            }
            12 | 13 => {
                let mut request = self.request();
                match self.poll_some(&mut request) {
                    Some(result) => self.ended(result, &request.source, request.position),
                    None => {
                        count(&self.world.counts.moved);
                        let other = self.random.choice(&self.others).unwrap();
                        if let Err(unsent) = other.send(request) {
                            self.finish(unsent.0);
                        }
                    }
                }
            }
            14 | 15 => self.cancel(),
            16 => self.scope(),
            17 => {
                // The device is closed while requests are under way.
                let index = self.random.usize(..self.devices.len());
                let (device, _) =
                    std::mem::replace(&mut self.devices[index], self.world.open(&mut self.random));
                self.begins(format!("close of {}", device.url()));
                // Other actors may still finish requests to this device.
                let _ = device.close(Duration::from_millis(self.random.u64(..20)));
            }
            _ => {
                while let Ok(request) = self.moved.try_recv() {
                    self.finish(request);
                }
            }
        }
        count(&self.world.events);
    }

    /// Cancels a request, which settles and returns its buffer.
    fn cancel(&mut self) {
        let (device, source) = self.random.choice(&self.devices).unwrap().clone();
        let offset = self.random.u64(..(SIZE / 2) as u64);
        let polls = self.random.u8(..3);
        self.begins(format!("cancelling of {}", source.url));
        let position = source.base + offset;
        let (report, bytes) = self
            .run(async move {
                let mut request = device.read_at(position, vec![0; 5000]);
                for _ in 0..polls {
                    if let Some(done) = futures_lite::future::poll_once(&mut request).await {
                        return done;
                    }
                }
                request.cancel().await
            })
            .unwrap();
        count(&self.world.counts.cancelled);
        let error = report.min_error().map(|(_, error)| error.code());
        let is_explained = [None, Some(Code::CANCELLED), Some(Code::NOT_SUBMITTED)].contains(&error);
        assert!(is_explained || source.may_fail, "{}: {report}", source.url);
        if report.is_done() {
            assert!(source.is_right(offset, &bytes), "wrong bytes at {offset} of {}", source.url);
        }
    }

    fn scope(&mut self) {
        let (device, source) = self.random.choice(&self.devices).unwrap().clone();
        let offset = self.random.u64(..(SIZE / 2) as u64);
        let mut buffers = vec![[0; 100]; self.random.usize(1..20)];
        let waits = self.random.bool();
        let host = self.world.host.clone();
        self.begins(format!("a scope of {}", source.url));
        let done = host.scope(|scope| {
            let all: Vec<_> =
                buffers.iter_mut().map(|buffer| scope.read(&device, source.base + offset, buffer)).collect();
            all.into_iter()
                .filter(|_| waits)
                .map(|request| request.wait().is_ok())
                .fold(waits, |all, one| all & one)
        });
        assert!(done || !waits || source.may_fail, "{}", source.url);
        for buffer in buffers.iter().filter(|_| done) {
            count(&self.world.counts.answered);
            assert!(source.is_right(offset, buffer), "wrong bytes at {offset} of {}", source.url);
        }
    }
}

/// `PACTIO_EVENTS` is the number of events; `PACTIO_SEED` is the seed of the random numbers.
#[test]
fn every_request_ends_with_the_right_bytes_or_an_error_that_is_explained() {
    const ACTORS: usize = 6;
    let events = std::env::var("PACTIO_EVENTS").map_or(3000, |events| events.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::new(folder.path()));
    let mut seeds = random();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tokio = Arc::new(tokio);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..ACTORS).map(|_| channel()).unzip();
    let actors: Vec<_> = receivers
        .into_iter()
        .map(|moved| {
            let mut random = Rng::with_seed(seeds.u64(..));
            let devices = (0..4).map(|_| world.open(&mut random)).collect();
            let (world, others, tokio) = (world.clone(), senders.clone(), tokio.clone());
            let (marked, under_way) = (Vec::new(), Arc::default());
            let mut actor = Actor { world, random, devices, others, moved, tokio, marked, under_way };
            let under_way = actor.under_way.clone();
            let thread = thread::spawn(move || {
                while actor.world.events.load(Ordering::SeqCst) < events {
                    actor.act();
                }
                actor.others.clear();
                actor.ends();
                // The loop ends when all other actors have ended.
                while let Ok(request) = actor.moved.recv() {
                    actor.finish(request);
                    actor.ends();
                }
            });
            (thread, under_way)
        })
        .collect();
    drop(senders);
    while !actors.iter().all(|(thread, _)| thread.is_finished()) {
        thread::sleep(Duration::from_millis(50));
        for (_, under_way) in &actors {
            if let Some((since, what)) = &*under_way.lock().unwrap() {
                assert!(since.elapsed() < LIMIT, "it hangs: {what}");
            }
        }
    }
    for (actor, _) in actors {
        if let Err(payload) = actor.join() {
            std::panic::resume_unwind(payload);
        }
    }
    let counts = &world.counts;
    let [answered, failed, cancelled, dropped, moved, accidents, opened] = [
        &counts.answered,
        &counts.failed,
        &counts.cancelled,
        &counts.dropped,
        &counts.moved,
        &counts.accidents,
        &counts.opened,
    ]
    .map(|count| count.load(Ordering::SeqCst));
    assert!(answered > events / 4, "only {answered} requests were answered");
    println!("campaign_events={}", world.events.load(Ordering::SeqCst));
    println!(
        "campaign: {answered} answered, {failed} failed as explained, {cancelled} cancelled, {dropped} dropped, {moved} finished by \
         another thread, {accidents} accidents, {opened} stacks opened; 0 lost, doubled or hung"
    );
}
