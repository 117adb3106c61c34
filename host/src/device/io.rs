//! How views get from a handle to its device: at once, in a batch, or when it has room.

use std::sync::Arc;
use std::task::{Context, Poll};

use pactio_sdk::abi::{
    ADMISSION, AdmissionTable, CANCELLATION, CWaker, CancellationTable, IoBackend, RawExtension, SendIo, send,
};
use pactio_sdk::io::{Admitted, Submitted, Turns};
use pactio_sdk::{
    Batch, BlockOn, BoundPacketView, NoPos, PacketIo, Read, ReadWrite, RequestId, Size, Submission, Write,
};

use super::{Device, Object, Shared};
use crate::executor::{Helper, block_on, local};

/// What a device can beyond the base.
pub(super) struct Extensions {
    cancellation: Option<Extension<CancellationTable>>,
    admission: Option<(Extension<AdmissionTable>, Turns)>,
}

/// An extension that was found. Its device keeps it.
struct Extension<T: 'static> {
    object: *const (),
    table: &'static T,
}

// SAFETY: the contract of all tables allows any thread.
unsafe impl<T: Sync> Send for Extension<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Extension<T> {}

impl Extensions {
    /// Whoever waits for room asks again.
    #[inline(always)]
    pub(super) fn wake_waiting(&self) {
        if let Some((_, turns)) = &self.admission {
            turns.wake_first();
        }
    }

    /// Asks a device that was just opened.
    pub(super) fn of(object: &Object) -> Self {
        Self {
            // SAFETY: the names say what the tables are.
            cancellation: unsafe { find(object, CANCELLATION) },
            // SAFETY: as above.
            admission: unsafe { find(object, ADMISSION) }.map(|extension| (extension, Turns::default())),
        }
    }
}

/// # Safety
///
/// The table of the extension `id` is a `T`, which begins with its size.
unsafe fn find<T>(object: &Object, id: &str) -> Option<Extension<T>> {
    let RawExtension { object, table } = object.0.raw_extension(id.as_bytes().into());
    if table.is_null() {
        return None;
    }
    // SAFETY: every table begins with its size. A library stays loaded, so its tables are static.
    let complete = unsafe { *table.cast::<u32>() } as usize >= size_of::<T>();
    // SAFETY: as required, and it is large enough.
    complete.then(|| Extension { object, table: unsafe { &*table.cast::<T>() } })
}

impl Shared {
    fn cancel(&self, request: RequestId) {
        if let Some(driver) = &self.driver {
            local::cancelled(driver);
        }
        if let Some(Extension { object, table }) = &self.extensions.cancellation {
            // SAFETY: the device exists, since `self` does.
            unsafe { (table.cancel)(*object, request.to_raw()) };
            self.extensions.wake_waiting();
        }
    }

    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        let Some((Extension { object, table }, _)) = &self.extensions.admission else {
            return Poll::Ready(());
        };
        let ask = |waker: Option<&CWaker>| {
            // SAFETY: the device exists, since `self` does.
            unsafe { (table.poll_admit)(*object, bytes, waker) != 0 }
        };
        // Without a waker first: mostly there is room.
        if ask(None) || ask(Some(&CWaker::from(cx.waker().clone()))) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Device {
    #[inline(always)]
    fn admit_request(&self, bytes: usize) -> Option<Admitted> {
        if self.0.extensions.admission.is_none() { None } else { self.queue_for_admission(bytes) }
    }

    #[cold]
    fn queue_for_admission(&self, bytes: usize) -> Option<Admitted> {
        let (_, turns) = self.0.extensions.admission.as_ref()?;
        let shared: Arc<Shared> = self.0.clone();
        turns.admit(move |cx| shared.poll_admit(bytes, cx))
    }

    /// Hands views to the device, and sees to it that the driver, if that wakes it, is polled on this thread.
    #[inline(always)]
    fn helped(&self, send: impl FnOnce(&Object)) {
        {
            let _helper = self.0.driver.as_ref().map(|driver| Helper::new(driver, &*self.0));
            send(&self.0.object);
        }
        // If it has panicked, it has forgotten who waits for room.
        self.0.extensions.wake_waiting();
    }
}

macro_rules! packet_io {
    ($($perms:ty, $param:ty $(, $queue:ident)?;)*) => {
        $(
            impl PacketIo<$perms, $param> for Device {
                #[inline]
                fn send_io(&self, param: $param, view: BoundPacketView<$perms>) {
                    self.helped(|object| send(&object.0, param, view));
                }

                fn send_batch(&self, batch: Batch<'_, $perms, $param>) {
                    self.helped(|object| object.0.send_many(batch));
                }

                $(
                    #[inline(always)]
                    fn submit(
                        &self,
                        position: $param,
                        view: BoundPacketView<$perms>,
                        cx: &mut Context<'_>,
                    ) -> Submitted {
                        let Some(driver) = &self.0.driver else {
                            send(&self.0.object.0, position, view);
                            self.0.extensions.wake_waiting();
                            return Submitted::Sent;
                        };
                        // If the task is the one that this thread is blocked on: together with what else it has to send.
                        let Some(mut place) = local::place(driver, cx.waker()) else {
                            self.send_io(position, view);
                            return Submitted::Sent;
                        };
                        Submission::push_to(&mut place.queues().$queue, position, view);
                        Submitted::Deferred
                    }
                )?

                #[cold]
                fn flush(&self) {
                    if let Some(driver) = &self.0.driver {
                        local::flush(driver);
                    }
                }

                #[inline(always)]
                fn admit(&self, bytes: usize) -> Option<Admitted> {
                    self.admit_request(bytes)
                }

                fn cancel(&self, request: RequestId) {
                    self.0.cancel(request);
                }
            }
        )*
    };
}

packet_io! {
    Write, u64, reads;
    Read, u64, writes;
    ReadWrite, u64;
    Write, NoPos;
    Read, NoPos;
}

impl BlockOn for Device {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }
}

impl Size for Device {
    fn size(&self) -> Option<u64> {
        self.size()
    }
}
