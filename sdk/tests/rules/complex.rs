//! Packets without memory: functions produce or consume their bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pactio_sdk::*;

#[test]
fn a_generated_input_is_made_only_where_it_is_read() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let input = Generated::new(1 << 40, move |offset, buffer: &mut [u8]| {
        counter.fetch_add(buffer.len(), Ordering::SeqCst);
        buffer.iter_mut().enumerate().for_each(|(index, byte)| *byte = (offset + index) as u8);
        Ok(())
    });
    let mut packet = ComplexPacket::<_, Read>::new(input).unwrap();
    let (_, rest) = packet.bind().unwrap().split_at(1 << 39);
    let (part, _) = rest.split_at(4);
    let mut storage = [0; 4];
    part.transfer_data(&mut storage).complete();
    assert_eq!(storage, [0, 1, 2, 3]);
    assert_eq!(made.load(Ordering::SeqCst), 4);
    let report = packet.report();
    assert_eq!((report.len(), report.done()), (1 << 40, 4));
    assert_eq!(packet.packet().simple_contiguous_slice(), Err(IoError::UNANSWERED));
}

#[test]
fn functions_that_fail_or_panic_fail_their_range() {
    let input = Generated::new(30, |offset, _: &mut [u8]| match offset {
        0 => Err(IoError::from_code(Code::CORRUPT)),
        10 => panic!("in the function"),
        _ => Ok(()),
    });
    let mut packet = ComplexPacket::<_, Read>::new(input).unwrap();
    let (one, rest) = packet.bind().unwrap().split_at(10);
    let (two, three) = rest.split_at(10);
    for view in [one, two, three] {
        view.transfer_data(&mut [0; 10]).complete();
    }
    assert_eq!(
        packet.report().failed_ranges().collect::<Vec<_>>(),
        [(0..10, IoError::from_code(Code::CORRUPT)), (10..20, IoError::PANICKED)]
    );
}

#[test]
fn lazy_output_allocates_when_the_first_byte_arrives() {
    let mut packet = ComplexPacket::<_, Write>::new(Lazy::new(8)).unwrap();
    packet.bind().unwrap().error(IoError::END);
    assert_eq!(packet.sync_back().unwrap().into_bytes(), None);

    let mut packet = ComplexPacket::<_, Write>::new(Lazy::new(8)).unwrap();
    let (front, back) = packet.bind().unwrap().split_at(4);
    drop(front);
    back.transfer_data(b"back").complete();
    assert_eq!(packet.sync_back().unwrap().into_bytes().as_deref(), Some(&b"\0\0\0\0back"[..]));
}

#[test]
fn rule_16_lazy_output_that_cannot_be_had_is_an_error() {
    let mut packet = ComplexPacket::<_, Write>::new(Lazy::new(usize::MAX)).unwrap();
    packet.bind().unwrap().transfer_data(b"some").complete();
    assert_eq!(packet.report().min_error(), Some((0, IoError::OUT_OF_MEMORY)));
}

#[test]
fn rule_8_a_complex_packet_has_no_slice() {
    let mut packet = ComplexPacket::<_, Write>::new(Lazy::new(4)).unwrap();
    packet.bind().unwrap().transfer_data(b"data").complete();
    assert_eq!(packet.packet().simple_slice(), Err(IoError::NO_BYTES));
    let mut buffer = [7; 4];
    packet.packet().copy_done_to(&mut buffer);
    assert_eq!(buffer, [7; 4]);
}

#[test]
fn rule_22_what_stands_for_the_bytes_is_dropped_once_when_the_last_view_is_answered() {
    struct Counted(Arc<()>);
    impl PacketBytes<Read> for Counted {
        fn len(&self) -> usize {
            4
        }
        fn transfer(&self, _: usize, data: &mut [u8]) -> Result<(), IoError> {
            data.fill(Arc::strong_count(&self.0) as u8);
            Ok(())
        }
    }
    let count = Arc::new(());
    let mut packet = ComplexPacket::<_, Read>::new(Counted(count.clone())).unwrap();
    let view = packet.bind().unwrap();
    drop(packet);
    let mut storage = [0; 4];
    view.transfer_data(&mut storage).complete();
    assert_eq!(storage, [2; 4]);
    assert_eq!(Arc::strong_count(&count), 1);
}
