//! Calls of devices of the plugin `random.c`, which does what the bytes of its target say.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_lite::future::{or, poll_once};
use pactio::{Host, OpenOptions};

/// Opens a device for the bytes, sends it requests of all kinds, gives some of them up, and closes it. No request may report more
/// bytes than it has, or bytes that the device did not write, and the close ends.
pub(crate) fn call(host: &Host, bytes: &[u8]) {
    let target: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let options = OpenOptions::new().read(true).write(true);
    // A device with limits that make no sense is refused.
    let Ok(device) = host.open_with(&format!("random:{target}"), options) else { return };
    let len = |at: usize| usize::from(bytes.get(at).copied().unwrap_or(at as u8)) * 37;
    let mut calls: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
    for at in 0..12 {
        let device = device.clone();
        let (position, size) = (len(at + 1) as u64, len(at));
        calls.push(match (at + bytes.len()) % 6 {
            0 | 1 => Box::pin(async move {
                let Ok((report, read)) = device.read_at(position, vec![0; size]).await else { return };
                assert!(report.done() <= size);
                for range in report.done_ranges() {
                    assert!(read[range].iter().all(|byte| *byte == 7), "{report}");
                }
            }),
            2 => Box::pin(async move {
                if let Ok((report, _)) = device.write_at(position, vec![1; size]).await {
                    assert!(report.done() <= size);
                }
            }),
            3 => Box::pin(async move {
                let _ = device.list("folder").await;
                let _ = device.regions().await;
            }),
            4 => Box::pin(async move {
                let _ = device.stat().await;
                let _ = device.flush().await;
                let _ = device.statistics().await;
            }),
            _ => Box::pin(async move {
                let _ = device.read_next(vec![0; size]).await;
                let _ = device.opening("name", OpenOptions::new().read(true)).await;
            }),
        });
    }
    host.block_on(async {
        // All are sent, then awaited for a moment. Those that the device keeps are given up.
        let mut left = Vec::new();
        for mut call in calls {
            if poll_once(&mut call).await.is_none() {
                left.push(call);
            }
        }
        let all = async {
            for call in left {
                call.await;
            }
        };
        or(all, async {
            async_io::Timer::after(Duration::from_millis(5)).await;
        })
        .await;
    });
    device.close(Duration::from_secs(30)).unwrap_or_else(|error| panic!("{target}: {error}"));
}
