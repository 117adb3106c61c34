//! Borrowed memory: blocking calls and the blocking scope.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pactio_sdk::*;

use crate::support::{Plain, Queued};

fn queued() -> LocalDevice<Queued> {
    LocalDevice::new(Queued::default()).unwrap()
}

#[test]
fn blocking_calls_work_on_the_caller_s_memory() {
    let device = LocalDevice::new(Plain::new(50)).unwrap();
    let mut buffer = [7; 10];
    device.blocking_read_all(40u64, &mut buffer).unwrap();
    assert_eq!(buffer, [40, 41, 42, 43, 44, 45, 46, 47, 48, 49]);
    let report = device.blocking_read_raw(45u64, &mut buffer).unwrap();
    assert_eq!(report.error_clamp(), 5);
    assert_eq!(device.blocking_write_all(48u64, &[1; 3]), Err(IoError::END));
    device.blocking_write(0u64, &0x0605u16.to_le()).unwrap();
    assert_eq!(device.blocking_read::<[u8; 3]>(0u64), Ok([5, 6, 2]));
    let mut rest = vec![9];
    assert_eq!(device.blocking_read_to_end(45u64, &mut rest), Ok(5));
    assert_eq!(rest, [9, 45, 46, 47, 1, 1]);
    let mut uninit = [core::mem::MaybeUninit::uninit(); 8];
    let (report, read) = device.blocking_read_uninit(45u64, &mut uninit).unwrap();
    assert_eq!((report.done(), &*read), (5, &[45, 46, 47, 1, 1][..]));
    let mut mine = [9, 9];
    device.blocking_exchange_raw(10u64, &mut mine).unwrap();
    assert_eq!(mine, [10, 11]);
    assert_eq!(device.blocking_read_raw(u64::MAX, &mut [0; 2]).unwrap().err_any(), Err(IoError::TOO_LARGE));
}

#[test]
fn a_scope_has_many_requests_in_flight_over_borrowed_memory() {
    let device = queued();
    let mut buffers = vec![[0u8; 16]; 200];
    scope(&device, |scope| {
        for (index, buffer) in buffers.iter_mut().enumerate() {
            // The handle is dropped, but the scope still waits for the request.
            let _ = scope.read(&device, index as u64, buffer);
        }
    });
    assert!(buffers.iter().enumerate().all(|(index, buffer)| *buffer == [index as u8; 16]));
}

#[test]
fn a_request_of_a_scope_gives_its_buffer_back_before_the_end() {
    let device = queued();
    let (mut one, mut two) = ([0; 4], [0; 4]);
    let sum = scope(&device, |scope| {
        let first = scope.read(&device, 3, &mut one);
        let second = scope.read(&device, 4, &mut two);
        let (report, second) = second.wait_report().unwrap();
        assert!(report.is_done());
        second[0] = 100;
        let first = first.wait().unwrap();
        let again = scope.read(&device, 5, first).wait().unwrap();
        again.iter().chain(&*second).map(|byte| u32::from(*byte)).sum::<u32>()
    });
    assert_eq!(sum, 4 * 5 + 100 + 3 * 4);
    assert_eq!(one, [5; 4]);
}

#[test]
fn rule_1_a_scope_that_panics_unwinds_only_when_its_requests_are_complete() {
    let device = queued();
    let mut buffer = [0; 64];
    let caught = catch_unwind(AssertUnwindSafe(|| {
        scope(&device, |scope| {
            let _ = scope.read(&device, 9, &mut buffer);
            panic!("in the scope");
        })
    }));
    assert!(caught.is_err());
    assert_eq!(buffer, [9; 64], "it unwound before the device was done");
}

#[test]
fn a_scope_writes_too_and_reports_failures() {
    let device = LocalDevice::new(Plain::new(10)).unwrap();
    let data = [1, 2, 3, 4];
    let mut buffer = [0; 4];
    scope(&device, |scope| {
        scope.write(&device, 2u64, &data).wait().unwrap();
        assert_eq!(scope.write(&device, 8u64, &data).wait_report().unwrap().done(), 2);
        assert_eq!(scope.read(&device, 8u64, &mut buffer).wait(), Err(IoError::END));
    });
    assert_eq!(device.blocking_read::<[u8; 6]>(1u64), Ok([1, 1, 2, 3, 4, 6]));
}
