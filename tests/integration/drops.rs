//! Futures, devices and hosts that are dropped at any time, in any order, on any thread.
//!
//! Run under AddressSanitizer and valgrind, these tests show that nothing is used after it was freed and nothing is leaked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use pactio::{Device, Host};
use pactio_tests::{host, in_time, random};

const LIBRARIES: [&str; 6] = [
    "pactio_memory",
    "pactio_file",
    "fixture_queued",
    "fixture_eight_threads",
    "fixture_descriptor",
    "fixture_late",
];

fn devices(host: &Host) -> Vec<Device> {
    ["memory:?size=4KiB", "file:/proc/self/exe", "queued:4096", "eight-threads:", "descriptor:"]
        .map(|url| host.open(url).unwrap())
        .into()
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

type Request = Pin<Box<dyn Future<Output = usize> + Send>>;

fn request(device: &Device, random: &mut fastrand::Rng) -> Request {
    let device = device.clone();
    let position = random.u64(..4096);
    let len = random.usize(..300);
    match random.u8(..4) {
        0 => Box::pin(async move { device.read_at(position, vec![0; len]).await.unwrap().0.done() }),
        1 => Box::pin(async move { device.write_at(position, vec![1; len]).await.unwrap().0.done() }),
        2 => Box::pin(async move {
            let mut bytes = [0; 64];
            device.read_at(position, &mut bytes).await.unwrap().0.done()
        }),
        _ => Box::pin(async move { device.read::<u64>(position).await.map_or(0, |_| 8) }),
    }
}

/// One of the threads of the storm: makes requests, polls them a few times, and drops them, finishes them, or sends them to
/// another thread, which does the same.
fn storm(
    count: usize,
    devices: Vec<Device>,
    mut random: fastrand::Rng,
    wakes: Arc<Wakes>,
    others: Vec<Sender<Request>>,
    given: Receiver<Request>,
) -> usize {
    let waker = Waker::from(wakes);
    let mut done = 0;
    for _ in 0..count {
        let mut request = match given.try_recv() {
            Ok(request) if random.bool() => request,
            _ => request(&devices[random.usize(..devices.len())], &mut random),
        };
        let finished =
            (0..random.u8(..3)).any(|_| request.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if finished {
            done += 1;
            continue;
        }
        match random.u8(..8) {
            0..4 => drop(request),
            4..6 => {
                let _ = others[random.usize(..others.len())].send(request);
            }
            _ => {
                pollster::block_on(request);
                done += 1;
            }
        }
    }
    done
}

#[test]
fn a_hundred_thousand_requests_dropped_at_random() {
    const THREADS: usize = 4;
    let count = std::env::var("PACTIO_DROPS").map_or(100_000, |count| count.parse().unwrap());
    in_time(move || {
        let mut random = random();
        let host = host(&LIBRARIES);
        let devices = devices(&host);
        let wakes = Arc::new(Wakes::default());
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel()).unzip();
        let threads: Vec<_> = receivers
            .into_iter()
            .map(|given| {
                let (devices, wakes, others) = (devices.clone(), wakes.clone(), senders.clone());
                let random = fastrand::Rng::with_seed(random.u64(..));
                std::thread::spawn(move || storm(count / THREADS, devices, random, wakes, others, given))
            })
            .collect();
        drop(senders);
        // Some requests are in flight when the handles are dropped, in this order or the other.
        if random.bool() {
            drop(host);
            drop(devices);
        } else {
            drop(devices);
            drop(host);
        }
        let done: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("drop_storm_requests={count} finished={done}");
        assert!(done > count / 10 && done < count, "{done} of {count} were finished: that is no storm");
        // Detached requests end on threads of the plugins.
        let limit = Instant::now() + Duration::from_secs(60);
        while Arc::strong_count(&wakes) > 1 {
            assert!(Instant::now() < limit, "{} wakers are left", Arc::strong_count(&wakes) - 1);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Drops the host, the device and a request that was polled once, in this order.
fn in_order(order: [u8; 3], url: &str) {
    let host = host(&LIBRARIES);
    let device = host.open(url).unwrap();
    let wakes = Arc::new(Wakes::default());
    let mut request: Option<Request> = Some(Box::pin({
        let device = device.clone();
        async move { device.read_at(3, vec![0; 1000]).await.unwrap().0.done() }
    }));
    let finished = request
        .as_mut()
        .unwrap()
        .as_mut()
        .poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
        .is_ready();
    let (mut host, mut device) = (Some(host), Some(device));
    for step in order {
        match step {
            0 => drop(host.take()),
            1 => drop(device.take()),
            _ => match request.take() {
                // A request can be finished after everything else is gone, unless the device never answers.
                Some(request) if !finished && step == 3 => {
                    pollster::block_on(request);
                }
                request => drop(request),
            },
        }
    }
}

#[test]
fn host_device_and_request_in_every_order() {
    in_time(|| {
        let urls = [
            "memory:?size=4KiB",
            "file:/proc/self/exe",
            "queued:4096",
            "eight-threads:",
            "descriptor:",
            "late:",
        ];
        for url in urls {
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                in_order(order, url);
            }
        }
        for url in &urls[..5] {
            for order in [[0, 1, 3], [1, 0, 3], [3, 0, 1]] {
                in_order(order, url);
            }
        }
        // The views that `late:` keeps would count as a leak of the plugin.
        drop(host(&LIBRARIES).open("late:release").unwrap());
    });
}

#[test]
fn a_forgotten_future_leaks_its_own_memory_only() {
    in_time(|| {
        let host = host(&LIBRARIES);
        let device = host.open("queued:4096").unwrap();
        let mut buffer = [0; 64];
        let mut request = device.read_exact_at(0, &mut buffer);
        let _ = Pin::new(&mut request).poll(&mut Context::from_waker(Waker::noop()));
        // The request is dropped later, so that the leak checkers report nothing.
        let forgotten = std::mem::ManuallyDrop::new(request);
        let expected: Vec<u8> = (0..64).collect();
        assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 64])).unwrap(), expected);
        drop(std::mem::ManuallyDrop::into_inner(forgotten));
        assert!(buffer == [0; 64] || buffer[..] == expected[..], "{buffer:?}");
    });
}

#[test]
fn a_forked_process_gets_an_error() {
    use std::os::unix::process::CommandExt;

    let host = pactio_tests::host(&["fixture_queued", "pactio_memory"]);
    let devices = ["queued:100", "memory:?size=100"].map(|url| host.open(url).unwrap());
    let in_child = {
        let (host, devices) = (host.clone(), devices.clone());
        move || {
            let wrong = |what: &str| Err(std::io::Error::other(what.to_owned()));
            for device in &devices {
                match host.block_on(device.read_exact_at(0, vec![0; 10])) {
                    Err(error) if error.hint().is_some_and(|hint| hint.contains("was forked off")) => {}
                    _ => return wrong("a read in the child"),
                }
            }
            match host.open("memory:?size=100") {
                Err(error) if error.to_string().contains("was forked off") => Ok(()),
                _ => wrong("an open in the child"),
            }
        }
    };
    let mut command = std::process::Command::new("true");
    // SAFETY: the closure takes no lock that another thread may have held during the fork, except that of the allocator, which
    // the C library keeps usable in the child.
    unsafe { command.pre_exec(in_child) };
    assert!(command.status().unwrap().success());
    for device in &devices {
        assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap().len(), 10);
    }
}
