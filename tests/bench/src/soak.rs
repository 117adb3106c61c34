//! Many requests of all kinds in one process: memory and descriptors must not grow.

use std::fs;

use pactio::{BufferPool, Host, PacketBox};
use pactio_sdk::{VectoredIo, Write};

/// Resident memory in bytes and open descriptors of this process.
fn held() -> Option<(u64, usize)> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some((pages * 4096, fs::read_dir("/proc/self/fd").ok()?.count()))
}

/// Runs one round, and returns the number of packets.
async fn round(host: &Host, urls: &[String], pool: &BufferPool) -> Result<u64, pactio::Error> {
    let mut packets = 0;
    for url in urls {
        let device = host.open(url)?;
        let mut slice = [0; 64];
        let mut packet = PacketBox::<Write>::new_buf(64).map_err(|_| unreachable_memory())?;
        for index in 0..2000u64 {
            let position = index * 64 % 8192;
            device.read_exact_at(position, &mut slice).await?;
            device.write_all_at(position, &slice).await?;
            packet = device.read_exact_at(position, packet).await?;
            let _: u64 = device.read(position).await?;
            let mut buffer = pool.get().await;
            buffer.set_len(64);
            device.read_exact_at(position, buffer).await?;
            device.read_exact_at(position, vec![0; 64]).await?;
            // A read that fails, with its report.
            let _ = device.read_at(1 << 40, vec![0; 8]).await?;
            packets += 7;
        }
        let pairs: Vec<(u64, Vec<u8>)> = (0..100).map(|index| (index * 64, vec![0; 64])).collect();
        let _ = VectoredIo::<Write, u64>::vectored(&device, pairs).await;
        packets += 1;
    }
    Ok(packets)
}

fn unreachable_memory() -> pactio::Error {
    panic!("there is memory for 64 bytes")
}

/// Reads through the maximum number of layers on a small stack. If the stack is too small, the process ends.
fn deepest() {
    let run = || {
        let host = pactio_tests::host(&["pactio_memory", "fixture_identity"]);
        let url = "memory:?size=4KiB&fill=7".to_owned() + &" | identity".repeat(255);
        let device = host.open(&url).unwrap_or_else(|error| panic!("{error}"));
        let bytes = host.block_on(device.read_exact_at(1, vec![0; 100]));
        assert!(bytes.is_ok_and(|bytes| bytes == [7; 100]), "the bytes come through all layers");
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(run);
    assert!(thread.is_ok_and(|thread| thread.join().is_ok()), "it fits on the stack");
    println!("soak_layers=256");
}

/// Runs about `wanted` packets, and returns whether memory and descriptors did not grow.
pub(crate) fn soak(wanted: u64) -> bool {
    deepest();
    let host = pactio_tests::host(&["pactio_memory", "fixture_queued"]);
    let urls = ["memory:?size=16KiB".to_owned(), "queued:16384".to_owned()];
    let pool = BufferPool::new(8, 4096).unwrap_or_else(|error| panic!("{error}"));
    let run = || host.block_on(round(&host, &urls, &pool)).unwrap_or_else(|error| panic!("{error}"));
    // The first tenth fills the caches of allocators and the pools of packets.
    let mut packets = 0;
    while packets < wanted / 10 {
        packets += run();
    }
    // A leak grows in each attempt. Memory that a delayed thread touches for the first time grows only once.
    for _ in 0..3 {
        let Some(before) = held() else { return true };
        let end = packets + wanted * 9 / 10;
        while packets < end {
            packets += run();
        }
        let Some(after) = held() else { return true };
        let growth = after.0 as f64 / before.0 as f64 - 1.0;
        println!("soak_packets={packets}");
        println!("soak_memory_growth={:.2}%", growth * 100.0);
        println!("soak_descriptor_growth={}", after.1 as i64 - before.1 as i64);
        if growth < 0.01 && after.1 <= before.1 {
            return true;
        }
    }
    false
}
