//! How views get from a handle to its device: at once, in a batch, or when the device has room.

use std::sync::Arc;
use std::task::Context;

use pactio_sdk::abi::Remote;
use pactio_sdk::ext::publication;
use pactio_sdk::io::{Admitted, Internal, Publication, Submitted};
use pactio_sdk::{
    Batch, BlockOn, BoundPacketView, Cancellation, Capability, NoPos, PacketIo, Publish, Read, ReadWrite,
    RequestId, Size, Submission, Write,
};

use super::current::Entered;
use super::{Device, Shared};
use crate::executor::{Call, Helper, block_on, local, together};

impl Shared {
    /// Wakes the callers that wait for room, so that they ask again.
    #[inline(always)]
    pub(super) fn wake_waiting(&self) {
        if let Some(room) = &self.room {
            room.wake_all();
        }
    }

    pub(super) fn cancel(&self, request: RequestId) {
        if let Some(driver) = &self.driver
            && !self.life.was_forked()
        {
            driver.cancel_deferred(request);
        }
        self.cancel_at_device(request);
    }

    /// Passes a cancellation to the device.
    pub(super) fn cancel_at_device(&self, request: RequestId) {
        if self.life.refusal().is_some() {
            return;
        }
        let entered = Entered::new(self, Call::Cancel);
        if let Some(cancellation) = self.remote.extension::<dyn Cancellation>() {
            cancellation.cancel(request);
            drop(entered);
            self.wake_waiting();
        }
    }
}

impl Device {
    #[inline(always)]
    fn admit_request(&self, bytes: usize) -> Option<Admitted> {
        if self.0.room.is_none() { None } else { self.queue_for_admission(bytes) }
    }

    #[cold]
    fn queue_for_admission(&self, bytes: usize) -> Option<Admitted> {
        let shared: Arc<Shared> = self.0.clone();
        let room = self.0.room.clone()?;
        self.0.room.as_ref()?.turns.admit(move |_| room.ask(&shared.remote, bytes))
    }

    /// Hands views to the device. If that wakes the driver, the driver is polled on this thread.
    #[inline(always)]
    pub(super) fn helped(&self, call: Call, send: impl FnOnce(&Remote)) {
        {
            let _helper = self.0.driver.as_ref().map(|driver| Helper::new(driver, &*self.0));
            let _entered = Entered::new(&self.0, call);
            send(&self.0.remote);
        }
        // The callers that wait for room are woken in any case: a device that has panicked has forgotten their waker.
        self.0.wake_waiting();
    }
}

macro_rules! packet_io {
    ($($perms:ty, $param:ty $(, $queue:ident)?;)*) => {
        $(
            impl PacketIo<$perms, $param> for Device {
                #[inline]
                fn send_io(&self, param: $param, view: BoundPacketView<$perms>) {
                    match self.0.life.refusal() {
                        None => self.helped(Call::Request, |remote| remote.send(param, view)),
                        Some(error) => view.error(error),
                    }
                }

                fn send_batch(&self, batch: Batch<'_, $perms, $param>) {
                    match self.0.life.refusal() {
                        None => self.helped(Call::Request, |remote| remote.send_many(batch)),
                        Some(error) => batch.for_each(|(_, view)| view.error(error)),
                    }
                }

                $(
                    #[inline(always)]
                    fn submit(
                        &self,
                        position: $param,
                        view: BoundPacketView<$perms>,
                        cx: &mut Context<'_>,
                        _: Internal,
                    ) -> Submitted {
                        // This check comes before any lock: in a forked process, a thread that does not exist there may hold the
                        // lock.
                        if let Some(error) = self.0.life.refusal() {
                            view.error(error);
                            return Submitted::Sent;
                        }
                        let Some(driver) = &self.0.driver else {
                            {
                                let _entered = Entered::new(&self.0, Call::Request);
                                self.0.remote.send(position, view);
                            }
                            self.0.wake_waiting();
                            return Submitted::Sent;
                        };
                        let Some(mut place) = local::place(driver, cx.waker()) else {
                            self.send_io(position, view);
                            return Submitted::Sent;
                        };
                        Submission::push_to(&mut place.views().$queue, position, view);
                        place.leave(cx)
                    }
                )?

                #[cold]
                fn send_deferred(&self, _: Internal) {
                    if let Some(driver) = &self.0.driver
                        && !self.0.life.was_forked()
                    {
                        driver.send_all_deferred();
                    }
                }

                #[inline(always)]
                fn admit(&self, bytes: usize) -> Option<Admitted> {
                    self.admit_request(bytes)
                }

                fn cancel(&self, request: RequestId) {
                    self.0.cancel(request);
                }

                fn publication(&self) -> Option<Publication> {
                    if !self.0.remote.has(Capability::PUBLISH) {
                        return None;
                    }
                    let device = self.clone();
                    Some(publication(move |view| device.operate::<dyn Publish>(0, b"", view)))
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

    fn together<R>(&self, f: impl FnOnce(bool) -> R, _: Internal) -> R {
        together(|| f(true))
    }
}

impl Size for Device {
    fn size(&self) -> Option<u64> {
        self.size()
    }
}
