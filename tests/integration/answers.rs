//! Devices that answer late, from another thread, or not at all.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::Timer;
use pactio::Code;
use pactio_tests::{in_time, open};

#[test]
fn a_dropped_view_is_a_failure_of_its_range() {
    in_time(|| {
        let (host, device) = open("fixture_forgetful", "forgetful:drop");
        let error = host.block_on(device.read_exact_at(0, &mut [0; 4])).unwrap_err();
        assert_eq!(error.code(), Some(Code::UNANSWERED));
        assert_eq!(
            error.to_string(),
            "cannot read 4 bytes at 0x0 of 'forgetful:drop' (plugin 'fixture-forgetful'): 0 of 4 bytes; 0..4: dropped by \
             the device without an answer"
        );
        let half = host.open("forgetful:half").unwrap();
        let (report, bytes) = host.block_on(half.read_at(0, vec![0; 8])).unwrap();
        assert_eq!((report.done(), report.segments()), (4, 2));
        assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 0, 0]);
    });
}

#[test]
fn a_leaked_view_holds_up_its_own_request_only() {
    in_time(|| {
        let (host, device) = open("fixture_forgetful", "forgetful:leak");
        let other = host.open("forgetful:half").unwrap();
        host.block_on(async {
            let mut leaked = pin!(device.read_at(0, vec![0; 8]));
            for _ in 0..3 {
                assert!(leaked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            assert_eq!(other.read_at(0, vec![0; 8]).await.unwrap().0.done(), 4);
            Timer::after(Duration::from_millis(1)).await;
            assert!(leaked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        });
        // To give up, the caller drops its handles: a drop does not wait for the device.
        drop(device);
        drop(host);
    });
}

#[test]
fn eight_threads_complete_one_request() {
    in_time(|| {
        let (host, device) = open("fixture_eight_threads", "eight-threads:");
        host.block_on(async {
            for round in 0..200u64 {
                let len = 1 + (round as usize * 37) % 3000;
                let (report, bytes) = device.read_at(round, vec![0; len]).await.unwrap();
                assert!(report.is_done() && report.segments() == 8, "{report}");
                let expected: Vec<u8> = (round..).map(|byte| (byte % 251) as u8).take(len).collect();
                assert_eq!(bytes, expected);
            }
        });
    });
}

#[test]
fn completion_after_future_device_and_host_are_gone() {
    in_time(|| {
        let (host, device) = open("fixture_late", "late:");
        let mut buffer = [0; 100];
        {
            let mut abandoned = pin!(device.read_exact_at(0, &mut buffer));
            assert!(abandoned.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        // A request whose caller still waits when the device is closed.
        let task = {
            let device = device.clone();
            host.spawn(async move {
                let mut request = Box::pin(device.read_exact_at(0, vec![0; 5000]));
                let mut polled = false;
                std::future::poll_fn(|cx| match request.as_mut().poll(cx) {
                    Poll::Pending if !polled => {
                        polled = true;
                        Poll::Pending
                    }
                    other => other,
                })
                .await
            })
        };
        while device.size() != Some(2) {
            std::thread::yield_now();
        }
        drop(device);
        drop(host);
        let (host, released) = open("fixture_late", "late:release");
        assert_eq!(host.block_on(task).unwrap(), vec![9; 5000]);
        assert_eq!(released.size(), Some(0));
        assert_eq!(buffer, [0; 100], "a borrowed buffer was written to after its future was dropped");
    });
}

#[test]
fn a_descriptor_wakes_the_driver() {
    in_time(|| {
        let (host, device) = open("fixture_descriptor", "descriptor:");
        // On a thread that drives the device itself, on worker threads, and under a foreign executor.
        for round in 0..50 {
            assert_eq!(host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap(), [0x5a; 10]);
            let spawned = {
                let device = device.clone();
                host.spawn(async move { device.read_exact_at(round, vec![0; 10]).await })
            };
            assert_eq!(pollster::block_on(spawned).unwrap(), [0x5a; 10]);
            assert_eq!(pollster::block_on(device.read::<[u8; 3]>(0)).unwrap(), [0x5a; 3]);
            let mut buffer = [0; 20];
            device.blocking_read_exact_at(0, &mut buffer).unwrap();
            assert_eq!(buffer, [0x5a; 20]);
        }
    });
}
