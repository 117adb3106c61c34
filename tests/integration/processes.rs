//! The process plugin: memory of this process and of others, compared with `/proc/PID/mem` and with known contents.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::ptr;

use futures_util::future::join_all;
use pactio::{Code, Host, OpenOptions};
use pactio_tests::{host, in_time};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};

const PAGE: usize = 4096;

/// Pages of this process, all with known bytes; some of them are taken away afterwards.
struct Pages {
    start: *mut u8,
    count: usize,
}

impl Pages {
    fn new(count: usize, holes: &[usize]) -> Self {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address that the system chooses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), count * PAGE, rights, MapFlags::PRIVATE) };
        let start = start.unwrap().cast::<u8>();
        for at in 0..count * PAGE {
            // SAFETY: `at` is within the new memory.
            unsafe { start.add(at).write(byte(at)) };
        }
        // Pages behind the end of a file: not even a debugger reads them, and no other thread maps anything there.
        let nothing = tempfile::tempfile().unwrap();
        for hole in holes {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED;
            // SAFETY: one page of the new memory, which nothing accesses.
            unsafe { mmap(start.add(hole * PAGE).cast(), PAGE, ProtFlags::empty(), flags, &nothing, 0) }
                .unwrap();
        }
        Self { start, count }
    }

    fn at(&self, offset: usize) -> u64 {
        (self.start.addr() + offset) as u64
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the memory belongs to this value, and nothing uses it any more.
        unsafe { munmap(self.start.cast(), self.count * PAGE) }.unwrap();
    }
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// A sleeping child process. Dropping the value ends the process.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    pub(crate) fn start(program: &str) -> Self {
        let mut command = Command::new(program);
        let command = command.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn process_host() -> Host {
    host(&["pactio_process"])
}

#[test]
fn holes_fail_and_everything_around_them_is_read() {
    in_time(|| {
        let pages = Pages::new(12, &[2, 5, 6, 7, 11]);
        let host = process_host();
        let device = host.open("process:self").unwrap();
        let (report, bytes) = host.block_on(device.read_at(pages.at(10), vec![0; 12 * PAGE - 10])).unwrap();
        let holes: Vec<_> = report.failed_ranges().collect();
        assert!(holes.iter().all(|(_, error)| error.code() == Code::NOT_MAPPED), "{report}");
        let holes: Vec<_> = holes.into_iter().map(|(range, _)| (range.start + 10, range.end + 10)).collect();
        assert_eq!(holes, [(2, 3), (5, 8), (11, 12)].map(|(start, end)| (start * PAGE, end * PAGE)));
        for done in report.done_ranges() {
            assert!(bytes[done.clone()].iter().zip(done).all(|(got, at)| *got == byte(at + 10)), "{report}");
        }
        let error = host.block_on(device.read_exact_at(0, vec![0; 8])).unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_MAPPED));
        let error = host.block_on(device.read_exact_at(u64::MAX - 3, vec![0; 8])).unwrap_err();
        assert!(matches!(error.code(), Some(Code::NOT_MAPPED | Code::TOO_LARGE)), "{error}");
    });
}

#[test]
fn random_reads_in_flight_together_are_each_what_is_there() {
    in_time(|| {
        let holes = [3, 9, 10, 25];
        let pages = Pages::new(40, &holes);
        let host = process_host();
        let device = host.open("process:self").unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let requests: Vec<_> = (0..random.usize(1..300))
                .map(|_| {
                    let start = random.usize(0..40 * PAGE - 1);
                    let most = if random.bool() { 64 } else { 3 * PAGE };
                    let len = random.usize(0..most).min(40 * PAGE - start);
                    (start, len, device.read_at(pages.at(start), vec![0; len]))
                })
                .collect();
            host.block_on(join_all(requests.into_iter().map(|(start, len, request)| async move {
                let (report, bytes) = request.await.unwrap();
                let mut done = vec![false; len];
                report.done_ranges().for_each(|range| done[range].fill(true));
                for at in 0..len {
                    assert_eq!(done[at], !holes.contains(&((start + at) / PAGE)), "{start} {len}: {report}");
                    assert!(!done[at] || bytes[at] == byte(start + at), "byte {at} of {len} at {start}");
                }
            })));
        }
    });
}

#[test]
fn memory_that_only_a_debugger_reads_is_read_and_listed() {
    in_time(|| {
        let pages = Pages::new(200, &[]);
        // SAFETY: pages of this test's memory, which nothing accesses meanwhile.
        unsafe {
            mprotect(pages.start.add(10 * PAGE).cast(), 20 * PAGE, MprotectFlags::empty()).unwrap();
            mprotect(pages.start.add(40 * PAGE).cast(), PAGE, MprotectFlags::EXEC).unwrap();
        }
        let host = process_host();
        let device = host.open("process:self").unwrap();
        let expected: Vec<u8> = (0..200 * PAGE).map(byte).collect();
        // One small read, many at once, and a large one.
        let one = host.block_on(device.read_exact_at(pages.at(15 * PAGE), vec![0; 100])).unwrap();
        assert!(one == expected[15 * PAGE..][..100]);
        let reads = (0..200).map(|page| device.read_exact_at(pages.at(page * PAGE), vec![0; PAGE]));
        for (page, bytes) in host.block_on(join_all(reads)).into_iter().enumerate() {
            assert!(bytes.unwrap() == expected[page * PAGE..][..PAGE], "page {page}");
        }
        let all = host.block_on(device.read_exact_at(pages.at(0), vec![0; 200 * PAGE])).unwrap();
        assert!(all == expected);
        let regions = host.block_on(device.regions()).unwrap();
        let region = regions.iter().find(|region| region.range.contains(&pages.at(15 * PAGE))).unwrap();
        assert!(!region.readable && region.has_bytes(), "{region:?}");
        let kernels = regions.iter().find(|region| region.name == "[vvar]");
        assert!(kernels.is_none_or(|region| !region.has_bytes()), "{kernels:?}");
        // SAFETY: pages of this test's memory.
        unsafe {
            mprotect(pages.start.cast(), 200 * PAGE, MprotectFlags::READ | MprotectFlags::WRITE).unwrap();
        }
    });
}

#[test]
fn reads_of_every_size_agree_with_the_model_of_each_page() {
    in_time(|| {
        const COUNT: usize = 300;
        let mut random = pactio_tests::random();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..COUNT * PAGE).map(|at| (at % 241) as u8).collect();
        std::io::Write::write_all(&mut file, &content).unwrap();
        let nothing = tempfile::tempfile().unwrap();
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address that the system chooses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), COUNT * PAGE, rights, MapFlags::PRIVATE) };
        let pages = Pages { start: start.unwrap().cast(), count: COUNT };
        // The bytes of each page; `None` for a hole.
        let mut model: Vec<Option<Vec<u8>>> = Vec::new();
        let mut kind = 0;
        for page in 0..COUNT {
            if page == 0 || random.u8(..4) == 0 {
                kind = random.u8(..6);
            }
            // SAFETY: a page of the new memory, which nothing else accesses.
            let place = unsafe { pages.start.add(page * PAGE) };
            let written: Vec<u8> = (0..PAGE).map(|at| byte(page + at)).collect();
            // SAFETY: the page can be written as long as its rights are the first ones.
            let write = || unsafe { ptr::copy_nonoverlapping(written.as_ptr(), place, PAGE) };
            let map = |rights, file: &File, offset: usize| {
                let flags = MapFlags::PRIVATE | MapFlags::FIXED;
                // SAFETY: the page is replaced by another one, and nothing accesses it.
                unsafe { mmap(place.cast(), PAGE, rights, flags, file, offset as u64) }.unwrap();
            };
            model.push(match kind {
                // Written, and perhaps closed to the process afterwards.
                0 | 1 => {
                    write();
                    if kind == 1 {
                        // SAFETY: the page belongs to this test, and nothing accesses it.
                        unsafe { mprotect(place.cast(), PAGE, MprotectFlags::empty()) }.unwrap();
                    }
                    Some(written)
                }
                // Never used.
                2 => Some(vec![0; PAGE]),
                // A page of a file: as it is there, or changed in memory.
                3 | 4 => {
                    map(rights, file.as_file(), page * PAGE);
                    if kind == 4 {
                        write();
                        Some(written)
                    } else {
                        Some(content[page * PAGE..][..PAGE].to_vec())
                    }
                }
                // Behind the end of a file.
                _ => {
                    map(ProtFlags::empty(), &nothing, 0);
                    None
                }
            });
        }
        let host = process_host();
        let device = host.open("process:self").unwrap();
        for _ in 0..40 {
            let requests: Vec<_> = (0..random.usize(1..20))
                .map(|_| {
                    let start = random.usize(0..COUNT * PAGE - 1);
                    let most = [64, 3 * PAGE, 100 * PAGE, COUNT * PAGE][random.usize(..4)];
                    let len = random.usize(1..=most).min(COUNT * PAGE - start);
                    (start, len, device.read_at(pages.at(start), vec![7; len]))
                })
                .collect();
            let model = &model;
            host.block_on(join_all(requests.into_iter().map(|(start, len, request)| async move {
                let (report, bytes) = request.await.unwrap();
                let mut done = vec![false; len];
                report.done_ranges().for_each(|range| done[range].fill(true));
                for at in 0..len {
                    let (page, within) = ((start + at) / PAGE, (start + at) % PAGE);
                    let expected = model[page].as_ref().map(|page| page[within]);
                    assert_eq!(
                        done[at].then_some(bytes[at]),
                        expected,
                        "byte {at} of {len} at {start}: {report}"
                    );
                }
            })));
        }
        // SAFETY: the pages belong to this test.
        unsafe { mprotect(pages.start.cast(), COUNT * PAGE, MprotectFlags::READ | MprotectFlags::WRITE) }
            .unwrap();
    });
}

/// The resident and swapped memory of a range of this process, in KiB.
fn held(start: u64) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(&format!("{start:x}-")).unwrap().1;
    let mapping = mapping.split_once("VmFlags").unwrap().0;
    let lines = mapping.lines().filter(|line| line.starts_with("Rss:") || line.starts_with("Swap:"));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn reading_leaves_pages_alone_that_were_never_used() {
    in_time(|| {
        let len = 64 << 20;
        let host = process_host();
        let device = host.open("process:self").unwrap();
        let read = |start: *mut u8, len: usize| {
            let (report, bytes) = host.block_on(device.read_at(start.addr() as u64, vec![1; len])).unwrap();
            assert!(report.done() == len, "{report}");
            bytes
        };
        let free = |start: *mut u8, len: usize| {
            // SAFETY: the memory belongs to this test, and nothing uses it any more.
            unsafe { munmap(start.cast(), len) }.unwrap();
        };
        // Memory of which one page is used.
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address that the system chooses.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), len, rights, MapFlags::PRIVATE) }.unwrap().cast::<u8>();
        // SAFETY: the memory belongs to this test, and the advice changes no content.
        unsafe { rustix::mm::madvise(start.cast(), len, rustix::mm::Advice::LinuxNoHugepage) }.unwrap();
        // SAFETY: the byte is in the new memory.
        unsafe { start.add(5 << 20).write(7) };
        let before = held(start.addr() as u64);
        let bytes = read(start, len);
        assert!(bytes[5 << 20] == 7 && bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() == 7);
        assert_eq!(held(start.addr() as u64), before);
        free(start, len);
        // A file, of which a page was changed in memory only, and whose last page is not full.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut content: Vec<u8> = (0..len - 100).map(|at| (at % 253) as u8).collect();
        std::io::Write::write_all(&mut file, &content).unwrap();
        // SAFETY: new memory at an address that the system chooses.
        let start =
            unsafe { mmap(ptr::null_mut(), len, rights, MapFlags::PRIVATE, &file, 0) }.unwrap().cast::<u8>();
        // SAFETY: the byte is in the new memory.
        unsafe { start.add(9 << 20).write(255) };
        content[9 << 20] = 255;
        content.resize(len, 0);
        let before = held(start.addr() as u64);
        assert!(read(start, len) == content);
        assert_eq!(held(start.addr() as u64), before);
        free(start, len);
        // Shared memory that another mapping wrote.
        let shared = rustix::fs::memfd_create("pactio-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let shared = File::from(shared);
        shared.write_all_at(&content, 0).unwrap();
        // SAFETY: new memory at an address that the system chooses.
        let start =
            unsafe { mmap(ptr::null_mut(), len, rights, MapFlags::SHARED, &shared, 0) }.unwrap().cast::<u8>();
        assert!(read(start, len) == content);
        free(start, len);
    });
}

#[test]
fn small_reads_over_the_edge_of_a_hole_get_what_is_behind_it() {
    in_time(|| {
        let pages = Pages::new(4, &[1, 2]);
        let host = process_host();
        let device = host.open("process:self").unwrap();
        // The reads are alone, or with other reads in the same piece.
        for others in 0..3 {
            let starts = [PAGE - 32, 3 * PAGE - 32].into_iter().chain((0..others).map(|at| 3 * PAGE + at));
            let reads = starts.map(|start| (start, device.read_at(pages.at(start), vec![0; 64])));
            host.block_on(join_all(reads.map(|(start, read)| async move {
                let (report, bytes) = read.await.unwrap();
                let there = match start {
                    start if start < PAGE => 0..32,
                    start if start < 3 * PAGE => 32..64,
                    _ => 0..64,
                };
                assert!(report.done_ranges().eq([there.clone()]), "{start}: {report}");
                assert!(there.clone().all(|at| bytes[at] == byte(start + at)), "{start}: {bytes:?}");
            })));
        }
    });
}

#[test]
fn a_mapping_without_a_file_behind_it_keeps_nobody_waiting() {
    in_time(|| {
        let (file, len) = (tempfile::tempfile().unwrap(), 64 << 20);
        file.set_len(len as u64).unwrap();
        // SAFETY: new memory at an address that the system chooses.
        let start = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &file, 0).unwrap()
        };
        file.set_len(0).unwrap();
        let host = process_host();
        let device = host.open("process:self").unwrap();
        let good = Pages::new(1, &[]);
        // The map lists these pages, so each missing page is found separately; other requests continue meanwhile.
        let mut holes = device.read_at(start.addr() as u64, vec![0; len]);
        host.block_on(async {
            assert!(futures_util::poll!(&mut holes).is_pending());
            assert_eq!(device.read_exact_at(good.at(0), vec![0; 8]).await.unwrap()[7], byte(7));
            let (report, _) = holes.await.unwrap();
            assert_eq!(report.done(), 0, "{report}");
        });
        // SAFETY: the memory belongs to this test, and nothing uses it any more.
        unsafe { munmap(start, len) }.unwrap();
    });
}

#[test]
fn another_process_is_read_as_the_system_shows_it_until_it_ends() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pactio-sleeps");
        fs::copy("/bin/sleep", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let child = Sleeper::start(program.to_str().unwrap());
        let pid = child.0.id();
        // Waits until the process runs that program.
        while fs::read_link(format!("/proc/{pid}/exe")).unwrap() != program {
            std::thread::yield_now();
        }
        let host = process_host();
        let device = host.open("process:pactio-sleeps").unwrap();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let regions = host.block_on(device.regions()).unwrap();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert_eq!(regions.len(), maps.lines().count());
        assert!(
            regions.iter().any(|region| region.executable && region.name.ends_with(b"pactio-sleeps")),
            "{regions:?}"
        );
        let mut compared = 0;
        for region in regions.iter().filter(|region| region.readable && !region.name.starts_with(b"[v")) {
            let len = (region.range.end - region.range.start) as usize;
            let (report, bytes) = host.block_on(device.read_at(region.range.start, vec![0; len])).unwrap();
            for done in report.done_ranges() {
                let mut expected = vec![0; done.len()];
                memory.read_exact_at(&mut expected, region.range.start + done.start as u64).unwrap();
                assert!(bytes[done] == expected, "{region:?}");
                compared += expected.len();
            }
        }
        assert!(compared > 100_000, "{compared}");
        let stack = regions.iter().find(|region| region.name == "[stack]").unwrap().range.clone();
        // Written bytes are visible to the other process and to this one.
        let writing =
            host.open_with(&format!("process:{pid}"), OpenOptions::new().read(true).write(true)).unwrap();
        host.block_on(writing.write_all_at(stack.start, b"written")).unwrap();
        let mut there = [0; 7];
        memory.read_exact_at(&mut there, stack.start).unwrap();
        assert_eq!(&there, b"written");
        // Many writes together: the last write to a place counts, a failed write is reported, and the bytes behind it are
        // written.
        let edge = regions.windows(2).find(|pair| {
            let (one, next) = (&pair[0], &pair[1]);
            one.range.end == next.range.start
                && one.readable
                && !one.writable
                && next.readable
                && next.writable
        });
        let edge = edge.unwrap()[0].range.end;
        let mut both = vec![0; 2 * PAGE];
        memory.read_exact_at(&mut both, edge - PAGE as u64).unwrap();
        let words = (0..3000u64)
            .map(|index| writing.write_all_at(stack.start + index % 1000 * 8, index.to_le_bytes().to_vec()));
        let words = join_all(words.collect::<Vec<_>>());
        host.block_on(async {
            let (report, words) = futures_util::join!(writing.write_at(edge - PAGE as u64, both), words);
            let failed: Vec<_> =
                report.unwrap().0.failed_ranges().map(|(range, error)| (range, error.code())).collect();
            assert_eq!(failed, [(0..PAGE, Code::READ_ONLY)]);
            assert!(words.iter().all(Result::is_ok));
        });
        let mut there = [0; 8000];
        memory.read_exact_at(&mut there, stack.start).unwrap();
        assert!(there.chunks(8).zip(2000u64..).all(|(word, value)| word == value.to_le_bytes()));
        drop(child);
        let error = host.block_on(device.read_exact_at(stack.start, vec![0; 8])).unwrap_err();
        assert_eq!(error.code(), Some(Code::DISCONNECTED));
        let error = host.block_on(writing.write_all_at(stack.start, b"late")).unwrap_err();
        assert_eq!(error.code(), Some(Code::DISCONNECTED));
        assert_eq!(host.block_on(device.regions()).unwrap_err().code(), Some(Code::DISCONNECTED));
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    in_time(|| {
        let host = process_host();
        let says = |url: &str, options: OpenOptions| host.open_with(url, options).unwrap_err().to_string();
        let read = || OpenOptions::new().read(true);
        assert!(says("process:", read()).contains("write process:PID or process:NAME"));
        assert!(says("process:no-such-thing", read()).contains("no process is called 'no-such-thing'"));
        assert!(says("process:2147483646", read()).contains("there is no process 2147483646"));
        assert!(says("process:-5", read()).contains("there is no process -5"));
        assert!(says("process:self", read().write(true)).contains("cannot write to its own memory"));
        // A thread of the kernel, where these are visible.
        if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
            assert!(says("process:2", read()).contains("it has no memory of its own"));
        }
        assert!(says("process:1?own=1KiB", read()).contains("only process:self"));
        let (_one, _other) = (Sleeper::start("sleep"), Sleeper::start("sleep"));
        assert!(
            says("process:sleep", read()).contains("processes are called 'sleep'; name one by its number: ")
        );
    });
}
