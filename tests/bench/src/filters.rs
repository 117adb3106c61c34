//! The cost of the filters `verify` and `crypt` beyond the hash and the cipher: 64 KiB of a device in memory.
//!
//! The plugins are linked in, so that the cipher alone is the same machine code as the filter's: differences in the compiled loop
//! of the mode would outweigh the filter's cost.

use std::hint::black_box;

use pactio::{Device, Host, OpenOptions};
use pactio_blocks::Blocks;
use pactio_plugin_crypt::Cipher;
use sha2::{Digest, Sha256};

use crate::measure::{Variant, measure};

/// Bytes of a request.
const LEN: usize = 64 << 10;

/// The two keys of XTS, as they are in the URL.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

/// Prints the time of each filter less that of the device alone, as a multiple of the time of the hash or the cipher alone.
pub(crate) fn filters(seconds: f64) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder cannot be made: {error}"));
    let host = Host::builder()
        .default_search_paths(false)
        .plugin(pactio_plugin_crypt::PLUGIN)
        .plugin(pactio_plugin_memory::PLUGIN)
        .plugin(pactio_plugin_verify::PLUGIN)
        .build();
    let host: &'static Host = Box::leak(Box::new(host.unwrap_or_else(|error| panic!("{error}"))));
    let open = |url: String| -> Device {
        let options = OpenOptions::new().read(true).write(true);
        host.open_with(&url, options).unwrap_or_else(|error| panic!("{error}"))
    };
    let memory = "memory:?size=64KiB";
    let hashes = folder.path().join("hashes");
    println!(
        "| 64 KiB in memory, fastest samples | (filter - device) / hash or cipher | device / hash or cipher |"
    );
    println!("|---|---:|---:|");
    for (name, url, write) in [
        ("verify, read", format!("{memory} | verify?make=true&hashes={}", hashes.display()), false),
        ("crypt, read", format!("{memory} | crypt?key={KEY}"), false),
        ("crypt in blocks of 4 KiB, read", format!("{memory} | crypt?key={KEY}&block=4KiB"), false),
        ("crypt, write", format!("{memory} | crypt?key={KEY}"), true),
    ] {
        let alone = match name {
            "verify, read" => hash(),
            "crypt in blocks of 4 KiB, read" => cipher(4096, false),
            _ => cipher(512, write),
        };
        let transfer = if write { written } else { read };
        let variants = vec![
            alone,
            transfer("device", host, open(memory.to_owned())),
            transfer("filter", host, open(url)),
        ];
        let table = measure(variants, seconds / 4.0);
        let [alone, device, filter] = [0, 1, 2].map(|row| table.rows[row].fastest);
        println!("| {name} | {:.3} | {:.3} |", (filter - device) / alone, device / alone);
    }
}

fn hash() -> Variant {
    let bytes = vec![7; LEN];
    Variant::new("the hash alone", move |count| {
        for _ in 0..count {
            black_box(Sha256::digest(black_box(&bytes)));
        }
    })
}

fn cipher(unit: usize, encrypt: bool) -> Variant {
    let key: [u8; 64] = std::array::from_fn(|at| at as u8);
    let cipher = Cipher::new(&key, unit).unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = vec![7; LEN];
    Variant::new("the cipher alone", move |count| {
        for _ in 0..count {
            let bytes = black_box(&mut bytes);
            if encrypt {
                cipher.encrypt(0, bytes);
                continue;
            }
            for (number, block) in (0..).zip(bytes.chunks_exact_mut(unit)) {
                cipher.decode(number, block).unwrap_or_else(|cause| panic!("{cause}"));
            }
        }
    })
}

fn read(name: &'static str, host: &'static Host, device: Device) -> Variant {
    let mut buffer = vec![0; LEN];
    Variant::new(name, move |count| {
        for _ in 0..count {
            let read = host.block_on(device.read_exact_at(0, std::mem::take(&mut buffer)));
            buffer = black_box(read.unwrap_or_else(|error| panic!("{error}")));
        }
    })
}

fn written(name: &'static str, host: &'static Host, device: Device) -> Variant {
    let mut buffer = vec![7; LEN];
    Variant::new(name, move |count| {
        for _ in 0..count {
            let written = host.block_on(device.write_all_at(0, std::mem::take(&mut buffer)));
            buffer = black_box(written.unwrap_or_else(|error| panic!("{error}")));
        }
    })
}
