//! Reads of a file that the page cache has, against plain loops on the system's interfaces.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use io_uring::{IoUring, opcode, types};
use mfio::backend::IoBackendExt;
use mfio_rt::{Fs, NativeRt, NativeRtBuilder, OpenOptions};

use crate::measure::{Speeds, Variant, measure};
use crate::ours::reused;
use crate::peers::send;

/// Size of the file in bytes.
const SIZE: u64 = 64 << 20;

/// Bytes per read, and how many are in flight.
const CASES: [(usize, usize); 7] =
    [(512, 1), (4096, 1), (4096, 32), (4096, 128), (65_536, 1), (65_536, 32), (1 << 20, 1)];

/// Prints how many times as fast as a loop on the ring each way is.
pub(crate) fn files(seconds: f64) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder cannot be made: {error}"));
    let path = folder.path().join("file");
    let mut file = File::create_new(&path).unwrap_or_else(|error| panic!("{error}"));
    let block: Vec<u8> = (0..1 << 20).map(|byte| (byte % 251) as u8).collect();
    for _ in 0..SIZE >> 20 {
        file.write_all(&block).unwrap_or_else(|error| panic!("{error}"));
    }
    let host = pactio_tests::host(&["pactio_file"]);
    let url = format!("file:{}", path.display());
    let open = |options: &str| {
        let device = host.open(&format!("{url}{options}")).unwrap_or_else(|error| panic!("{error}"));
        &*Box::leak(Box::new(device))
    };
    let (device, threads, mapped) = (open(""), open("?io=threads"), open("?map=true"));
    let mut speeds = Speeds::default();
    for (len, depth) in CASES {
        let read = || File::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let at = move |index| position(index, len);
        let variants = vec![
            ring(read(), len, depth),
            pread(read(), len),
            mfio_rt(&path, len, depth),
            reused("pactio file, reused packets", &host, device, len, depth, at),
            reused("pactio file, reused packets, io=threads", &host, threads, len, depth, at),
            reused("pactio file, reused packets, map=true", &host, mapped, len, depth, at),
        ];
        speeds.push(case(len, depth), measure(variants, seconds / CASES.len() as f64));
    }
    speeds.print("times as fast; bytes, in flight");
}

/// The name of so many bytes with so many reads in flight.
pub(crate) fn case(len: usize, depth: usize) -> String {
    match len {
        ..1024 => format!("{len} B, {depth}"),
        1024..1_048_576 => format!("{} KiB, {depth}", len >> 10),
        _ => format!("{} MiB, {depth}", len >> 20),
    }
}

/// Scattered over the file, the same for all.
fn position(index: u64, len: usize) -> u64 {
    let blocks = SIZE / len as u64;
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks * len as u64
}

/// Registered file and buffers; when something is through, the next one goes in.
fn ring(file: File, len: usize, depth: usize) -> Variant {
    let mut ring = IoUring::new(depth as u32).unwrap_or_else(|error| panic!("{error}"));
    let mut buffers: Vec<Vec<u8>> = (0..depth).map(|_| vec![0; len]).collect();
    let parts: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len })
        .collect();
    ring.submitter().register_files(&[file.as_raw_fd()]).unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: the buffers live as long as the ring, in the closure below.
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
                // SAFETY: the buffer is registered and free.
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

/// mfio's runtime on its ring, with packets that it reuses.
fn mfio_rt(path: &Path, len: usize, depth: usize) -> Variant {
    let rt = NativeRtBuilder::default().io_uring(true).build();
    let rt: &'static NativeRt = Box::leak(Box::new(rt.unwrap_or_else(|error| panic!("{error:?}"))));
    let opened = rt.block_on(rt.open(path, OpenOptions::new().read(true)));
    let file = opened.unwrap_or_else(|error| panic!("{error:?}"));
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
