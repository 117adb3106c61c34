//! A list of any bytes is read or refused, and the records that were read are written as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pactio_sdk::{Entry, Metric, Origin, PacketBox, Record, Records, Region, Stat, Write, read_records};

fn check<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok((records, next)) = read_records::<R>(bytes) else { return };
    // The written list may be longer than the input: omitted fields are written, and invalid UTF-8 becomes longer text.
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
