//! The device that a filter sits on.

use core::fmt;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, Thread};

use crate::abi::{DeviceObj, DeviceParam, DeviceRequest, Opened, Remote, SendIo, host_device};
use crate::ext::{
    Admission, Answer, Cancellation, Capability, Describe, Extension, ExtensionQuery, Limits, Publish,
    ReadNow, Records, Stat, publication, read_records,
};
use crate::io::{AdmissionQueue, Admitted, BlockOn, Internal, Publication, ReadNowGate, Size};
use crate::{
    BackendDevice, Batch, BoundPacketView, DeviceInfo, IoError, NoPos, OpenError, OpenMode, PacketBox,
    PacketIo, Read, ReadWrite, RequestId, Unfilled, Write,
};

/// The device below a filter: any device that a host can open. Cheap to clone; the device is closed with the last clone.
///
/// `Lower` takes views as any device does ([`PacketIo::send_io`]), and has all helpers that are built on that: reads of values,
/// slices and vectors, streams of parts. A view that is sent on is not copied. The host polls the driver of the device.
#[derive(Clone)]
pub struct Lower(Arc<Inner>);

struct Inner {
    device: Remote,
    turns: Option<AdmissionQueue>,
    read_now: ReadNowGate,
}

impl Lower {
    pub(crate) fn new(object: DeviceObj) -> Self {
        let device = Remote::new(object);
        let turns = device.extension::<dyn Admission>().map(|_| AdmissionQueue::default());
        Self(Arc::new(Inner { device, turns, read_now: ReadNowGate::default() }))
    }

    /// A device of this program in the place of the lower one, to test a filter without a host. Its driver is not polled: take a
    /// device that completes its requests at once or from a thread of its own.
    ///
    /// # Errors
    ///
    /// [`IoError::PANICKED`] if [`polling_handle`](BackendDevice::polling_handle) panics.
    pub fn of(device: impl BackendDevice) -> Result<Self, IoError> {
        host_device(device).map(Self::new)
    }

    /// The current information about the device.
    pub fn info(&self) -> DeviceInfo {
        self.0.device.info()
    }

    /// An extension of the device, if the device has that extension: `lower.extension::<dyn Flush>()`.
    pub fn extension<E: Extension + ?Sized>(&self) -> Option<&E> {
        self.0.device.extension()
    }

    /// The device has an extension.
    pub fn has(&self, capability: Capability) -> bool {
        self.0.device.has(capability)
    }

    /// Offers the extension that the query is for, if the device has that extension: for layers over the device that change
    /// nothing.
    pub fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        self.0.device.extensions(query);
    }

    /// The requests that the device handles best. The device takes all requests, since the host fits them to the device's limits.
    pub fn limits(&self) -> Limits {
        self.0.device.limits()
    }

    /// Cancels a request that was sent on, or that another packet was made to answer: see [`BoundPacketView::request`].
    pub fn cancel(&self, request: RequestId) {
        if let Some(extension) = self.extension::<dyn Cancellation>() {
            extension.cancel(request);
        }
    }

    /// Runs the operation of the extension with this id, for hosts whose plugins name extensions by their ids.
    #[doc(hidden)]
    pub fn operate_by_id(&self, id: &[u8], number: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.0.device.operate_by_id(id, number, text, view);
    }

    /// Opens a name in the device, if the device is a tree: the names on the way joined with `/`. May block for as long as
    /// opening takes.
    ///
    /// # Errors
    ///
    /// If the device is no tree, the name does not exist, or it cannot be opened.
    pub fn open(&self, name: impl AsRef<[u8]>, mode: OpenMode) -> Result<Self, OpenError> {
        self.0.device.open(name.as_ref(), mode).map(Self::new)
    }

    /// Answers with the device's metadata of its bytes, after `change`: for a filter that shows other bytes. If the device has no
    /// metadata, `change` gets an empty record.
    pub fn stat_with(&self, answer: Records<Stat>, change: impl FnOnce(Stat) -> Stat + Send + 'static) {
        self.stat(move |stat| answer.complete_one(stat.map(change)));
    }

    /// Asks for the device's metadata of its bytes, and calls `then` with it, on this thread or on the thread that answers. A
    /// device without metadata gives an empty record.
    pub fn stat(&self, then: impl FnOnce(Result<Stat, IoError>) + Send + 'static) {
        self.stat_in(STAT_BYTES, then);
    }

    /// Asks for the metadata, with `room` bytes for the record, or with more if these do not suffice.
    fn stat_in(&self, room: usize, then: impl FnOnce(Result<Stat, IoError>) + Send + 'static) {
        let Some(describe) = self.extension::<dyn Describe>() else { return then(Ok(Stat::default())) };
        let bound = PacketBox::<Write>::new_buf(room).and_then(PacketBox::into_bound);
        let (packet, view) = match bound {
            Ok(bound) => bound,
            Err(error) => return then(Err(error)),
        };
        // The device keeps this callback: a strong reference would be a cycle.
        let this = Arc::downgrade(&self.0);
        packet.on_complete(move |packet| {
            let read = packet.simple_contiguous_slice().and_then(read_records::<Stat>);
            match (read, this.upgrade()) {
                (Err(IoError::TOO_LARGE), Some(this)) if room < MAX_STAT_BYTES => {
                    Self(this).stat_in(MAX_STAT_BYTES, then);
                }
                (read, _) => then(read.map(|(mut records, _)| records.pop().unwrap_or_default())),
            }
        });
        describe.stat(Records::new(view));
    }

    /// The object, or `self` again if another clone exists.
    pub(super) fn into_object(self) -> Result<DeviceObj, Self> {
        Arc::try_unwrap(self.0).map(|inner| inner.device.into_object()).map_err(Self)
    }
}

/// Room for a record of a device below; the user's metadata may need more.
const STAT_BYTES: usize = 1 << 10;

/// The most room that a record gets.
const MAX_STAT_BYTES: usize = 1 << 16;

impl Opened {
    /// A device of another plugin, unchanged. No layer of this plugin is between the device and its user, unless another clone of
    /// `below` exists: then a layer forwards all calls.
    pub fn handed_on(below: Lower) -> Self {
        Self::made_by(|library| match below.into_object() {
            Ok(object) => Ok(object),
            // Another clone of the device exists.
            Err(below) => Self::new(HandedOn(below)).into_object(library),
        })
    }
}

/// A lower device that is handed on unchanged while a clone of it exists.
struct HandedOn(Lower);

impl BackendDevice for HandedOn {
    fn info(&self) -> DeviceInfo {
        self.0.info()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.send_io(position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.0.send_io(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.0.send_io(position, view);
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        self.0.send_batch(batch);
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        self.0.send_batch(batch);
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        self.0.send_io(NoPos, view);
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.0.send_io(NoPos, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        self.0.extensions(query);
    }
}

impl Inner {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.device
            .extension::<dyn Admission>()
            .map_or(Poll::Ready(()), |extension| extension.poll_admit(bytes, cx))
    }
}

impl<Perms: DeviceRequest<P>, P: DeviceParam> PacketIo<Perms, P> for Lower
where
    DeviceObj: SendIo<Perms, P>,
{
    #[inline]
    fn send_io(&self, param: P, view: BoundPacketView<Perms>) {
        self.0.device.send(param, view);
    }

    fn send_batch(&self, batch: Batch<'_, Perms, P>) {
        self.0.device.send_many(batch);
    }

    fn reads_now(&self, _: Internal) -> bool {
        Perms::MAY_BE_AT_HAND && self.extension::<dyn ReadNow>().is_some() && self.0.read_now.is_tried()
    }

    fn read_now(&self, param: P, into: &mut Unfilled<'_>, _: Internal) {
        if let Some(position) = Perms::read_position(param)
            && let Some(extension) = self.extension::<dyn ReadNow>()
        {
            extension.read_now(position, into);
            self.0.read_now.tried(into.is_full());
        }
    }

    fn admit(&self, bytes: usize) -> Option<Admitted> {
        let inner = self.0.clone();
        self.0.turns.as_ref()?.admit(move |cx| inner.poll_admit(bytes, cx))
    }

    fn cancel(&self, request: RequestId) {
        self.cancel(request);
    }

    fn publication(&self) -> Option<Publication> {
        self.extension::<dyn Publish>()?;
        let this = self.clone();
        Some(publication(move |view| {
            if let Some(publish) = this.extension::<dyn Publish>() {
                publish.publish(Answer::new(view));
            }
        }))
    }
}

/// For [`open`](crate::Backend::open), which may block: parsers of `std::io` read the device below as a
/// [`Seekable`](crate::Seekable). The host polls the driver of the device; this thread waits.
///
/// ```
/// use std::io::{BufRead, BufReader};
///
/// use pactio_sdk::{Lower, OpenError, Seekable};
///
/// /// The first line of the device below, which a filter reads when it is opened.
/// fn first_line(lower: &Lower) -> Result<String, OpenError> {
///     let mut line = String::new();
///     BufReader::new(Seekable::new(lower.clone())).read_line(&mut line)?;
///     Ok(line)
/// }
/// # struct Text;
/// # impl pactio_sdk::BackendDevice for Text {
/// #     fn info(&self) -> pactio_sdk::DeviceInfo { pactio_sdk::DeviceInfo::with_size(9) }
/// #     fn read(&self, position: u64, view: pactio_sdk::ReadView) {
/// #         view.transfer_data(b"one\ntwo\n\n".get(position as usize..).unwrap_or(&[])).complete();
/// #     }
/// # }
/// # assert_eq!(first_line(&Lower::of(Text)?)?, "one\n");
/// # Ok::<(), OpenError>(())
/// ```
impl BlockOn for Lower {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            thread::park();
        }
    }
}

impl Size for Lower {
    fn size(&self) -> Option<u64> {
        self.info().size()
    }
}

/// Continues a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl fmt::Debug for Lower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lower").field(&self.0.device).finish()
    }
}
