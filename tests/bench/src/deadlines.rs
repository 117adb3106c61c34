//! The cost of a limit of time, the time until a cancelled request is settled, and the time until a request is answered that is
//! not polled again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pactio::{Device, Host, OpenOptions};

use crate::measure::{Variant, measure};

/// A limit of time that no read reaches.
const LIMIT: Duration = Duration::from_secs(3600);

/// Prints the tables.
pub(crate) fn deadlines(seconds: f64) {
    let names = ["cache", "cow", "delay", "file", "limit", "memory", "process", "retry", "stats"];
    let libraries = names.map(|name| format!("pactio_{name}"));
    let plugins = pactio_tests::folder_of(&libraries.each_ref().map(String::as_str));
    let host = Host::builder()
        .default_search_paths(false)
        .search_path(plugins.path())
        .worker_threads(2)
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let open = |url: &str| host.open(url).unwrap_or_else(|error| panic!("{error}"));
    let device: &'static Device = Box::leak(Box::new(open("memory:?size=16KiB")));
    let reads = vec![
        read("a read", host.clone(), device, |device| async {
            device.read_exact_at(0, vec![0; 64]).await.is_ok()
        }),
        read("a read in a task of the host", host.clone(), device, {
            let host = host.clone();
            move |device| {
                let device = device.clone();
                host.spawn(async move { device.read_exact_at(0, vec![0; 64]).await.is_ok() })
            }
        }),
        read("a read with a limit", host.clone(), device, |device| async {
            device.read_within(0, vec![0; 64], LIMIT).await.is_ok()
        }),
    ];
    print!("{}", measure(reads, seconds / 4.0));
    let opening = |name: &'static str, options: fn() -> OpenOptions| {
        let host = host.clone();
        Variant::new(name, move |count| {
            for _ in 0..count {
                let opened = host.open_with("memory:?size=64", options());
                drop(opened.unwrap_or_else(|error| panic!("{error}")));
            }
        })
    };
    let opens = vec![
        opening("opening a device", || OpenOptions::new().read(true)),
        opening("opening a device with a limit", || OpenOptions::new().read(true).within(LIMIT)),
    ];
    print!("{}", measure(opens, seconds / 4.0));
    println!("| cancelled behind | median, ms | longest, ms |\n|---|---:|---:|");
    let filters = [
        "",
        "stats",
        "limit?in-flight=4",
        "retry",
        "cow",
        "cache?block=64KiB",
        "stats | limit?in-flight=4 | retry | cow | cache",
    ];
    for filter in filters {
        let below = "memory:?size=1MiB | delay?latency=1h";
        let url = if filter.is_empty() { below.to_owned() } else { format!("{below} | {filter}") };
        let (name, device) = (if filter.is_empty() { "nothing" } else { filter }, open(&url));
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || begun.elapsed().as_secs_f64() < seconds / 4.0 / filters.len() as f64 {
            times.push(host.block_on(cancelled(&device)));
        }
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!(
            "| {} | {:.2} | {:.2} |",
            name.replace('|', "\\|"),
            ms(times[times.len() / 2]),
            ms(times[times.len() - 1])
        );
    }
    println!("| not polled again, after a pause of | median, us | 99 %, us |\n|---|---:|---:|");
    let device = open(&format!("process:{}", std::process::id()));
    for pause in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(20)] {
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || begun.elapsed().as_secs_f64() < seconds / 4.0 / 3.0 {
            std::thread::sleep(pause);
            times.push(not_polled_again(&device));
        }
        times.sort_unstable();
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("| {pause:?} | {:.0} | {:.0} |", us(median), us(late));
    }
}

/// A read, repeatedly.
fn read<F: Future<Output = bool>>(
    name: &'static str,
    host: Host,
    device: &'static Device,
    read: impl Fn(&'static Device) -> F + 'static,
) -> Variant {
    Variant::new(name, move |count| {
        host.block_on(async {
            for _ in 0..count {
                assert!(read(device).await, "it is read");
            }
        });
    })
}

/// The time from the cancellation of a read in flight until it is settled.
async fn cancelled(device: &Device) -> Duration {
    let mut request = device.read_at(4000, vec![0; 100_000]);
    poll_fn(|cx| {
        assert!(Pin::new(&mut request).poll(cx).is_pending(), "the device below takes an hour");
        Poll::Ready(())
    })
    .await;
    let begun = Instant::now();
    let (report, _) = request.cancel().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.done(), 0);
    begun.elapsed()
}

/// The time from the only poll of a deferred read until it is answered.
fn not_polled_again(device: &Device) -> Duration {
    struct Woken(Sender<()>);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let here = [0_u8; 64];
    let position = here.as_ptr().expose_provenance() as u64;
    let mut buffers = [[0; 64]; 2];
    let [first, second] = &mut buffers;
    let (sender, woken) = channel();
    let waker = Waker::from(Arc::new(Woken(sender)));
    // Two requests make a group, so the next first one is deferred, too. It wakes its task; the second one does not.
    let (mut first, mut second) =
        (pin!(device.read_exact_at(position, first)), pin!(device.read_exact_at(position, second)));
    let begun = Instant::now();
    let _ = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let at_once = second.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
    if !at_once {
        woken.recv().unwrap_or_else(|error| panic!("{error}"));
    }
    begun.elapsed()
}
