//! Futures of a device under the host's executor and under others, for four devices: one answers at once, one needs its driver
//! polled, one answers from threads, and one has a driver that waits for a descriptor.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use pactio::{Device, Host};
use pactio_tests::{host, in_time};

const LIBRARIES: [&str; 4] =
    ["pactio_memory", "fixture_queued", "fixture_eight_threads", "fixture_descriptor"];

fn devices(host: &Host) -> Vec<Device> {
    ["memory:?size=64KiB&fill=3", "queued:65536", "eight-threads:", "descriptor:"]
        .map(|url| host.open(url).unwrap())
        .into()
}

/// Many requests, at once and one after the other.
async fn work(device: Device) {
    let first = device.read_exact_at(100, vec![0; 1000]).await.unwrap();
    let mut all: Vec<_> = (0..50).map(|_| Box::pin(device.read_exact_at(100, vec![0; 1000]))).collect();
    let mut left = all.len();
    std::future::poll_fn(|cx| {
        all.retain_mut(|request| match request.as_mut().poll(cx) {
            Poll::Ready(bytes) => {
                assert_eq!(bytes.unwrap(), first);
                left -= 1;
                false
            }
            Poll::Pending => true,
        });
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    for position in 0..50 {
        let mut buffer = [0; 7];
        device.read_exact_at(position, &mut buffer).await.unwrap();
        assert_eq!(device.read::<[u8; 7]>(position).await.unwrap(), buffer);
    }
}

fn under(run: impl Fn(&Host, Device) + Send + 'static) {
    in_time(move || {
        let host = host(&LIBRARIES);
        for device in devices(&host) {
            run(&host, device);
        }
    });
}

#[test]
fn block_on_of_the_host() {
    under(|host, device| host.block_on(work(device)));
}

#[test]
fn tasks_of_the_host() {
    under(|host, device| {
        let tasks: Vec<_> = (0..8).map(|_| host.spawn(work(device.clone()))).collect();
        tasks.into_iter().for_each(|task| host.block_on(task));
    });
}

#[test]
fn block_on_of_several_threads_at_once() {
    under(|host, device| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| host.block_on(work(device.clone())));
            }
        });
    });
}

#[test]
fn block_on_inside_block_on() {
    under(|host, device| {
        host.block_on(async {
            let first = device.read::<u32>(0).await.unwrap();
            assert_eq!(host.block_on(device.read::<u32>(0)).unwrap(), first);
            assert_eq!(device.blocking_read::<u32>(0).unwrap(), first);
            assert_eq!(device.read::<u32>(0).await.unwrap(), first);
        });
    });
}

#[test]
fn a_foreign_block_on_inside_the_host_s() {
    under(|host, device| {
        host.block_on(async {
            let first = device.read::<u32>(0).await.unwrap();
            assert_eq!(pollster::block_on(device.read::<u32>(0)).unwrap(), first);
            assert_eq!(async_io::block_on(device.read::<u32>(0)).unwrap(), first);
            assert_eq!(device.read::<u32>(0).await.unwrap(), first);
        });
    });
}

#[test]
fn tasks_that_block_on_all_workers() {
    under(|host, device| {
        let first = device.blocking_read::<u64>(8).unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|index| {
                let device = device.clone();
                host.spawn(async move {
                    for _ in 0..20 {
                        let value = match index % 2 {
                            0 => pollster::block_on(device.read::<u64>(8)),
                            _ => device.blocking_read::<u64>(8),
                        };
                        assert_eq!(value.unwrap(), first);
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| host.block_on(task));
    });
}

/// A thread leaves its `block_on`, and another thread has polled the driver meanwhile; later wakes are not lost.
#[test]
fn a_driver_that_was_taken_over_and_left() {
    in_time(|| {
        let host = host(&["fixture_queued", "fixture_descriptor"]);
        for url in ["queued:100", "descriptor:"] {
            for _ in 0..100 {
                let device = host.open(url).unwrap();
                let mut left = Box::pin(device.read::<u8>(0));
                let mut polled = Poll::Pending;
                host.block_on(async {
                    polled = poll_once(&mut left).await;
                    std::thread::scope(|scope| {
                        scope.spawn(|| pollster::block_on(device.read::<u8>(0)).unwrap());
                    });
                });
                pollster::block_on(rest(polled, left)).unwrap();
            }
        }
    });
}

#[test]
fn pollster() {
    under(|_, device| pollster::block_on(work(device)));
}

#[test]
fn async_io() {
    under(|_, device| async_io::block_on(work(device)));
}

#[test]
fn tokio_with_threads() {
    under(|_, device| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let tasks: Vec<_> = (0..8).map(|_| runtime.spawn(work(device.clone()))).collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    });
}

#[test]
fn tokio_on_one_thread() {
    under(|_, device| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work(device)));
}

#[test]
fn a_request_that_is_woken_on_another_executor_than_it_began_on() {
    in_time(|| {
        let host = host(&LIBRARIES);
        for device in devices(&host) {
            let mut request = Box::pin({
                let device = device.clone();
                async move { device.read_exact_at(0, vec![0; 100]).await }
            });
            let mut result = None;
            host.block_on(async {
                std::future::poll_fn(|cx| {
                    if let Poll::Ready(bytes) = request.as_mut().poll(cx) {
                        result = Some(bytes);
                    }
                    Poll::Ready(())
                })
                .await;
            });
            let bytes = match result {
                Some(bytes) => bytes,
                None => pollster::block_on(request),
            };
            assert_eq!(bytes.unwrap().len(), 100);
        }
    });
}

#[test]
fn a_panic_in_a_task_goes_to_whoever_awaits_it() {
    in_time(|| {
        let host = host(&LIBRARIES);
        let task = host.spawn(async { panic!("the task") });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host.block_on(task)));
        assert!(caught.is_err());
        assert_eq!(host.block_on(host.spawn(async { 5 })), 5);
    });
}

/// Awaits a future that was polled once. A deferred request is usually pending, but the host sends it if its thread is held up
/// for some milliseconds.
async fn rest<F: Future>(polled: Poll<F::Output>, future: F) -> F::Output {
    match polled {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}

/// Reads a byte, and calls the host's `block_on` in the first poll. The inner `block_on` sends all deferred requests. None is
/// left for the outer `block_on`, which still has to poll the request again.
async fn read_with_a_block_on_inside(host: &Host, device: &Device) -> Vec<u8> {
    let mut request = device.read_exact_at(7, vec![0; 1]);
    let mut first = true;
    let read = std::future::poll_fn(|cx| {
        let polled = Pin::new(&mut request).poll(cx);
        if std::mem::take(&mut first) {
            host.block_on(async {});
        }
        polled
    });
    read.await.unwrap()
}

/// A new device, which defers its first requests: no thread has sent single requests to it yet.
fn fresh(host: &Host) -> Device {
    host.open("queued:4096").unwrap()
}

/// Polls a future once with the waker of the caller.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[test]
fn a_block_on_inside_sends_what_was_deferred_outside() {
    in_time(|| {
        let (host, device) = pactio_tests::open("fixture_queued", "queued:4096");
        host.block_on(async {
            assert_eq!(read_with_a_block_on_inside(&host, &device).await, [7]);

            // Three deep: the innermost sends the request of the one in the middle.
            let device = fresh(&host);
            let mut outer = device.read_exact_at(3, vec![0; 1]);
            let polled = poll_once(&mut outer).await;
            assert_eq!(host.block_on(read_with_a_block_on_inside(&host, &device)), [7]);
            assert_eq!(rest(polled, outer).await.unwrap(), [3]);

            let device = fresh(&host);
            let (mut one, mut two) =
                (device.read_exact_at(8, vec![0; 1]), device.read_exact_at(9, vec![0; 1]));
            let polled = (poll_once(&mut one).await, poll_once(&mut two).await);
            assert_eq!(device.blocking_read::<u8>(10).unwrap(), 10);
            assert_eq!(rest(polled.0, one).await.unwrap(), [8]);
            assert_eq!(rest(polled.1, two).await.unwrap(), [9]);
        });
    });
}

#[test]
fn a_request_that_began_in_the_host_s_block_on_and_is_waited_for_by_another_inside() {
    in_time(|| {
        let (host, device) = pactio_tests::open("fixture_queued", "queued:4096");
        host.block_on(async {
            let mut request = device.read_exact_at(7, vec![0; 1]);
            let polled = poll_once(&mut request).await;
            assert_eq!(pollster::block_on(rest(polled, request)).unwrap(), [7]);
        });
    });
}

/// The maximum number of reads that a `queued` device got in one call, and the number of all its reads, both since the last
/// query.
fn counts(device: &Device) -> (u32, u32) {
    let counts: [u8; 8] = device.blocking_read(1 << 40).unwrap();
    let [most, came] =
        [&counts[..4], &counts[4..]].map(|count| u32::from_le_bytes(count.try_into().unwrap()));
    // The query itself is one of the reads.
    (most, came - 1)
}

type Way = fn(&Host, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Each way to run a future.
fn ways() -> [(&'static str, Way); 5] {
    [
        ("block_on", |host, future| host.block_on(future)),
        ("spawn", |host, future| host.block_on(host.spawn(future))),
        ("pollster", |_, future| pollster::block_on(future)),
        ("tokio", |_, future| {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
        }),
        ("tokio with threads", |_, future| {
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            tokio.block_on(tokio.spawn(future)).unwrap();
        }),
    ]
}

#[test]
fn the_requests_of_a_task_travel_together_under_every_executor() {
    in_time(|| {
        let (host, device) = pactio_tests::open("fixture_queued", "queued:4096");
        for (way, run) in ways() {
            // Up to 30 futures are polled with the waker of the task, more with wakers of their own.
            for count in [2, 30, 31, 100] {
                let requests = device.clone();
                run(
                    &host,
                    Box::pin(async move {
                        let device = &requests;
                        for _ in 0..200 {
                            let all = (0..count).map(|at| device.read::<u8>(at));
                            for (at, read) in
                                futures_util::future::join_all(all).await.into_iter().enumerate()
                            {
                                assert_eq!(read.unwrap(), at as u8);
                            }
                        }
                    }),
                );
                let (most, came) = counts(&device);
                assert_eq!((u64::from(most), u64::from(came)), (count, 200 * count), "{way}");
            }
        }
    });
}

#[test]
fn requests_that_the_host_counts_or_splits_travel_together() {
    in_time(|| {
        for url in ["queued:4096", "queued:4096?alignment=512"] {
            let folder = pactio_tests::folder_of(&["fixture_queued"]);
            let host = Host::builder()
                .default_search_paths(false)
                .search_path(folder.path())
                .statistics(true)
                .build()
                .unwrap();
            let device = host.open(url).unwrap();
            host.block_on(async {
                let all = (0..20).map(|at| device.read::<u8>(at));
                for (at, read) in futures_util::future::join_all(all).await.into_iter().enumerate() {
                    assert_eq!(read.unwrap(), at as u8);
                }
                let buffers = (0..20).map(|at| (at * 100, vec![0; 100])).collect::<Vec<_>>();
                let (report, buffers) = device.read_vectored(buffers).await.unwrap();
                assert!(report.is_done(), "{report}");
                assert!(buffers.iter().flatten().zip(0..).all(|(byte, at)| *byte == (at % 251) as u8));
            });
            assert_eq!(counts(&device), (20, 40), "{url}");
            let counted = &host.statistics()[0].counted;
            // The query of the counts is the last read.
            assert!(counted.iter().any(|figure| figure.name == "reads" && figure.value == 41), "{counted:?}");
        }
    });
}

#[test]
fn the_requests_of_a_scope_travel_together() {
    in_time(|| {
        let (host, device) = pactio_tests::open("fixture_queued", "queued:4096");
        let mut buffers = [[0; 1]; 50];
        for _ in 0..10 {
            host.scope(|scope| {
                for (at, buffer) in (0..).zip(&mut buffers) {
                    scope.read(&device, at, buffer);
                }
                let mut last = [0; 1];
                assert_eq!(device.blocking_read::<u8>(7).unwrap(), 7);
                device.blocking_read_exact_at(8, &mut last).unwrap();
                assert_eq!(last, [8]);
            });
            assert!((0..).zip(&buffers).all(|(at, buffer)| *buffer == [at]), "{buffers:?}");
        }
        let (most, came) = counts(&device);
        assert!(most >= 50 && came == 10 * 52, "{came} reads came, at most {most} together");
    });
}

#[test]
fn a_request_ends_on_a_thread_that_its_first_one_waits_for() {
    in_time(|| {
        let host = host(&["fixture_queued"]);
        for (_, run) in ways() {
            for _ in 0..20 {
                let device = fresh(&host);
                run(
                    &host,
                    Box::pin(async move {
                        let mut request = device.read_exact_at(8, vec![0; 1]);
                        let polled = poll_once(&mut request).await;
                        let rest = rest(polled, request);
                        let read =
                            std::thread::scope(|scope| scope.spawn(|| pollster::block_on(rest)).join());
                        assert_eq!(read.unwrap().unwrap(), [8]);
                    }),
                );
            }
        }
    });
}

#[test]
fn a_request_that_is_not_polled_again_is_sent_and_one_that_is_dropped_is_not() {
    in_time(|| {
        let host = host(&["fixture_queued"]);
        for (way, run) in ways() {
            // The host sends the requests if the thread is held up for some milliseconds before it drops two of them.
            let sent = (0..20).map(|_| {
                let device = fresh(&host);
                let mut all = [0, 1, 2].map(|at| {
                    let device = device.clone();
                    Box::pin(async move { device.read_exact_at(at, vec![0; 1]).await })
                });
                let (keep, kept) = std::sync::mpsc::channel();
                run(
                    &host,
                    Box::pin(async move {
                        for request in &mut all {
                            let _ = poll_once(request).await;
                        }
                        let [first, dropped, left] = all;
                        drop((first, dropped));
                        keep.send(left).unwrap();
                    }),
                );
                let mut came = 0;
                while came == 0 {
                    came += counts(&device).1;
                }
                drop(kept);
                came
            });
            assert_eq!(sent.min(), Some(1), "{way}: the dropped requests were sent");
        }
    });
}

#[test]
fn a_task_that_is_always_answered_at_once_gives_way() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    in_time(|| {
        let folder = pactio_tests::folder_of(&["pactio_memory"]);
        let builder = pactio::Host::builder().default_search_paths(false).search_path(folder.path());
        let host = builder.worker_threads(1).build().unwrap();
        let device = host.open("memory:?size=4096").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let busy = host.spawn({
            let stop = stop.clone();
            async move {
                while !stop.load(Ordering::SeqCst) {
                    device.read::<u64>(8).await.unwrap();
                }
            }
        });
        // The busy task gives way, so the only worker runs this task as well.
        host.block_on(host.spawn(async move { stop.store(true, Ordering::SeqCst) }));
        host.block_on(busy);
    });
}
