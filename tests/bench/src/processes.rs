//! Reads of another process, against the system's own call and a crate for it.

use std::env;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdin, stdout};
use std::process::{Child, Command, Stdio};

use libc::{c_ulong, c_void, iovec, pid_t};
use pactio::{Device, Host};
use read_process_memory::{CopyAddress as _, ProcessHandle};

use crate::Arguments;
use crate::files::case;
use crate::measure::{Speeds, Variant, measure};
use crate::ours::{in_turn, reused};
use crate::together;

/// Memory of the other process in bytes: more than fits in the caches.
const SIZE: usize = 256 << 20;

const PAGE: u64 = 4096;

/// Bytes per read, and the number of reads in flight. Eight of the small reads lie in each page.
const CASES: [(usize, usize); 7] =
    [(8, 1), (64, 64), (64, 512), (4096, 1), (4096, 64), (4096, 512), (65_536, 64)];

/// Numbers of reads of one task: the most that are polled with the waker of their task, and one more.
const TOGETHER: [usize; 2] = [30, 31];

/// Maximum number of ranges that the system takes in one call.
const MAX_PARTS: usize = 1024;

/// In the memory of the other process that has holes, one of this number of pages is missing.
const HOLES: usize = 10;

/// Prints the speed of each way as a multiple of the system's batched call, and, where pages are missing, of single calls.
pub(crate) fn processes(arguments: &Arguments) {
    let other = Other::start();
    let host = pactio_tests::host(&["pactio_process"]);
    let opened = host.open(&format!("process:{}", other.child.id()));
    let device = &*Box::leak(Box::new(opened.unwrap_or_else(|error| panic!("{error}"))));
    let (pid, start) = (other.child.id() as pid_t, other.start);
    let mut speeds = Speeds::default();
    let (cases, seconds) = arguments.cases(CASES.map(|(len, depth)| (case(len, depth), (len, depth))));
    for (name, (len, depth)) in cases {
        let at = move |index| start + scattered(index, len);
        let variants = vec![
            vectored("process_vm_readv, batched", pid, len, depth, at),
            vectored("process_vm_readv, one by one", pid, len, 1, at),
            copy_address(pid, len, at),
            reused("pactio process, reused packets", &host, device, len, depth, at),
        ];
        speeds.push(name, measure(arguments.variants(variants), seconds));
    }
    speeds.print("bytes, in flight");
    println!();
    let mut speeds = Speeds::default();
    // A read that is longer than a page ends at the first hole, and reads less.
    let short = CASES.into_iter().filter(|(len, _)| *len as u64 <= PAGE);
    let (cases, seconds) = arguments.cases(short.map(|(len, depth)| (case(len, depth), (len, depth))));
    let holey = other.holey;
    for (name, (len, depth)) in cases {
        let at = move |index| holey + scattered(index, len);
        let variants = vec![
            one_by_one(pid, len, at),
            partly("pactio process, vectors and reports", &host, device, len, depth, at),
        ];
        speeds.push(name, measure(arguments.variants(variants), seconds));
    }
    speeds.print("a tenth of the pages missing; bytes, in flight");
    println!();
    let mut speeds = Speeds::default();
    let (cases, seconds) =
        arguments.cases(TOGETHER.map(|depth| (format!("{depth} reads of 64 bytes"), depth)));
    for (name, depth) in cases {
        // Each read lies in a page of its own.
        let at = |start, index| start + scattered(index, PAGE as usize);
        let variants = together::variants(&host, device, depth, at, start);
        speeds.push(name, measure(arguments.variants(variants), seconds));
    }
    speeds.print("one task");
}

/// The offset of a read: whole reads are scattered, small reads lie eight to a scattered page.
fn scattered(index: u64, len: usize) -> u64 {
    let (unit, inside) = match len {
        ..512 => (index / 8, index % 8 * 512),
        _ => (index, 0),
    };
    let block = PAGE.max(len as u64);
    // The memory does not begin at a page, so the last block may end behind the memory.
    let blocks = SIZE as u64 / block - 1;
    unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks * block + inside
}

/// Holds memory for another process until that process closes this one's input.
pub(crate) fn hold() {
    let memory: Vec<u8> = (0..SIZE).map(|index| (index / 4096) as u8 | 1).collect();
    // SAFETY: the mapping is new, at an address that the system chooses. The unmapped pages lie in it, and nothing refers to
    // them.
    let holey = unsafe {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let start =
            mmap_anonymous(std::ptr::null_mut(), SIZE, rights, MapFlags::PRIVATE | MapFlags::POPULATE);
        let start = start.unwrap_or_else(|error| panic!("{error}"));
        for page in (0..SIZE / PAGE as usize).step_by(HOLES) {
            munmap(start.byte_add(page * PAGE as usize), PAGE as usize)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        start
    };
    println!("{} {}", black_box(&memory).as_ptr().addr(), holey.addr());
    // If the output cannot be written, the other process has ended.
    let _ = stdout().flush();
    let _ = stdin().read(&mut [0]);
}

/// This program again, holding memory; the other process ends with this value.
struct Other {
    child: Child,
    start: u64,
    /// The start of the memory with holes.
    holey: u64,
}

impl Other {
    fn start() -> Self {
        let program = env::current_exe().unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(program);
        command.arg("--hold").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
        let mut line = String::new();
        if let Some(output) = child.stdout.as_mut() {
            BufReader::new(output).read_line(&mut line).unwrap_or_else(|error| panic!("{error}"));
        }
        let addresses: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match addresses.as_deref() {
            Ok(&[start, holey]) => Self { child, start: start.next_multiple_of(PAGE), holey },
            _ => panic!("the other process says {line:?}"),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One call for all reads in flight, up to the maximum that the system takes.
fn vectored(
    name: &'static str,
    pid: pid_t,
    len: usize,
    depth: usize,
    position: impl Fn(u64) -> u64 + 'static,
) -> Variant {
    assert!(depth <= MAX_PARTS, "{depth} reads");
    let mut buffers: Vec<Vec<u8>> = (0..depth).map(|_| vec![0; len]).collect();
    let part = |memory| iovec { iov_base: memory, iov_len: len };
    let local: Vec<_> = buffers.iter_mut().map(|buffer| part(buffer.as_mut_ptr().cast::<c_void>())).collect();
    let mut remote: Vec<_> = (0..depth).map(|_| part(std::ptr::null_mut())).collect();
    Variant::batched(name, depth, move |count| {
        for batch in 0..count / depth as u64 {
            for (index, range) in remote.iter_mut().enumerate() {
                range.iov_base = position(batch * depth as u64 + index as u64) as *mut c_void;
            }
            let parts = depth as c_ulong;
            // SAFETY: the local ranges are the buffers, which live in this closure.
            let read =
                unsafe { libc::process_vm_readv(pid, local.as_ptr(), parts, remote.as_ptr(), parts, 0) };
            assert_eq!(read, (len * depth) as isize);
        }
        black_box(&buffers);
    })
}

/// One call per read. A call may read fewer bytes than requested.
fn one_by_one(pid: pid_t, len: usize, position: impl Fn(u64) -> u64 + 'static) -> Variant {
    let mut buffer = vec![0; len];
    Variant::new("process_vm_readv, one by one", move |count| {
        for index in 0..count {
            let local = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len };
            let remote = iovec { iov_base: position(index) as *mut c_void, iov_len: len };
            // SAFETY: the local range is the buffer.
            black_box(unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) });
        }
        black_box(&buffer);
    })
}

/// Reads of the existing bytes, with `depth` reads in flight.
fn partly(
    name: &'static str,
    host: &Host,
    device: &'static Device,
    len: usize,
    depth: usize,
    position: impl Fn(u64) -> u64 + 'static,
) -> Variant {
    let ask = move |index, buffer| device.read_at(position(index), buffer);
    in_turn(name, host, vec![vec![0; len]; depth], ask, |read| {
        let (report, buffer) = read?;
        black_box(report.done());
        Ok(buffer)
    })
}

/// Reads with the crate read-process-memory, into a reused buffer.
fn copy_address(pid: pid_t, len: usize, position: impl Fn(u64) -> u64 + 'static) -> Variant {
    let handle = ProcessHandle::try_from(pid).unwrap_or_else(|error| panic!("{error}"));
    let mut buffer = vec![0; len];
    Variant::new("read-process-memory", move |count| {
        for index in 0..count {
            let read = handle.copy_address(position(index) as usize, &mut buffer);
            read.unwrap_or_else(|error| panic!("{error}"));
        }
        black_box(&buffer);
    })
}
