//! Attributes of requests: each view shows those of its request, at any depth.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pactio_sdk::{
    Attributes, BoundPacketView, DerivedPacket, OutputFunction, OutputRef, PacketBox, PacketPerms, Read,
    ReadWrite, ReboundPacket, Segment, Write,
};

fn told<Perms: PacketPerms>(view: &BoundPacketView<Perms>) -> (i8, bool, u64) {
    (view.urgency(), view.time_left().is_some(), view.span().map_or(0, NonZeroU64::get))
}

#[test]
fn attributes_show_at_any_depth_and_change_in_flight() {
    let attributes = Attributes::new()
        .with_urgency(-7)
        .with_deadline(Instant::now() + Duration::from_secs(3600))
        .with_span(NonZeroU64::new(41).unwrap());
    let mut packet = PacketBox::<Write>::new_buf(16).unwrap();
    let (front, back) = packet.bind_with(attributes.clone(), None).unwrap().split_at(8);
    assert_eq!([told(&front), told(&back)], [(-7, true, 41); 2]);
    // A packet that takes the view over, one of other memory that is made to answer that one, and one over that again.
    let mut rebound = ReboundPacket::new(front).unwrap();
    let mut derived =
        DerivedPacket::<_, ReadWrite, Write>::new(rebound.bind().unwrap(), vec![0; 32]).unwrap();
    let (deep, deeper) = derived.bind().unwrap().split_at(16);
    let mut again = ReboundPacket::new(deeper).unwrap();
    let deepest = again.bind().unwrap().try_alloc(1).unwrap();
    assert_eq!([told(&deep), told(deepest.as_view())], [(-7, true, 41); 2]);
    attributes.set_urgency(i8::MAX);
    assert_eq!([told(&back), told(&deep), told(deepest.as_view())], [(i8::MAX, true, 41); 3]);
    // A copy is of the moment.
    let copy = deep.attributes();
    attributes.set_urgency(i8::MIN);
    assert_eq!((copy.urgency(), deep.urgency()), (i8::MAX, i8::MIN));
    assert!(copy.time_left().is_some_and(|left| left > Duration::from_secs(3000)) && copy.span().is_some());
    drop((deep, deepest, back));
}

#[test]
fn a_request_has_no_attributes_of_the_one_before() {
    let segments = Arc::new(Mutex::new(Vec::new()));
    let output = segments.clone();
    let output = OutputRef::new(OutputFunction(move |segment: Segment<'_>| {
        output.lock().unwrap().push(segment.range());
    }));
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let view = packet.bind_with(Attributes::new().with_urgency(3), Some(output)).unwrap();
    assert_eq!(told(&view), (3, false, 0));
    assert!(packet.bind_with(Attributes::new(), None).is_err(), "it is in flight");
    view.transfer_data(b"0123").complete();
    assert_eq!((segments.lock().unwrap().first(), packet.err_any()), (Some(&(0..4)), Ok(())));
    let view = packet.bind().unwrap();
    assert_eq!(told(&view), (0, false, 0));
    view.transfer_data(b"4567").complete();
    // Attributes without an output report no segment.
    let view = packet.bind_with(Attributes::new().with_urgency(5), None).unwrap();
    assert_eq!(told(&view), (5, false, 0));
    view.transfer_data(b"89ab").complete();
    assert_eq!(segments.lock().unwrap().len(), 1);
    // A packet that is dropped in flight keeps its attributes for its views.
    let mut packet = PacketBox::<Read>::copy_from_slice(b"data").unwrap();
    let view = packet.bind_with(Attributes::new().with_urgency(2), None).unwrap();
    drop(packet);
    assert_eq!(told(&view), (2, false, 0));
}

#[test]
fn a_deadline_passes() {
    let attributes = Attributes::new().with_deadline(Instant::now());
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let view = packet.bind_with(attributes, None).unwrap();
    assert_eq!((view.time_left(), view.is_late()), (Some(Duration::ZERO), true));
    assert_eq!(view.attributes().time_left(), Some(Duration::ZERO));
    drop(view);
    let view = packet.bind_with(Attributes::new(), None).unwrap();
    assert_eq!((view.time_left(), view.is_late()), (None, false));
    drop(view);
    let far = Attributes::new().with_deadline(Instant::now() + Duration::from_secs(u32::MAX.into()));
    let view = packet.bind_with(far, None).unwrap();
    assert!(view.time_left().unwrap() > Duration::from_secs(1 << 31));
}
