//! Every allocation of the packet core fails: once, and from then on. Nothing aborts, and every byte is accounted for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pactio_sdk::{
    FullPacket, IntoPacket, IoError, OutputFunction, OutputRef, PacketBox, PacketStore, Read, Segment,
    VecPacket, Write,
};

/// The allocations of this thread that fail.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// The allocation with this number.
    Once(usize),
    /// That allocation and all later ones.
    From(usize),
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Failing;

impl Failing {
    fn fails() -> bool {
        let count = COUNT.replace(COUNT.get() + 1);
        match FAULT.get() {
            Fault::None => false,
            Fault::Once(number) => count == number,
            Fault::From(number) => count >= number,
        }
    }
}

// SAFETY: each call is passed on to the system's allocator, or fails.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`, which is the same for `System`.
        if Self::fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives a pointer that `alloc` returned for this layout, which came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Calls `f` under the fault, and gives its result.
fn under<R>(fault: Fault, f: impl FnOnce() -> R) -> R {
    FAULT.set(fault);
    let result = f();
    FAULT.set(Fault::None);
    result
}

const LEN: usize = 300;

/// Makes and uses several packets. Only allocations in `under` meet the fault. Gives the number of requests that were made.
fn scenario(fault: Fault) -> usize {
    COUNT.set(0);
    let mut made = 0;
    let told = Arc::new(AtomicUsize::new(0));
    let output = {
        let told = told.clone();
        OutputRef::new(OutputFunction(move |segment: Segment<'_>| {
            told.fetch_add(segment.range().len(), Ordering::Relaxed);
        }))
    };
    let packet = under(fault, || PacketBox::<Write>::new_buf(LEN));
    match packet {
        Err(error) => assert_eq!(error, IoError::OUT_OF_MEMORY),
        Ok(mut packet) => {
            made += 1;
            // Four parts, of which two fail: two entries.
            let view = under(fault, || packet.bind_to(output));
            match view {
                Err(error) => assert_eq!(error, IoError::OUT_OF_MEMORY),
                Ok(view) => {
                    under(fault, || {
                        let (front, back) = view.split_at(100);
                        let (second, third) = back.split_at(100);
                        front.transfer_data(&[1; 100]).complete();
                        second.error(IoError::END);
                        let (third, fourth) = third.split_at(50);
                        drop(third);
                        fourth.transfer_data(&[2; 50]).complete();
                    });
                    assert!(packet.is_complete());
                    assert_eq!(told.load(Ordering::Relaxed), LEN, "each byte is told of once");
                    let report = packet.report();
                    assert_eq!(report.len(), LEN);
                    if report.min_error() == Some((0, IoError::OUT_OF_MEMORY)) {
                        assert_eq!(report.done(), 0, "a lost entry fails everything");
                    } else {
                        assert_eq!(report.done(), 150);
                        assert_eq!(report.min_error(), Some((100, IoError::END)));
                    }
                }
            }
            // The next request forgets the failure.
            if let Ok(view) = under(fault, || packet.bind()) {
                view.transfer_data(&[3; LEN]).complete();
                assert_eq!(packet.simple_slice(), Ok(&[3; LEN][..]));
            }
        }
    }
    if let Ok(mut packet) = under(fault, || PacketBox::<Read>::copy_from_slice(&[7; LEN])) {
        made += 1;
        let mut taken = [0; LEN];
        under(fault, || packet.bind().map(|view| view.transfer_data(&mut taken).complete())).unwrap();
        assert_eq!(taken, [7; LEN]);
    }
    if let Ok(mut packet) = under(fault, || VecPacket::<Write>::with_len(LEN)) {
        made += 1;
        under(fault, || packet.bind().map(|view| view.error(IoError::END))).unwrap();
        let expected = [IoError::END, IoError::OUT_OF_MEMORY];
        assert!(expected.contains(&packet.report().min_error().unwrap().1));
        assert_eq!(packet.take().unwrap(), [0; LEN]);
    }
    let value = under(fault, FullPacket::<[u64; 32], Write>::new_uninit);
    if let Ok(mut value) = value {
        made += 1;
        value.bind().unwrap().transfer_data(&[1; 256]).complete();
        assert_eq!(value.get(), Ok([0x0101_0101_0101_0101; 32]));
    }
    let mut slice = [0; LEN];
    if let Ok(mut store) = under(fault, || IntoPacket::<Write>::into_packet(&mut slice[..])) {
        made += 1;
        store.packet_mut().bind().unwrap().transfer_data(&[5; LEN]).complete();
        under(fault, || store.sync_back()).unwrap();
        assert_eq!(slice, [5; LEN]);
    }
    made
}

/// Runs the scenario on a thread of its own, so that no memory is left from the last run.
fn run(fault: Fault) -> (usize, usize) {
    thread::spawn(move || {
        let made = scenario(fault);
        (made, COUNT.get())
    })
    .join()
    .unwrap_or_else(|_| panic!("with {fault:?}"))
}

#[test]
fn every_allocation_fails_once_and_for_ever() {
    let (made, points) = run(Fault::None);
    assert_eq!(made, 5);
    let mut refused = 0;
    for number in 0..points {
        refused += made - run(Fault::Once(number)).0;
        run(Fault::From(number));
    }
    assert_eq!(run(Fault::From(0)).0, 0);
    assert!(refused >= 4, "{refused} requests were refused");
    println!("fault_points={}", 2 * points);
}
