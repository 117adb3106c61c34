//! Reads of another process, against the system's own call and a crate for it.

use std::env;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdin, stdout};
use std::process::{Child, Command, Stdio};

use libc::{c_ulong, c_void, iovec, pid_t};
use read_process_memory::{CopyAddress as _, ProcessHandle};

use crate::Arguments;
use crate::files::case;
use crate::measure::{Speeds, Variant, measure};
use crate::ours::reused;

/// Memory of the other process in bytes: more than the caches hold.
const SIZE: usize = 256 << 20;

const PAGE: u64 = 4096;

/// Bytes per read, and how many are in flight. Of the small ones, eight lie in each page.
const CASES: [(usize, usize); 6] = [(64, 64), (64, 512), (4096, 1), (4096, 64), (4096, 512), (65_536, 64)];

/// Most ranges that the system takes in one call.
const MOST: usize = 1024;

/// Prints how many times as fast as the system's batched call each way is.
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
}

/// Where a read lies: whole ones scattered, small ones eight to a scattered page.
fn scattered(index: u64, len: usize) -> u64 {
    let (unit, inside) = match len {
        ..512 => (index / 8, index % 8 * 512),
        _ => (index, 0),
    };
    let block = PAGE.max(len as u64);
    // The last one may end behind the memory, which does not begin with a page.
    let blocks = SIZE as u64 / block - 1;
    unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks * block + inside
}

/// Holds memory for another process until nobody wants it any more.
pub(crate) fn hold() {
    let memory: Vec<u8> = (0..SIZE).map(|index| (index / 4096) as u8 | 1).collect();
    println!("{}", black_box(&memory).as_ptr().addr());
    // Nobody is left to tell if it cannot be written.
    let _ = stdout().flush();
    let _ = stdin().read(&mut [0]);
}

/// This program again, holding memory; it ends with this one.
struct Other {
    child: Child,
    start: u64,
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
        let start: u64 = line.trim().parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
        Self { child, start: start.next_multiple_of(PAGE) }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One call for all that are in flight, as far as the system takes so many.
fn vectored(
    name: &'static str,
    pid: pid_t,
    len: usize,
    depth: usize,
    position: impl Fn(u64) -> u64 + 'static,
) -> Variant {
    assert!(depth <= MOST);
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

/// The crate read-process-memory, into a buffer that it is given.
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
