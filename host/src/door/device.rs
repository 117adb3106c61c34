//! A device of a plugin that came through the door, as a device of the host.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use pactio_sdk::ext::{Operation, Relay};
use pactio_sdk::{
    BackendDevice, BoundPacketView, Cancellation, Capability, DeviceInfo, ExtensionQuery, IoError, Limiting,
    Limits, OpenError, OpenMode, Opened, Opening, PollingHandle, Read, ReadNow, RequestId, Unfilled, Write,
};

use super::lower::LowerObject;
use super::request::{Held, InCall, Owner, error_of, fail_all, text_of};
use super::{Answer, Device, Info, Ops, READABLE, STREAM, Transfer, WRITABLE, size};

/// A device of the plugin.
pub(crate) struct CDevice {
    handle: Arc<Handle>,
    limits: Limits,
}

/// The plugin's object, which is closed when neither its device nor a device that was opened in it exists.
pub(super) struct Handle {
    this: *mut c_void,
    ops: Ops,
    owner: Arc<Owner>,
    /// The waker of the driver; the plugin gets its address.
    waker: OnceLock<Waker>,
    /// The device below, if this one is a filter's. The plugin has a pointer to it until `close` returns.
    lower: Option<Arc<LowerObject>>,
    /// The tree that this device was opened in, which is closed later.
    #[allow(dead_code, reason = "keeps the tree open")]
    tree: Option<Arc<Handle>>,
}

// SAFETY: the header has the plugin's functions take calls of any thread.
unsafe impl Send for Handle {}
// SAFETY: the header has the plugin's functions take calls of any thread, any number at once.
unsafe impl Sync for Handle {}

/// The functions of a device, without those behind the table's size.
///
/// # Safety
///
/// `ops` is null, or the address of a table that begins with its size.
unsafe fn read_ops(ops: *const Ops) -> Result<Ops, String> {
    if ops.is_null() {
        return Err("the device has no table of functions".to_owned());
    }
    // SAFETY: the caller promises that the table begins with its size.
    let given = unsafe { ptr::addr_of!((*ops).size).read() } as usize;
    let least = std::mem::offset_of!(Ops, write);
    if given < least {
        return Err(format!(
            "the device's table of functions has {given} bytes, but at least {least} are needed"
        ));
    }
    let len = given.min(size_of::<Ops>());
    let mut all = Ops {
        size: 0,
        reserved: 0,
        close: None,
        info: None,
        read: None,
        write: None,
        read_next: None,
        write_next: None,
        cancel: None,
        limits: None,
        polling: None,
        poll: None,
        supports: None,
        operate: None,
        open_name: None,
        read_now: None,
    };
    // A function that the size cuts in the middle is absent.
    let len = len - len % size_of::<usize>();
    // SAFETY: the table has `len` bytes, and so has `all`. The header has the plugin put functions of these types there, or NULL.
    unsafe {
        ptr::copy_nonoverlapping(ops.cast::<u8>(), (&raw mut all).cast::<u8>(), len);
    }
    if all.close.is_none() || all.info.is_none() {
        return Err("the device's table of functions lacks close or info".to_owned());
    }
    Ok(all)
}

impl Handle {
    fn ask_limits(&self) -> Result<Limits, OpenError> {
        let Some(limits) = self.ops.limits else { return Ok(Limits::NONE) };
        let mut raw = super::Limits {
            size: size::<super::Limits>(),
            alignment: 0,
            memory_alignment: 0,
            in_flight: 0,
            largest: 0,
        };
        // SAFETY: the device is open, and `raw` is valid for a write.
        unsafe { limits(self.this, &raw mut raw) };
        let (alignment, memory_alignment) = (raw.alignment.max(1), raw.memory_alignment.max(1));
        let is_valid = alignment.is_power_of_two()
            && memory_alignment.is_power_of_two()
            && (raw.largest == 0 || raw.largest >= alignment.into());
        if !is_valid {
            let text = format!(
                "the device gives limits that contradict: alignment {alignment}, memory alignment {memory_alignment}, largest request {}",
                raw.largest
            );
            return Err(OpenError::invalid_input(text));
        }
        let limits = Limits::NONE.with_alignment(alignment).with_memory_alignment(memory_alignment);
        let limits = if raw.largest == 0 { limits } else { limits.with_largest(raw.largest) };
        Ok(if raw.in_flight == 0 { limits } else { limits.with_in_flight(raw.in_flight) })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(close) = self.ops.close {
            // SAFETY: the device is open, no other call is inside, and no call follows.
            unsafe { close(self.this) };
        }
        fail_all(&self.owner);
    }
}

impl CDevice {
    /// The device that the plugin has written to `out`.
    ///
    /// # Safety
    ///
    /// The plugin has opened the device, and wrote it as the header says.
    unsafe fn opened(
        out: &Device,
        plugin: &Arc<str>,
        lower: Option<Arc<LowerObject>>,
        tree: Option<Arc<Handle>>,
    ) -> Result<Self, OpenError> {
        // SAFETY: the caller promises that the plugin wrote the address of a table, or null.
        let ops = unsafe { read_ops(out.ops) }
            .map_err(|what| OpenError::new(IoError::from_code(pactio_sdk::Code::FAILED), what))?;
        let (owner, waker) = (Owner::new(plugin.clone()), OnceLock::new());
        let handle = Arc::new(Handle { this: out.this, ops, owner, waker, lower, tree });
        let limits = handle.ask_limits()?;
        Ok(Self { handle, limits })
    }

    /// Hands a request to a function of the plugin.
    fn transfer(&self, function: Option<Transfer>, position: u64, id: RequestId, held: Option<Held>) {
        let Some(held) = held else { return };
        let Some(function) = function else { return held.complete(0, &IoError::UNSUPPORTED.into()) };
        InCall::make(held, position, id.to_raw(), &self.handle.owner, |request| {
            // SAFETY: the device is open, and the request is valid for the call.
            unsafe { function(self.handle.this, request) }
        });
    }

    fn supports(&self, capability: Capability) -> bool {
        let id = capability.id();
        match (self.handle.ops.supports, self.handle.ops.operate) {
            // SAFETY: the device is open; the id is borrowed for the call.
            (Some(supports), Some(_)) => unsafe {
                supports(self.handle.this, id.as_ptr().cast(), id.len()) == 1
            },
            _ => false,
        }
    }
}

impl BackendDevice for CDevice {
    fn info(&self) -> DeviceInfo {
        let mut info = Info { size: size::<Info>(), flags: 0, device_size: u64::MAX };
        if let Some(ask) = self.handle.ops.info {
            // SAFETY: the device is open, and `info` is valid for a write.
            unsafe { ask(self.handle.this, &raw mut info) };
        }
        let known = match info.device_size {
            _ if info.flags & STREAM != 0 => DeviceInfo::stream(),
            u64::MAX => DeviceInfo::endless(),
            size => DeviceInfo::with_size(size),
        };
        let known = if info.flags & READABLE == 0 { known.write_only() } else { known };
        if info.flags & WRITABLE == 0 { known.read_only() } else { known }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let id = view.request();
        self.transfer(
            self.handle.ops.read,
            position,
            id,
            Held::of_read(view, self.limits.memory_alignment() as usize),
        );
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let id = view.request();
        self.transfer(
            self.handle.ops.write,
            position,
            id,
            Held::of_write(view, self.limits.memory_alignment() as usize),
        );
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        let id = view.request();
        self.transfer(
            self.handle.ops.read_next,
            0,
            id,
            Held::of_read(view, self.limits.memory_alignment() as usize),
        );
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        let id = view.request();
        self.transfer(
            self.handle.ops.write_next,
            0,
            id,
            Held::of_write(view, self.limits.memory_alignment() as usize),
        );
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        if query.is_for::<dyn ReadNow>() {
            if self.handle.ops.read_now.is_some() {
                query.offer::<dyn ReadNow>(self);
            }
            return;
        }
        match query.capability() {
            Capability::CANCELLATION if self.handle.ops.cancel.is_some() => {
                _ = query.offer::<dyn Cancellation>(self)
            }
            Capability::LIMITS if self.handle.ops.limits.is_some() => _ = query.offer::<dyn Limiting>(self),
            Capability::OPEN if self.handle.ops.open_name.is_some() => _ = query.offer::<dyn Opening>(self),
            Capability::CANCELLATION
            | Capability::LIMITS
            | Capability::OPEN
            | Capability::ADMISSION
            | Capability::MEMORY => {}
            other if self.supports(other) => query.offer_relay(self),
            _ => {}
        }
    }

    fn polling_handle(&self) -> PollingHandle {
        let (Some(polling), Some(_)) = (self.handle.ops.polling, self.handle.ops.poll) else {
            return if self.handle.ops.poll.is_some() { PollingHandle::Waker } else { PollingHandle::None };
        };
        let mut raw = super::Polling { size: size::<super::Polling>(), kind: 1, descriptor: -1, interest: 0 };
        // SAFETY: the device is open, and `raw` is valid for a write.
        unsafe { polling(self.handle.this, &raw mut raw) };
        match raw.kind {
            2 => PollingHandle::Descriptor {
                descriptor: raw.descriptor,
                readable: raw.interest & 1 != 0,
                writable: raw.interest & 2 != 0,
            },
            _ => PollingHandle::Waker,
        }
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = self.handle.waker.get_or_init(|| cx.waker().clone());
        let Some(poll) = self.handle.ops.poll else { return Poll::Ready(()) };
        // SAFETY: the device is open, and the waker is valid until `close` has returned.
        match unsafe { poll(self.handle.this, ptr::from_ref(waker).cast()) } {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

impl Relay for CDevice {
    fn relay<E: Operation + ?Sized>(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        let Some(operate) = self.handle.ops.operate else { return view.error(IoError::UNSUPPORTED) };
        let (id, request) = (E::OPERATION.id(), view.request());
        let Some(held) = Held::of_read(view, self.limits.memory_alignment() as usize) else { return };
        InCall::make(held, 0, request.to_raw(), &self.handle.owner, |answer| {
            let done: Answer =
                // SAFETY: the device is open; id, text and request are borrowed for the call.
                unsafe { operate(self.handle.this, id.as_ptr().cast(), id.len(), number, text.as_ptr(), text.len(), answer) };
            done
        });
    }
}

impl ReadNow for CDevice {
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        let Some(read_now) = self.handle.ops.read_now else { return };
        let (memory, len) = (into.unfilled_ptr(), into.remaining());
        // SAFETY: the device is open, and `memory` is valid for writes of `len` bytes during the call. 1 says that all were
        // written.
        unsafe {
            if read_now(self.handle.this, position, memory, len) == 1 {
                into.advance_unchecked(len);
            }
        }
    }
}

impl Cancellation for CDevice {
    fn cancel(&self, request: RequestId) {
        if let Some(cancel) = self.handle.ops.cancel {
            // SAFETY: the device is open.
            unsafe { cancel(self.handle.this, request.to_raw()) };
        }
    }
}

impl Limiting for CDevice {
    fn limits(&self) -> Limits {
        self.limits
    }
}

impl Opening for CDevice {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let Some(open) = self.handle.ops.open_name else { return Err(IoError::UNSUPPORTED.into()) };
        let (lower, tree) = (self.handle.lower.clone(), Some(self.handle.clone()));
        let device = opened(&self.handle.owner.plugin, lower, tree, |out, error| {
            // SAFETY: the device is open; the name is borrowed for the call, and both results are valid for a write.
            unsafe { open(self.handle.this, name.as_ptr(), name.len(), mode.bits(), out, error) }
        })?;
        Ok(Opened::new(device))
    }
}

/// Has the plugin open a device.
pub(super) fn opened(
    plugin: &Arc<str>,
    lower: Option<Arc<LowerObject>>,
    tree: Option<Arc<Handle>>,
    open: impl FnOnce(*mut Device, *mut super::OpenError) -> u32,
) -> Result<CDevice, OpenError> {
    let mut out = Device { this: ptr::null_mut(), ops: ptr::null() };
    let mut error = super::OpenError { size: size::<super::OpenError>(), code: 0, text: [0; 1016] };
    if open(&raw mut out, &raw mut error) == 0 {
        // SAFETY: 0 says that the plugin has opened the device.
        return unsafe { CDevice::opened(&out, plugin, lower, tree) };
    }
    let len = error.text.iter().position(|byte| *byte == 0).unwrap_or(error.text.len());
    // SAFETY: the bytes are those of the array.
    let text = unsafe { text_of(error.text.as_ptr(), len) };
    let error = error_of(error.code.into());
    Err(if text.is_empty() { error.into() } else { OpenError::new(error, text) })
}
