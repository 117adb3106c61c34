//! The device below a filter, as a table for the plugin.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use pactio_sdk::ext::EXTENSIONS;
use pactio_sdk::{
    AlignedBytes, BoundPacketView, Cause, Code, DerivedPacket, IoError, Lower, NoPos, PacketBox, PacketIo,
    PacketPerms, Read, RequestId, StableBytes, Write,
};

use super::request::{Held, InCall, Owner, View, keep_during};
use super::{Answer, Info, KEPT, READABLE, Request, STREAM, WRITABLE, size};
use crate::executor::note_call_from_plugin;

/// See `pactio_lower`.
#[repr(C)]
pub(super) struct Table {
    pub(super) size: u32,
    pub(super) reserved: u32,
    pub(super) info: unsafe extern "C" fn(*const Table, *mut Info),
    pub(super) forward: unsafe extern "C" fn(*const Table, u32, u64, *const Request) -> Answer,
    pub(super) start: unsafe extern "C" fn(
        *const Table,
        u32,
        u64,
        *mut u8,
        usize,
        *const Request,
        Completion,
        *mut c_void,
    ) -> Answer,
    pub(super) supports: unsafe extern "C" fn(*const Table, *const c_char, usize) -> u32,
    pub(super) operate: unsafe extern "C" fn(
        *const Table,
        *const c_char,
        usize,
        u64,
        *const u8,
        usize,
        *const Request,
    ) -> Answer,
    pub(super) cancel: unsafe extern "C" fn(*const Table, u64),
}

/// See `pactio_completion`.
type Completion = Option<unsafe extern "C" fn(*mut c_void, u64, usize, u32)>;

const READ: u32 = 0;
const WRITE: u32 = 1;
const READ_NEXT: u32 = 2;
const WRITE_NEXT: u32 = 3;

/// The table, with the device behind it.
#[repr(C)]
pub(super) struct LowerObject {
    table: Table,
    device: Lower,
}

impl LowerObject {
    pub(super) fn new(device: Lower) -> Arc<Self> {
        let table =
            Table { size: size::<Table>(), reserved: 0, info, forward, start, supports, operate, cancel };
        Arc::new(Self { table, device })
    }

    pub(super) fn table(&self) -> *const Table {
        std::ptr::from_ref(self).cast()
    }
}

/// The device behind a table.
///
/// # Safety
///
/// The table is that of a `LowerObject`, which exists during the call.
unsafe fn device<'c>(table: *const Table) -> &'c Lower {
    note_call_from_plugin();
    // SAFETY: the caller promises that the table is the first field of an object.
    unsafe { &(*table.cast::<LowerObject>()).device }
}

unsafe extern "C" fn info(table: *const Table, out: *mut Info) {
    // SAFETY: the header has the plugin pass the table that it was given, while its device is open.
    let info = unsafe { device(table) }.info();
    let flags = [(READABLE, info.readable()), (WRITABLE, info.writable()), (STREAM, info.is_stream())];
    let flags = flags.into_iter().filter(|(_, set)| *set).fold(0, |flags, (flag, _)| flags | flag);
    // SAFETY: the header has the plugin pass a struct that begins with its size.
    unsafe {
        if !out.is_null() && (*out).size >= size::<Info>() {
            (*out).flags = flags;
            (*out).device_size = info.size().unwrap_or(u64::MAX);
        }
    }
}

unsafe extern "C" fn forward(
    table: *const Table,
    kind: u32,
    position: u64,
    request: *const Request,
) -> Answer {
    // SAFETY: the header has the plugin pass the table that it was given, while its device is open, and the request of the call.
    let (device, in_call) = unsafe { (device(table), InCall::of(request)) };
    let Some(held) = in_call.and_then(InCall::take) else { return KEPT };
    match (kind, held.into_view()) {
        (READ, View::Read(view, _)) => device.send_io(position, view),
        (READ_NEXT, View::Read(view, _)) => device.send_io(NoPos, view),
        (WRITE, View::Write(view, _)) => device.send_io(position, view),
        (WRITE_NEXT, View::Write(view, _)) => device.send_io(NoPos, view),
        (_, view) => {
            if let Some(in_call) = in_call {
                in_call.owner().wrong("it forwarded a request as one of another kind");
            }
            match view {
                View::Read(view, _) => view.error(IoError::UNSUPPORTED),
                View::Write(view, _) => view.error(IoError::UNSUPPORTED),
            }
        }
    }
    KEPT
}

/// The end of a request of the plugin.
struct Ending {
    completion: Completion,
    context: *mut c_void,
}

// SAFETY: the header has the completion called on any thread.
unsafe impl Send for Ending {}

impl Ending {
    fn call(self, kept: u64, done: usize, error: Option<IoError>) {
        if let Some(completion) = self.completion {
            let error = error.map_or(0, |error| error.code().to_byte().into());
            // SAFETY: the header has the plugin give a function that takes this context, once.
            unsafe { completion(self.context, kept, done, error) };
        }
    }
}

/// Memory that the plugin leaves to a request.
struct LentMemory {
    start: NonNull<u8>,
    len: usize,
    /// The bytes are those of a write. The memory of a read may be in any state.
    is_initialised: bool,
}

// SAFETY: the header has the plugin leave the memory to the request, on any thread.
unsafe impl Send for LentMemory {}

// SAFETY: the header has the memory stay valid, and used by the request alone, until its completion is called; `is_initialised`
// says whether its bytes are.
unsafe impl StableBytes for LentMemory {
    fn start(&mut self) -> NonNull<u8> {
        self.start
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_initialised(&self) -> bool {
        self.is_initialised
    }
}

/// A kind of request at a position, with the permission of its packet.
trait Kind: PacketPerms {
    /// Sends a view as a request of this kind.
    fn send(device: &Lower, kind: u32, position: u64, view: BoundPacketView<Self>);
}

impl Kind for Write {
    fn send(device: &Lower, kind: u32, position: u64, view: BoundPacketView<Self>) {
        if kind == READ { device.send_io(position, view) } else { device.send_io(NoPos, view) }
    }
}

impl Kind for Read {
    fn send(device: &Lower, kind: u32, position: u64, view: BoundPacketView<Self>) {
        if kind == WRITE { device.send_io(position, view) } else { device.send_io(NoPos, view) }
    }
}

unsafe extern "C" fn start(
    table: *const Table,
    kind: u32,
    position: u64,
    data: *mut u8,
    len: usize,
    request: *const Request,
    completion: Completion,
    context: *mut c_void,
) -> Answer {
    // SAFETY: the header has the plugin pass the table that it was given, while its device is open, and the request of the call.
    let (device, in_call) = unsafe { (device(table), InCall::of(request)) };
    let ending = Ending { completion, context };
    let is_initialised = matches!(kind, WRITE | WRITE_NEXT);
    let answer = if in_call.is_some() { KEPT } else { 0 };
    let origin = match in_call.map(|in_call| (in_call.take(), in_call.owner().clone())) {
        Some((Some(held), owner)) => Some((held, owner)),
        // The mistake was reported.
        Some((None, _)) => {
            ending.call(0, 0, Some(IoError::UNSUPPORTED));
            return answer;
        }
        None => None,
    };
    let start = match NonNull::new(data) {
        None if len > 0 => {
            refuse(origin, IoError::from_code(Code::INVALID_INPUT), ending);
            return answer;
        }
        start => start.unwrap_or(NonNull::dangling()),
    };
    let lent = LentMemory { start, len, is_initialised };
    match kind {
        READ | READ_NEXT => send::<Write>(device, kind, position, lent, origin, ending),
        WRITE | WRITE_NEXT => send::<Read>(device, kind, position, lent, origin, ending),
        _ => refuse(origin, IoError::UNSUPPORTED, ending),
    }
    answer
}

/// Ends a request of the plugin that is not sent, and the one that it was made to complete.
fn refuse(origin: Option<(Held, Arc<Owner>)>, error: IoError, ending: Ending) {
    if let Some((held, _)) = origin {
        held.complete(0, &error.into());
    }
    ending.call(0, 0, Some(error));
}

/// Sends a request of the plugin, which may be made to complete another one.
fn send<Perms: Kind>(
    device: &Lower,
    kind: u32,
    position: u64,
    lent: LentMemory,
    origin: Option<(Held, Arc<Owner>)>,
    ending: Ending,
) {
    let Some((held, owner)) = origin else {
        // SAFETY: see `StableBytes` of `LentMemory`.
        let bound = unsafe { PacketBox::<Perms>::lent(lent.start, lent.len, lent.is_initialised) };
        let bound = bound.and_then(PacketBox::into_bound);
        return match bound {
            Ok((packet, view)) => {
                packet.on_complete(move |packet| {
                    let (len, error) = (packet.len(), packet.min_error());
                    drop(packet);
                    ending.call(0, error.map_or(len, |(done, _)| done), error.map(|(_, error)| error));
                });
                Perms::send(device, kind, position, view);
            }
            Err(error) => ending.call(0, 0, Some(error)),
        };
    };
    match held.into_view() {
        View::Read(view, buffer) => {
            derive::<Perms, Write>(
                device,
                kind,
                position,
                lent,
                (view, buffer),
                Held::read_again,
                owner,
                ending,
            );
        }
        View::Write(view, buffer) => {
            derive::<Perms, Read>(
                device,
                kind,
                position,
                lent,
                (view, buffer),
                Held::write_again,
                owner,
                ending,
            );
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one request")]
fn derive<Perms: Kind, Origin: PacketPerms>(
    device: &Lower,
    kind: u32,
    position: u64,
    lent: LentMemory,
    (origin, buffer): (BoundPacketView<Origin>, Option<AlignedBytes>),
    hold: fn(BoundPacketView<Origin>, Option<AlignedBytes>) -> Option<Held>,
    owner: Arc<Owner>,
    ending: Ending,
) {
    // If there is no memory for the packet, the origin has failed.
    let made = DerivedPacket::<_, Perms, Origin>::new(origin, lent);
    let bound = made.and_then(|mut packet| Ok((packet.bind()?, packet)));
    let (view, packet) = match bound {
        Ok(bound) => bound,
        Err(error) => return ending.call(0, 0, Some(error)),
    };
    packet.on_complete(move |packet| {
        let Ok((view, _, report)) = packet.into_parts() else { return };
        let first = report.min_cause().map(|(done, cause)| (done, cause.clone()));
        let (done, cause) = match first {
            None => (report.len(), None),
            Some((done, cause)) => (done, Some(cause)),
        };
        let error = cause.as_ref().map(Cause::error);
        match hold(view, buffer) {
            Some(held) => keep_during(held, &owner, cause, |kept| ending.call(kept, done, error)),
            None => ending.call(0, done, error),
        }
    });
    Perms::send(device, kind, position, view);
}

/// Bytes of the plugin; a null pointer has none.
///
/// # Safety
///
/// `data` is null, or has `len` bytes for the life of the result.
unsafe fn bytes<'c>(data: *const u8, len: usize) -> &'c [u8] {
    // SAFETY: the caller promises that the bytes are there.
    if data.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(data, len) } }
}

unsafe extern "C" fn supports(table: *const Table, id: *const c_char, len: usize) -> u32 {
    // SAFETY: the header has the plugin pass the table that it was given, while its device is open, and an id.
    let (lower, id) = unsafe { (device(table), bytes(id.cast(), len)) };
    let known = EXTENSIONS.iter().find(|capability| capability.id().as_bytes() == id);
    known.is_some_and(|capability| lower.has(*capability)).into()
}

unsafe extern "C" fn operate(
    table: *const Table,
    id: *const c_char,
    id_len: usize,
    number: u64,
    text: *const u8,
    text_len: usize,
    answer: *const Request,
) -> Answer {
    // SAFETY: the header has the plugin pass the table that it was given, while its device is open, and the request of
    // the call.
    let (lower, in_call) = unsafe { (device(table), InCall::of(answer)) };
    // SAFETY: the header has the plugin pass an id and a text of these lengths.
    let (id, text) = unsafe { (bytes(id.cast(), id_len), bytes(text, text_len)) };
    let Some(held) = in_call.and_then(InCall::take) else { return KEPT };
    let view = match held.into_view() {
        View::Read(view, _) => view,
        View::Write(view, _) => {
            view.error(IoError::UNSUPPORTED);
            return KEPT;
        }
    };
    lower.operate_by_id(id, number, text, view);
    KEPT
}

unsafe extern "C" fn cancel(table: *const Table, id: u64) {
    // SAFETY: the header has the plugin pass the table that it was given, while its device is open.
    unsafe { device(table) }.cancel(RequestId::from_raw(id));
}
