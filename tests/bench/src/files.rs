//! Reads of a file in the page cache, against plain loops on the system's interfaces.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use io_uring::{IoUring, opcode, types};
use mfio::backend::IoBackendExt;
use mfio::traits::IoRead as _;
use mfio_rt::{FileHandle, Fs, NativeRt, NativeRtBuilder, OpenOptions};
use pactio::{BufferPool, Device, Host};

use crate::Arguments;
use crate::measure::{Speeds, Variant, measure_after};
use crate::ours::{pooled, reused};
use crate::peers::send;

/// Size of the file in bytes.
const SIZE: u64 = 64 << 20;

/// Bytes per read, and the number of reads in flight.
const CASES: [(usize, usize); 7] =
    [(512, 1), (4096, 1), (4096, 32), (4096, 128), (65_536, 1), (65_536, 32), (1 << 20, 1)];

/// Bytes per read into memory of the caller, one read at a time.
const SLICES: [usize; 3] = [65_536, 262_144, 1 << 20];

/// Bytes per read, and the number of reads in flight in each thread.
const THREADS: [(usize, usize); 3] = [(4096, 1), (4096, 32), (65_536, 1)];

/// Prints the speed of each way as a multiple of a loop on the ring, the cost of reads into memory of the caller, and the gain of
/// a second thread.
pub(crate) fn files(arguments: &Arguments) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder cannot be made: {error}"));
    let path = folder.path().join("file");
    let mut file = File::create_new(&path).unwrap_or_else(|error| panic!("{error}"));
    let block: Vec<u8> = (0..1 << 20).map(|byte| (byte % 251) as u8).collect();
    for _ in 0..SIZE >> 20 {
        file.write_all(&block).unwrap_or_else(|error| panic!("{error}"));
    }
    let host: &'static Host = Box::leak(Box::new(pactio_tests::host(&["pactio_file"])));
    let url = format!("file:{}", path.display());
    let open = |options: &str| -> &'static Device {
        let device = host.open(&format!("{url}{options}")).unwrap_or_else(|error| panic!("{error}"));
        Box::leak(Box::new(device))
    };
    let (device, threads, mapped) = (open(""), open("?io=threads"), open("?map=true"));
    let read = || File::open(&path).unwrap_or_else(|error| panic!("{error}"));
    // The system may evict pages from the page cache at any time.
    let warm = || {
        io::copy(&mut read(), &mut io::sink()).unwrap_or_else(|error| panic!("{error}"));
    };
    let print = |what: &str, cases: &[(usize, usize)], variants: &dyn Fn(usize, usize) -> Vec<Variant>| {
        let (cases, seconds) =
            arguments.cases(cases.iter().map(|&(len, depth)| (case(len, depth), (len, depth))));
        let mut speeds = Speeds::default();
        for (name, (len, depth)) in cases {
            speeds.push(name, measure_after(warm, arguments.variants(variants(len, depth)), seconds / 3.0));
        }
        speeds.print(what);
        println!();
    };
    print("bytes, in flight", &CASES, &|len, depth| {
        let at = move |index| position(index, len);
        vec![
            ring(read(), len, depth),
            pread(read(), len),
            mfio_rt(&path, len, depth),
            reused("pactio file, reused packets, io=auto", host, device, len, depth, at),
            pooled("pactio file, registered buffers", host, device, len, depth, at),
            reused("pactio file, reused packets, io=threads", host, threads, len, depth, at),
            reused("pactio file, reused packets, map=true", host, mapped, len, depth, at),
        ]
    });
    print("bytes into memory of the caller's, in flight", &SLICES.map(|len| (len, 1)), &|len, _| {
        vec![
            ring_into_vec(read(), len),
            mfio_rt_slice(&path, len),
            slice(device, len),
            buffers(host, device, len),
        ]
    });
    print("bytes, in flight in each thread", &THREADS, &|len, depth| {
        vec![
            in_threads("pactio file, one thread", 1, host, device, len, depth),
            in_threads("pactio file, two threads", 2, host, device, len, depth),
            in_threads("pactio file, two threads, map=true", 2, host, mapped, len, depth),
        ]
    });
}

/// The name of a case: bytes per read and number of reads in flight.
pub(crate) fn case(len: usize, depth: usize) -> String {
    match len {
        ..1024 => format!("{len} B, {depth}"),
        1024..1_048_576 => format!("{} KiB, {depth}", len >> 10),
        _ => format!("{} MiB, {depth}", len >> 20),
    }
}

/// A position in the file, scattered, the same for all variants.
fn position(index: u64, len: usize) -> u64 {
    let blocks = SIZE / len as u64;
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks * len as u64
}

/// Registered file and buffers; when a read is complete, the next one is submitted.
fn ring(file: File, len: usize, depth: usize) -> Variant {
    let mut ring = IoUring::new(depth as u32).unwrap_or_else(|error| panic!("{error}"));
    let mut buffers: Vec<Vec<u8>> = (0..depth).map(|_| vec![0; len]).collect();
    let parts: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len })
        .collect();
    ring.submitter().register_files(&[file.as_raw_fd()]).unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: the buffers are moved into the closure below with the ring, and live as long as the ring.
    unsafe { ring.submitter().register_buffers(&parts) }.unwrap_or_else(|error| panic!("{error}"));
    Variant::batched("io-uring, registered file and buffers", depth, move |count| {
        let (mut sent, mut done) = (0, 0);
        let mut free: Vec<u16> = (0..depth as u16).collect();
        while done < count {
            while sent < count
                && let Some(index) = free.pop()
            {
                let memory = buffers[index as usize].as_mut_ptr();
                let entry = opcode::ReadFixed::new(types::Fixed(0), memory, len as u32, index)
                    .offset(position(sent, len))
                    .build()
                    .user_data(index as u64);
                // SAFETY: the buffer is registered memory that lives as long as the ring, and no other entry in flight uses it.
                let pushed = unsafe { ring.submission().push(&entry) };
                assert!(pushed.is_ok(), "there is room for as many as there are buffers");
                sent += 1;
            }
            ring.submit_and_wait(1).unwrap_or_else(|error| panic!("{error}"));
            while let Some(completion) = ring.completion().next() {
                assert_eq!(completion.result(), len as i32);
                free.push(completion.user_data() as u16);
                done += 1;
            }
        }
        black_box(&buffers);
    })
}

fn pread(file: File, len: usize) -> Variant {
    let mut buffer = vec![0; len];
    Variant::new("pread", move |count| {
        for index in 0..count {
            file.read_exact_at(&mut buffer, position(index, len)).unwrap_or_else(|error| panic!("{error}"));
        }
        black_box(&buffer);
    })
}

/// A file of mfio's runtime on its ring.
fn mfio_file(path: &Path) -> (&'static NativeRt, impl FileHandle + use<>) {
    let rt = NativeRtBuilder::default().io_uring(true).build();
    let rt: &'static NativeRt = Box::leak(Box::new(rt.unwrap_or_else(|error| panic!("{error:?}"))));
    let opened = rt.block_on(rt.open(path, OpenOptions::new().read(true)));
    (rt, opened.unwrap_or_else(|error| panic!("{error:?}")))
}

/// Reads with mfio's file, with packets that are used again.
fn mfio_rt(path: &Path, len: usize, depth: usize) -> Variant {
    let (rt, file) = mfio_file(path);
    let packets: Vec<_> = (0..depth).map(|_| mfio::io::Packet::<mfio::io::Write>::new_buf(len)).collect();
    Variant::batched("mfio-rt, io_uring, reused packets", depth, move |count| {
        rt.block_on(async {
            for batch in 0..count / depth as u64 {
                let at = (0..).map(|index| position(batch * depth as u64 + index, len));
                send(&file, &packets, at).await;
            }
        });
    })
}

fn plain(name: &'static str, len: usize, mut read: impl FnMut(u64, &mut [u8]) + 'static) -> Variant {
    let mut buffer = vec![0; len];
    Variant::new(name, move |count| {
        for index in 0..count {
            read(position(index, len), &mut buffer);
        }
        black_box(&buffer);
    })
}

/// A loop on the ring that reads into a vector.
fn ring_into_vec(file: File, len: usize) -> Variant {
    let mut ring = IoUring::new(1).unwrap_or_else(|error| panic!("{error}"));
    ring.submitter().register_files(&[file.as_raw_fd()]).unwrap_or_else(|error| panic!("{error}"));
    plain("io-uring, registered file, a vector", len, move |position, buffer| {
        let read =
            opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), len as u32).offset(position).build();
        // SAFETY: the buffer lives until the completion has arrived, for which the code below waits.
        let pushed = unsafe { ring.submission().push(&read) };
        assert!(pushed.is_ok(), "there is room for one");
        ring.submit_and_wait(1).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ring.completion().next().map(|completion| completion.result()), Some(len as i32));
    })
}

fn mfio_rt_slice(path: &Path, len: usize) -> Variant {
    let (rt, file) = mfio_file(path);
    plain("mfio-rt, io_uring, read_all into a slice", len, move |position, buffer| {
        rt.block_on(file.read_all(position, buffer)).unwrap_or_else(|error| panic!("{error:?}"));
    })
}

fn slice(device: &'static Device, len: usize) -> Variant {
    plain("pactio file, a slice, blocking", len, move |position, buffer| {
        device.blocking_read_exact_at(position, buffer).unwrap_or_else(|error| panic!("{error}"));
    })
}

fn buffers(host: &'static Host, device: &'static Device, len: usize) -> Variant {
    let pool = BufferPool::new(1, len).unwrap_or_else(|error| panic!("{error}"));
    Variant::new("pactio file, a buffer of a pool", move |count| {
        host.block_on(async {
            let mut buffer = pool.get().await;
            for index in 0..count {
                let read = device.read_exact_at(position(index, len), buffer).await;
                buffer = black_box(read.unwrap_or_else(|error| panic!("{error}")));
            }
        });
    })
}

/// Each thread makes an equal share of the reads, with `depth` reads in flight.
fn in_threads(
    name: &'static str,
    threads: u64,
    host: &'static Host,
    device: &'static Device,
    len: usize,
    depth: usize,
) -> Variant {
    let (work, done): (Vec<_>, Vec<_>) = (0..threads)
        .map(|_| {
            let (work, orders) = mpsc::channel();
            let (report, done) = mpsc::channel();
            thread::spawn(move || {
                let mut variant = reused(name, host, device, len, depth, move |index| position(index, len));
                for count in orders {
                    variant.run(count);
                    if report.send(()).is_err() {
                        return;
                    }
                }
            });
            (work, done)
        })
        .unzip();
    Variant::batched(name, depth * threads as usize, move |count| {
        for work in &work {
            work.send(count / threads).unwrap_or_else(|error| panic!("{error}"));
        }
        for done in &done {
            done.recv().unwrap_or_else(|error| panic!("{error}"));
        }
    })
}
