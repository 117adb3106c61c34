//! A device of the other side.

use core::fmt;
use core::mem::MaybeUninit;
use core::task::{Context, Poll};

use abi_stable::StableAbi;

use super::{
    ADMISSION, AdmissionTable, CANCELLATION, CWaker, CancellationTable, DeviceObj, DriverStatus, IoBackend,
    LIMITS, LimitsTable, MEMORY, MemoryTable, OPENING, OpenFailure, OpeningTable, Operation, OperationTable,
    RawExtension, SendIo,
};
use crate::{
    Batch, BoundPacketView, DeviceInfo, IoError, Limits, MemoryRange, OpenError, OpenMode, PacketPerms,
    PollingHandle, RequestId, Write,
};

/// An opened device of the other side of the boundary, with the extensions that it has.
pub struct Remote {
    object: DeviceObj,
    cancellation: Option<Extension<CancellationTable>>,
    admission: Option<Extension<AdmissionTable>>,
    opening: Option<Extension<OpeningTable>>,
    memory: Option<Extension<MemoryTable>>,
    operations: [Option<Extension<OperationTable>>; Operation::ALL.len()],
    limits: Limits,
}

// SAFETY: a `DeviceObj` is only made by this crate, from a `BackendDevice`, which is `Send` and `Sync`.
unsafe impl Send for Remote {}
// SAFETY: as above.
unsafe impl Sync for Remote {}

/// An extension that was found. Its device keeps it.
struct Extension<T: 'static> {
    object: *const (),
    table: &'static T,
}

/// # Safety
///
/// The table of the extension `id` is a `T`, which begins with its size.
unsafe fn find<T>(device: &DeviceObj, id: &str) -> Option<Extension<T>> {
    let RawExtension { object, table } = device.raw_extension(id.as_bytes().into());
    if table.is_null() {
        return None;
    }
    // SAFETY: every table begins with its size. A library stays loaded, so its tables are static.
    let complete = unsafe { *table.cast::<u32>() } as usize >= size_of::<T>();
    // SAFETY: as required, and it is large enough.
    complete.then(|| Extension { object, table: unsafe { &*table.cast::<T>() } })
}

impl Remote {
    /// Asks a device that was just opened for its extensions.
    pub fn new(object: DeviceObj) -> Self {
        // SAFETY: the name says what the table is.
        let limits = unsafe { find::<LimitsTable>(&object, LIMITS) }.map_or(Limits::NONE, |limits| {
            let mut raw = MaybeUninit::uninit();
            // SAFETY: the device exists, and the function writes what it is given.
            unsafe {
                (limits.table.limits)(limits.object, raw.as_mut_ptr());
                raw.assume_init().into()
            }
        });
        Self {
            // SAFETY: as above.
            operations: Operation::ALL.map(|operation| unsafe { find(&object, operation.id()) }),
            limits,
            // SAFETY: as above.
            cancellation: unsafe { find(&object, CANCELLATION) },
            // SAFETY: as above.
            admission: unsafe { find(&object, ADMISSION) },
            // SAFETY: as above.
            opening: unsafe { find(&object, OPENING) },
            // SAFETY: as above.
            memory: unsafe { find(&object, MEMORY) },
            object,
        }
    }

    /// Hands a view over.
    #[inline(always)]
    pub fn send<Perms: PacketPerms, P: StableAbi + 'static>(&self, param: P, view: BoundPacketView<Perms>)
    where
        DeviceObj: SendIo<Perms, P>,
    {
        super::send(&self.object, param, view);
    }

    /// Hands many views over in one call.
    #[inline]
    pub fn send_many<Perms: PacketPerms, P: StableAbi + 'static>(&self, batch: Batch<'_, Perms, P>)
    where
        DeviceObj: SendIo<Perms, P>,
    {
        self.object.send_many(batch);
    }

    /// What the device tells of itself now.
    pub fn info(&self) -> DeviceInfo {
        self.object.raw_info().into()
    }

    /// Why the device is out of use, if it is: its code panicked, or its driver ended.
    pub fn out_of_use(&self) -> Option<IoError> {
        self.object.raw_info().out_of_use()
    }

    /// Which requests it takes.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// It can do operations of the kind of this one.
    pub fn does(&self, operation: Operation<'_>) -> bool {
        self.operations[operation.kind()].is_some()
    }

    /// Has it do something beyond reading and writing; the bytes of the view are the answer. Fails the view with
    /// [`IoError::UNSUPPORTED`] if it cannot.
    pub fn operate(&self, operation: Operation<'_>, view: BoundPacketView<Write>) {
        let Some(Extension { object, table }) = &self.operations[operation.kind()] else {
            return view.error(IoError::UNSUPPORTED);
        };
        let (number, text) = operation.to_raw();
        let (packet, start, end, tag) = view.into_parts();
        // SAFETY: the device exists, since `self` does; the parts are those of a view, which they are once.
        unsafe { (table.operate)(*object, number, text.as_ptr(), text.len(), packet, start, end, tag) };
    }

    /// It is a tree that opens what is in it.
    pub fn opens(&self) -> bool {
        self.opening.is_some()
    }

    /// Opens what has a name in it. May block for as long as opening takes.
    ///
    /// # Errors
    ///
    /// If it is no tree, nothing has that name, or it cannot be opened.
    pub fn open(&self, name: &str, mode: OpenMode) -> Result<DeviceObj, OpenError> {
        let Some(Extension { object, table }) = &self.opening else {
            return Err(OpenError::new(IoError::UNSUPPORTED, "it has no names in it"));
        };
        let (mut device, mut failure) = (MaybeUninit::uninit(), MaybeUninit::<OpenFailure>::uninit());
        // SAFETY: the device exists, since `self` does; both places are valid for a write.
        let status = unsafe {
            (table.open)(*object, name.as_ptr(), name.len(), mode.bits(), &raw mut device, &raw mut failure)
        };
        if status == 0 {
            // SAFETY: 0 says that it was written.
            return Ok(unsafe { device.assume_init() });
        }
        // SAFETY: anything else says that this was written.
        Err(unsafe { failure.assume_init() }.into())
    }

    /// The object.
    pub fn into_object(self) -> DeviceObj {
        self.object
    }

    /// Who polls it.
    pub fn polling_handle(&self) -> PollingHandle {
        self.object.raw_polling_handle().into()
    }

    /// Polls its driver, always with a waker that wakes the same.
    ///
    /// # Safety
    ///
    /// No other poll of it is under way, on any thread.
    pub unsafe fn poll_driver(&self, waker: &CWaker) -> DriverStatus {
        // SAFETY: the caller's promise is the same.
        unsafe { self.object.poll_driver(waker) }
    }

    /// It can give requests up.
    pub fn cancels(&self) -> bool {
        self.cancellation.is_some()
    }

    /// Asks it to give a request up, if it can.
    pub fn cancel(&self, request: RequestId) {
        if let Some(Extension { object, table }) = &self.cancellation {
            // SAFETY: the device exists, since `self` does.
            unsafe { (table.cancel)(*object, request.to_raw()) };
        }
    }

    /// It is faster with memory that it was told of.
    pub fn registers(&self) -> bool {
        self.memory.is_some()
    }

    /// Tells it of memory in which requests will lie; gives a number for it.
    ///
    /// # Errors
    ///
    /// If it cannot be told, or makes nothing of it.
    pub fn register(&self, memory: MemoryRange) -> Result<u64, IoError> {
        let Some(Extension { object, table }) = &self.memory else { return Err(IoError::UNSUPPORTED) };
        let mut number = 0;
        // SAFETY: the device exists, since `self` does; the memory is as whoever made it has promised.
        let raw =
            unsafe { (table.register)(*object, memory.start().as_ptr(), memory.len(), &raw mut number) };
        IoError::from_raw(raw).map_or(Ok(number), Err)
    }

    /// No request lies in that memory any more.
    pub fn forget(&self, number: u64) {
        if let Some(Extension { object, table }) = &self.memory {
            // SAFETY: the device exists, since `self` does.
            unsafe { (table.forget)(*object, number) };
        }
    }

    /// It can be full.
    pub fn admits(&self) -> bool {
        self.admission.is_some()
    }

    /// Asks for room for a request of so many bytes. One at a time asks; see [`Admission`](crate::Admission).
    pub fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Extension { object, table }) = &self.admission else { return Poll::Ready(()) };
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

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("cancels", &self.cancels())
            .field("admits", &self.admits())
            .finish_non_exhaustive()
    }
}
