//! Devices that are driven by whoever waits, without a host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;

use futures_lite::future;
use pactio_sdk::*;

use crate::support::{Queued, Wakes, poll};

fn queued() -> LocalDevice<Queued> {
    LocalDevice::new(Queued::default()).unwrap()
}

#[test]
fn rule_23_any_number_of_threads_block_on_one_device_at_once() {
    // Was: the second `block_on` panicked.
    let device = queued();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..500 {
                    let position = thread * 64 + round % 64;
                    assert_eq!(device.block_on(device.read::<u8>(position)), Ok(position as u8));
                }
            });
        }
    });
}

#[test]
fn rule_23_a_spawned_driver_serves_tasks_of_any_executor() {
    let device = queued();
    let driver = device.driver();
    let thread = thread::spawn(move || future::block_on(driver));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..500u64 {
                    assert_eq!(future::block_on(device.read::<u8>(round)), Ok(round as u8));
                }
            });
        }
    });
    drop(device);
    thread.join().expect("the driver ends with its device");
}

#[test]
fn rule_23_a_waiter_that_leaves_does_not_take_the_driver_along() {
    let device = queued();
    let mut request = device.read::<u8>(7u64);
    let wakes = Arc::new(Wakes::default());
    {
        let mut driver = device.driver();
        assert!(poll(&mut driver, &wakes).is_pending());
        assert!(poll(&mut request, &wakes).is_pending());
        assert!(wakes.count() > 0, "the driver was not woken");
        // Dropped before it is polled.
    }
    assert_eq!(device.block_on(&mut request), Ok(7));
}

#[test]
fn rule_23_a_driver_that_ends_fails_what_is_in_flight_and_what_comes() {
    // Was: a finished backend took the host down.
    let device = LocalDevice::new(Queued { ends_after: Some(1), ..Queued::default() }).unwrap();
    let mut request = device.read::<u8>(7u64);
    let wakes = Arc::new(Wakes::default());
    assert!(poll(&mut request, &wakes).is_pending());
    let mut driver = device.driver();
    assert!(poll(&mut driver, &wakes).is_ready());
    assert_eq!(poll(&mut request, &wakes), Poll::Ready(Err(Error::UNANSWERED)));
    assert_eq!(device.block_on(device.read::<u8>(7u64)), Err(Error::DRIVER_ENDED));
}

#[test]
fn rule_23_a_driver_that_panics_fails_what_is_in_flight_and_the_program_goes_on() {
    struct Panics(std::sync::Mutex<Vec<BoundPacketView<Write>>>, AtomicUsize);
    impl Device for Panics {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            self.0.lock().unwrap().push(view);
        }
        fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Waker
        }
        fn poll_driver(&self, _: &mut Context<'_>) -> Poll<()> {
            if self.1.fetch_add(1, Ordering::SeqCst) > 0 {
                panic!("in the driver");
            }
            Poll::Pending
        }
    }
    let device = LocalDevice::new(Panics(Default::default(), AtomicUsize::new(0))).unwrap();
    let mut request = device.read::<u8>(0u64);
    assert!(poll(&mut request, &Arc::default()).is_pending());
    device.notify();
    assert!(poll(&mut device.driver(), &Arc::default()).is_ready());
    assert_eq!(poll(&mut request, &Arc::default()), Poll::Ready(Err(Error::UNANSWERED)));
    assert_eq!(device.block_on(device.read::<u8>(0u64)), Err(Error::POISONED));
}

#[test]
fn rule_23_devices_nest() {
    struct Upper<D>(D);
    impl<D: PacketIo<Write, u64> + Send + Sync + 'static> Device for Upper<D> {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless().read_only()
        }
        fn read(&self, position: u64, view: BoundPacketView<Write>) {
            self.0.send_io(position + 1, view);
        }
    }
    let lower = queued();
    let middle = LocalDevice::new(Upper(lower.clone())).unwrap();
    let upper = LocalDevice::new(Upper(middle)).unwrap();
    // The lowest is driven; the others need nobody.
    assert_eq!(lower.block_on(upper.read::<u8>(10u64)), Ok(12));
}
