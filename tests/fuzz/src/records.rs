//! A list of any bytes is read or refused, and the records that were read are written as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pactio_sdk::{Entry, Metric, Origin, PacketBox, Record, Records, Region, Stat, Write, read_records};

fn check<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok((records, next)) = read_records::<R>(bytes) else { return };
    // More than there was: fields that were left out are written, and text may be longer where it was no UTF-8.
    let mut packet = PacketBox::<Write>::new_buf(64 * bytes.len()).unwrap();
    let mut list = Records::new(packet.bind().unwrap());
    assert!(records.iter().all(|record| list.push(record)), "there is room");
    list.complete(next);
    let done = packet.done_slice(0..packet.error_clamp()).unwrap();
    let (again, place) = read_records::<R>(done).unwrap();
    assert_eq!((again, place), (records, next));
}

fuzz_target!(|bytes: &[u8]| {
    check::<Entry>(bytes);
    check::<Stat>(bytes);
    check::<Origin>(bytes);
    check::<Region>(bytes);
    check::<Metric>(bytes);
});
