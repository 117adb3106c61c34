//! Whole files of a zip archive in the page cache: through the plugin, through the zip crate, and the codec's own call in memory.

use std::fs;
use std::hint::black_box;
use std::io::{Cursor, Read as _, Write as _};

use futures_util::future::join_all;
use pactio::{Device, Host};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::measure::{Variant, measure};

/// Sizes of the files in an archive.
const SIZES: [usize; 3] = [64 << 10, 512 << 10, 4 << 20];

/// Number of files in an archive.
const FILES: usize = 16;

/// Prints how long each way takes, as a multiple of the codec's own call on one core.
pub(crate) fn archives(seconds: f64) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder cannot be made: {error}"));
    let host: &'static Host = Box::leak(Box::new(pactio_tests::host(&["pactio_archive", "pactio_file"])));
    println!(
        "| times as long; size | the codec's own call | pactio archive | pactio archive, {FILES} at a time | zip crate |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (name, method) in [
        ("deflate (libdeflate)", CompressionMethod::Deflated),
        ("zstd", CompressionMethod::Zstd),
        ("stored (the file plugin alone)", CompressionMethod::Stored),
    ] {
        for size in SIZES {
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default().compression_method(method);
            for file in 0..FILES {
                let name = file.to_string();
                let made =
                    writer.start_file(name, options).and_then(|()| Ok(writer.write_all(&words(size))?));
                made.unwrap_or_else(|error| panic!("{error}"));
            }
            let bytes = writer.finish().unwrap_or_else(|error| panic!("{error}")).into_inner();
            let path = folder.path().join(format!("{method}-{size}.zip"));
            fs::write(&path, &bytes).unwrap_or_else(|error| panic!("{error}"));
            let open = |url: String| -> &'static Device {
                Box::leak(Box::new(host.open(&url).unwrap_or_else(|error| panic!("{error}"))))
            };
            let file = format!("file:{}", path.display());
            let archive = open(format!("{file} | archive?cache=0"));
            let file_of =
                |name: usize| archive.open(name.to_string()).unwrap_or_else(|error| panic!("{error}"));
            let ours: Vec<Device> = (0..FILES).map(file_of).collect();
            let peer = ZipArchive::new(Cursor::new(bytes.clone())).unwrap_or_else(|error| panic!("{error}"));
            let variants = vec![
                own(method, &bytes, size, host, open(file)),
                plugin(host, ours[0].clone(), size),
                at_a_time(host, ours, size),
                crate_zip(peer, size),
            ];
            let table = measure(variants, seconds / (3 * SIZES.len()) as f64);
            let ratios: Vec<_> = table.rows.iter().map(|row| format!("{:.2}", row.ratio)).collect();
            println!("| {name}, {} KiB | {} |", size >> 10, ratios.join(" | "));
        }
    }
}

/// Text that compresses like words.
fn words(size: usize) -> Vec<u8> {
    let mut seed = 7u64;
    let mut next = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let words: Vec<Vec<u8>> =
        (0..500).map(|_| (0..2 + next(8)).map(|_| b'a' + next(26) as u8).chain([b' ']).collect()).collect();
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        text.extend_from_slice(&words[next(500) as usize]);
    }
    text.truncate(size);
    text
}

/// The call that the plugin makes, on bytes in memory; for stored files, a read of the file.
fn own(
    method: CompressionMethod,
    archive: &[u8],
    size: usize,
    host: &'static Host,
    file: &'static Device,
) -> Variant {
    let mut peer = ZipArchive::new(Cursor::new(archive)).unwrap_or_else(|error| panic!("{error}"));
    let entry = peer.by_index_raw(0).unwrap_or_else(|error| panic!("{error}"));
    let (start, len) = (entry.data_start().unwrap_or_default() as usize, entry.compressed_size() as usize);
    drop(entry);
    let packed = archive[start..start + len].to_vec();
    let mut out = vec![0; size];
    let mut deflate = libdeflater::Decompressor::new();
    let mut zstd = zstd::bulk::Decompressor::new().unwrap_or_else(|error| panic!("{error}"));
    Variant::new("the codec's own call", move |count| {
        for _ in 0..count {
            match method {
                CompressionMethod::Deflated => {
                    let done = deflate.deflate_decompress(&packed, &mut out);
                    assert_eq!(done.ok(), Some(size));
                }
                CompressionMethod::Zstd => {
                    let done = zstd.decompress_to_buffer(&packed, &mut out);
                    assert_eq!(done.ok(), Some(size));
                }
                _ => {
                    let read = host.block_on(file.read_exact_at(start as u64, std::mem::take(&mut out)));
                    out = read.unwrap_or_else(|error| panic!("{error}"));
                }
            }
            black_box(&out);
        }
    })
}

fn plugin(host: &'static Host, device: Device, size: usize) -> Variant {
    let mut out = vec![0; size];
    Variant::new("pactio archive", move |count| {
        for _ in 0..count {
            let read = host.block_on(device.read_exact_at(0, std::mem::take(&mut out)));
            out = black_box(read.unwrap_or_else(|error| panic!("{error}")));
        }
    })
}

/// All files are read together, so that all processors have work.
fn at_a_time(host: &'static Host, files: Vec<Device>, size: usize) -> Variant {
    let mut buffers = vec![vec![0; size]; files.len()];
    Variant::batched("pactio archive, many at a time", files.len(), move |count| {
        for _ in 0..count / files.len() as u64 {
            let reads = files.iter().zip(std::mem::take(&mut buffers));
            let reads = reads.map(|(file, buffer)| file.read_exact_at(0, buffer));
            let read = host.block_on(join_all(reads)).into_iter().collect();
            buffers = black_box(Result::<Vec<_>, _>::unwrap_or_else(read, |error| panic!("{error}")));
        }
    })
}

fn crate_zip(mut archive: ZipArchive<Cursor<Vec<u8>>>, size: usize) -> Variant {
    let mut out = vec![0; size];
    Variant::new("zip crate", move |count| {
        for _ in 0..count {
            let mut file = archive.by_index(0).unwrap_or_else(|error| panic!("{error}"));
            file.read_exact(&mut out).unwrap_or_else(|error| panic!("{error}"));
            black_box(&out);
        }
    })
}
