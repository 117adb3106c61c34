//! Packets and requests on bare metal: they need only `alloc`.
//!
//! If any code below used the standard library, there would be two panic handlers and this crate would not build.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};

use pactio_sdk::{BoundPacketView, IoError, IoRead, PacketIo, Write};

/// Allocates memory and never frees it.
struct Bump;

const SIZE: usize = 1 << 16;
static mut MEMORY: [u8; SIZE] = [0; SIZE];
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each byte is handed out once.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let wanted = layout.size() + layout.align();
        let start = USED.fetch_add(wanted, Ordering::Relaxed);
        if start + wanted > SIZE {
            return core::ptr::null_mut();
        }
        // SAFETY: the range was checked, and belongs to this call alone.
        unsafe {
            let memory = (&raw mut MEMORY).cast::<u8>().add(start);
            memory.add(memory.align_offset(layout.align()))
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// A device in flash.
struct Flash(&'static [u8]);

impl PacketIo<Write, u64> for Flash {
    fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
        view.transfer_data(self.0.get(position as usize..).unwrap_or(&[])).complete();
    }
}

/// Reads four bytes at `position`; a read past the end gives the raw error.
#[unsafe(no_mangle)]
pub extern "C" fn read_word(position: u64) -> u32 {
    let device = Flash(b"firmware");
    let request = pin!(device.read::<[u8; 4]>(position));
    match request.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(word)) => u32::from_le_bytes(word),
        Poll::Ready(Err(error)) => error.to_raw(),
        Poll::Pending => IoError::NOT_SUBMITTED.to_raw(),
    }
}
