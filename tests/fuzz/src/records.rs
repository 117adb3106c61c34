//! Whatever bytes a plugin gives as a list are read or refused, and what is read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pactio_sdk::{Entry, Figure, Origin, PacketBox, Record, Records, Region, Stat, Write, read_records};

fn check<R: Record>(bytes: &[u8]) {
    let Ok((records, next)) = read_records::<R>(bytes) else { return };
    let mut packet = PacketBox::<Write>::new_buf(bytes.len()).unwrap();
    let mut list = Records::new(packet.bind().unwrap());
    assert!(records.iter().all(|record| list.push(record)), "what was read has room where it was");
    list.complete(next);
    let done = packet.done_slice(0..packet.error_clamp()).unwrap();
    let (again, place) = read_records::<R>(done).unwrap();
    assert_eq!((again.len(), place), (records.len(), next));
}

fuzz_target!(|bytes: &[u8]| {
    check::<Entry>(bytes);
    check::<Stat>(bytes);
    check::<Origin>(bytes);
    check::<Region>(bytes);
    check::<Figure>(bytes);
});
