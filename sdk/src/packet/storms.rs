//! Random schedules of many threads over the whole packet core, with more threads than loom can check.
//!
//! `PACTIO_SCHEDULES` sets the number of schedules of each storm. shuttle prints a failing schedule, to be replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::rand::{Rng, thread_rng};
use shuttle::{future, thread};

use super::{
    BoundPacketView, OutputFunction, OutputRef, PacketBox, ReboundPacket, ReturnedPart, Segment, Write,
};
use crate::IoError;

const THREADS: usize = 12;

fn storm(name: &str, f: impl Fn() + Send + Sync + 'static) {
    let schedules: usize =
        std::env::var("PACTIO_SCHEDULES").map_or(10_000, |schedules| schedules.parse().expect("a number"));
    let f = Arc::new(f);
    let again = f.clone();
    shuttle::check_random(move || f(), schedules / 2);
    shuttle::check_pct(move || again(), schedules - schedules / 2, 3);
    println!("shuttle_schedules {name}={schedules}");
}

/// Answers a view in one of many ways; returns the number of bytes that are done.
fn answer(view: BoundPacketView<Write>) -> usize {
    let len = view.len();
    match thread_rng().gen_range(0..7u8) {
        0 => {
            view.error(IoError::UNSUPPORTED);
            0
        }
        1 => {
            drop(view);
            0
        }
        2 => {
            let (front, back) = view.split_at(1);
            answer(front) + answer(back)
        }
        3 => {
            let mut rebound = ReboundPacket::new(view).unwrap();
            let fresh = rebound.bind().unwrap();
            rebound.on_complete(|rebound| rebound.forward().unwrap());
            answer(fresh)
        }
        6 => answer(ReboundPacket::new(view).unwrap().bind_each(ReturnedPart::complete).unwrap()),
        4 if len > 0 => {
            view.transfer_data(&[7]).complete();
            1
        }
        _ => {
            view.transfer_data(&[7; 64][..len]).complete();
            len
        }
    }
}

fn cut(packet: &mut PacketBox<Write>, output: Option<OutputRef>) -> Vec<BoundPacketView<Write>> {
    let mut rest = match output {
        Some(output) => packet.bind_to(output).unwrap(),
        None => packet.bind().unwrap(),
    };
    let mut views = Vec::new();
    for _ in 1..THREADS {
        let (front, back) = rest.split_at(4);
        views.push(front);
        rest = back;
    }
    views.push(rest);
    views
}

#[test]
fn twelve_threads_answer_one_request() {
    storm("twelve_threads_answer_one_request", || {
        let heard = Arc::new(AtomicUsize::new(0));
        let counter = heard.clone();
        let output = OutputFunction(move |segment: Segment<'_>| {
            counter.fetch_add(segment.range().len(), Ordering::SeqCst);
        });
        let mut packet = PacketBox::<Write>::new_buf(THREADS * 4).unwrap();
        let views = cut(&mut packet, Some(OutputRef::new(output)));
        let threads: Vec<_> = views.into_iter().map(|view| thread::spawn(move || answer(view))).collect();
        future::block_on(&mut packet);
        assert_eq!(heard.load(Ordering::SeqCst), THREADS * 4, "ready before its callbacks");
        let done: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(packet.report().done(), done);
        drop(packet);
        assert_eq!(Arc::strong_count(&heard), 1);
    });
}

#[test]
fn twelve_threads_and_an_owner_who_leaves() {
    storm("twelve_threads_and_an_owner_who_leaves", || {
        let mut packet = PacketBox::<Write>::new_buf(THREADS * 4).unwrap();
        let views = cut(&mut packet, None);
        let threads: Vec<_> = views.into_iter().map(|view| thread::spawn(move || answer(view))).collect();
        if thread_rng().gen_bool(0.5) {
            packet.cancel();
        }
        drop(packet);
        threads.into_iter().for_each(|thread| {
            thread.join().unwrap();
        });
    });
}

#[test]
fn a_packet_is_used_again_while_twelve_threads_leave_it() {
    storm("a_packet_is_used_again_while_twelve_threads_leave_it", || {
        let mut packet = PacketBox::<Write>::new_buf(THREADS * 4).unwrap();
        let mut threads = Vec::new();
        for _ in 0..2 {
            let views = cut(&mut packet, None);
            threads.extend(views.into_iter().map(|view| thread::spawn(move || answer(view))));
            future::block_on(&mut packet);
        }
        let view = packet.bind().unwrap();
        view.transfer_data(&[9; THREADS * 4]).complete();
        assert_eq!(packet.simple_slice(), Ok(&[9; THREADS * 4][..]));
        threads.into_iter().for_each(|thread| {
            thread.join().unwrap();
        });
    });
}
