//! Many pairs as one request.

use pactio_sdk::*;

use crate::support::{Held, Plain, now};

#[test]
fn one_exact_report_over_all_buffers() {
    let device = LocalDevice::new(Plain::new(100)).unwrap();
    let pairs =
        vec![(0, vec![0; 3]), (98, vec![0; 4]), (u64::MAX, vec![0; 2]), (50, vec![]), (50, vec![0; 1])];
    let (report, buffers) = now(VectoredIo::<Write, u64>::vectored(&device, pairs)).unwrap();
    assert_eq!(buffers, [vec![0, 1, 2], vec![98, 99, 0, 0], vec![0, 0], vec![], vec![50]]);
    assert_eq!(
        report.failed_ranges().collect::<Vec<_>>(),
        [(5..7, IoError::END), (7..9, IoError::TOO_LARGE)]
    );
}

#[test]
fn borrowed_buffers_get_what_was_done_and_keep_the_rest() {
    let device = LocalDevice::new(Plain::new(10)).unwrap();
    let (mut one, mut two) = ([7; 3], [7; 4]);
    let (report, ()) = now(device.vectored(&mut [(2u64, &mut one[..]), (8, &mut two[..])][..])).unwrap();
    assert_eq!((one, two), ([2, 3, 4], [8, 9, 7, 7]));
    assert_eq!(report.done(), 5);
}

#[test]
fn writes_are_gathered() {
    let device = LocalDevice::new(Plain::new(10)).unwrap();
    let (report, ()) = now(device.vectored(&[(1u64, &[11, 12][..]), (7, &[17][..])][..])).unwrap();
    assert!(report.is_done());
    let (report, _) = now(VectoredIo::<Read, u64>::vectored(&device, vec![(4u64, vec![14, 15])])).unwrap();
    assert!(report.is_done());
    assert_eq!(now(device.read::<[u8; 10]>(0u64)), Ok([0, 11, 12, 3, 14, 15, 6, 17, 8, 9]));
}

#[test]
fn all_parts_travel_in_one_call_and_nothing_is_nothing() {
    let device = Held::<Write>::new();
    {
        let mut request = device.vectored((0..10u64).map(|index| (index, vec![0; 2])).collect::<Vec<_>>());
        assert!(crate::support::poll(&mut request, &Default::default()).is_pending());
        assert_eq!(device.len(), 10);
        for index in 0..10 {
            let (position, view) = device.take();
            assert_eq!((position, view.len(), view.offset()), (index, 2, index as usize * 2));
            view.transfer_data(&[index as u8; 2]).complete();
        }
        let (report, buffers) = now(request).unwrap();
        assert_eq!((report.segments(), buffers[9].clone()), (11, vec![9, 9]));
    }
    let (report, buffers) = now(device.vectored(Vec::<(u64, Vec<u8>)>::new())).unwrap();
    assert!(report.is_done() && buffers.is_empty());
}

#[test]
fn many_borrowed_buffers_with_many_failures_take_linear_time() {
    /// Fails at every seventh position.
    struct Holes;
    impl BackendDevice for Holes {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, position: u64, view: BoundPacketView<Write>) {
            if position.is_multiple_of(7) {
                return view.error(IoError::from_code(Code::NOT_MAPPED));
            }
            view.transfer_data(&[position as u8; 8]).complete();
        }
    }
    let device = LocalDevice::new(Holes).unwrap();
    let read = |count: usize| {
        let mut memory = vec![0xEE; count * 8];
        let mut pairs: Vec<(u64, &mut [u8])> = (0..).zip(memory.chunks_mut(8)).collect();
        let begun = std::time::Instant::now();
        let (report, ()) = now(device.vectored(&mut pairs[..])).unwrap();
        let time = begun.elapsed();
        assert_eq!(report.failed_ranges().count(), count.div_ceil(7));
        for (position, buffer) in pairs {
            let byte = if position.is_multiple_of(7) { 0xEE } else { position as u8 };
            assert_eq!(buffer, [byte; 8], "at {position}");
        }
        time
    };
    let fastest = |count| (0..3).map(|_| read(count)).min().unwrap();
    // In quadratic time, 8 times as many buffers would take 64 times as long, in each attempt. On a loaded machine, other
    // processes may have the time of one.
    let is_linear = (0..10).any(|_| fastest(16_384) < fastest(2048) * 32);
    assert!(is_linear, "8 times as many take 32 times as long");
}
