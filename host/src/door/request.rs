//! A request in the form of the header, during the call that hands it over and afterwards.
//!
//! ```text
//!  view ──► InCall ──► ops->read ──► a number ──────────────────► answer
//!                          └► host->keep ──► KEPT list ──► host->complete ──► answer
//! ```
//!
//! A kept request has a number that is used once, so that a second completion finds nothing, whatever memory it refers to.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactio_sdk::{
    AlignedBytes, AllocatedPacket, BoundPacketView, Cause, Code, IoError, PacketPerms, Read, ReadPacketObj,
    Write, WritePacketObj,
};

use super::{Answer, KEPT, Request, size};
use crate::executor::note_call_from_plugin;

/// The plugin and the device that a request is of.
pub(super) struct Owner {
    /// The id of the plugin.
    pub(super) plugin: Arc<str>,
    /// The number of the device, which is used once.
    pub(super) number: u64,
    /// The device was closed.
    is_closed: AtomicBool,
}

impl Owner {
    pub(super) fn new(plugin: Arc<str>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Ordering: Relaxed. The number guards no data.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { plugin, number, is_closed: AtomicBool::new(false) })
    }

    /// Reports a mistake of the plugin that the host has contained.
    pub(super) fn wrong(&self, what: &str) {
        tracing::error!(plugin = &*self.plugin, "the plugin breaks the contract: {what}");
    }
}

/// A request that owes an answer, with its bytes in memory.
pub(super) enum Held {
    Fill(WritePacketObj),
    /// The requester's bytes are not in memory, or not aligned for the device: a buffer is filled, and copied at the end.
    FillCopy(BoundPacketView<Write>, AlignedBytes),
    Take(ReadPacketObj),
    TakeCopy(BoundPacketView<Read>, AlignedBytes),
}

/// The numbers `PACTIO_URGENCY` to `PACTIO_SPAN`.
const URGENCY: u32 = 1;
const TIME_LEFT: u32 = 2;
const SPAN: u32 = 3;

/// Evaluates an expression with the view of a held request.
macro_rules! with_view {
    ($held:expr, $view:ident => $body:expr) => {
        match $held {
            Held::Fill(bytes) => {
                let $view = bytes.as_view();
                $body
            }
            Held::Take(bytes) => {
                let $view = bytes.as_view();
                $body
            }
            Held::FillCopy($view, _) => $body,
            Held::TakeCopy($view, _) => $body,
        }
    };
}

impl Held {
    /// A read request, with memory at a multiple of `align`; `None` if there is no memory, and the request has failed.
    pub(super) fn of_read(view: BoundPacketView<Write>, align: usize) -> Option<Self> {
        let view = match view.try_alloc(align) {
            Ok(bytes) => return Some(Self::Fill(bytes)),
            Err(view) => view,
        };
        match AlignedBytes::zeroed(view.len(), align) {
            Ok(buffer) => Some(Self::FillCopy(view, buffer)),
            Err(error) => {
                view.error(error);
                None
            }
        }
    }

    /// A write request; `None` if there is no memory, or if its bytes cannot be produced, and the request has failed.
    pub(super) fn of_write(view: BoundPacketView<Read>, align: usize) -> Option<Self> {
        let view = match view.try_alloc(align) {
            Ok(bytes) => return Some(Self::Take(bytes)),
            Err(view) => view,
        };
        let copied = AlignedBytes::zeroed(view.len(), align)
            .and_then(|mut buffer| view.copy_to(&mut buffer).map(|()| buffer));
        match copied {
            Ok(buffer) => Some(Self::TakeCopy(view, buffer)),
            Err(error) => {
                view.error(error);
                None
            }
        }
    }

    fn memory(&mut self) -> (*mut u8, usize) {
        match self {
            Self::Fill(bytes) => (bytes.start(), bytes.len()),
            Self::FillCopy(_, buffer) | Self::TakeCopy(_, buffer) => (buffer.as_mut_ptr(), buffer.len()),
            Self::Take(bytes) => (bytes.start(), bytes.len()),
        }
    }

    fn is_cancelled(&self) -> bool {
        with_view!(self, view => view.is_cancelled())
    }

    /// See `pactio_host.attribute`.
    fn attribute(&self, attribute: u32) -> i64 {
        with_view!(self, view => match attribute {
            URGENCY => view.urgency().into(),
            TIME_LEFT => view.time_left().map_or(i64::MAX, |left| left.as_nanos().try_into().unwrap_or(i64::MAX)),
            SPAN => view.span().map_or(0, |span| span.get().cast_signed()),
            _ => 0,
        })
    }

    /// The view of a request, for a device below, and the buffer of a request that was given as a copy.
    pub(super) fn into_view(self) -> View {
        match self {
            Self::Fill(bytes) => View::Read(bytes.into_view(), None),
            Self::FillCopy(view, buffer) => View::Read(view, Some(buffer)),
            Self::Take(bytes) => View::Write(bytes.into_view(), None),
            Self::TakeCopy(view, buffer) => View::Write(view, Some(buffer)),
        }
    }

    /// A read request that was held before: its bytes are where they were.
    pub(super) fn read_again(view: BoundPacketView<Write>, buffer: Option<AlignedBytes>) -> Option<Self> {
        match buffer {
            Some(buffer) => Some(Self::FillCopy(view, buffer)),
            None => Self::of_read(view, 1),
        }
    }

    /// A write request that was held before.
    pub(super) fn write_again(view: BoundPacketView<Read>, buffer: Option<AlignedBytes>) -> Option<Self> {
        match buffer {
            Some(buffer) => Some(Self::TakeCopy(view, buffer)),
            None => Self::of_write(view, 1),
        }
    }

    /// Answers: the first `done` bytes are done, the rest failed with `rest`.
    pub(super) fn complete(self, done: usize, rest: &Cause) {
        match self {
            Self::Fill(bytes) if done >= bytes.len() || rest.text().is_none() => {
                let done = done.min(bytes.len());
                // SAFETY: the plugin promises that it has filled the first `done` bytes, which the range has.
                unsafe { bytes.complete_moved(done, rest.error()) };
            }
            Self::Fill(bytes) => {
                let (mut front, back) = bytes.split_at(done);
                // SAFETY: the plugin promises that it has filled the first `done` bytes, which are those of `front`.
                unsafe { front.advance_unchecked(done) };
                front.complete();
                back.fail(rest);
            }
            Self::FillCopy(view, buffer) => {
                let (front, back) = view.split_at(done);
                let filled = front.len();
                front.transfer_data(&buffer[..filled]).complete();
                fail(back, rest);
            }
            Self::Take(bytes) => {
                let (front, back) = bytes.split_at(done);
                front.complete();
                if back.is_empty() { back.complete() } else { back.fail(rest) }
            }
            Self::TakeCopy(view, _) => {
                let (front, back) = view.split_at(done);
                front.accept().complete();
                if back.is_empty() { back.accept().complete() } else { back.fail(rest) }
            }
        }
    }

    /// Answers as the plugin has said.
    pub(super) fn answer(self, answer: Answer, owner: &Owner) {
        let len = self.len();
        match usize::try_from(answer) {
            Ok(done) if done <= len => self.complete(done, &IoError::END.into()),
            Ok(done) => {
                owner.wrong(&format!("it answered {done} bytes to a request of {len}"));
                self.complete(0, &IoError::from_code(Code::FAILED).into());
            }
            Err(_) => self.complete(0, &error_of(answer.unsigned_abs()).into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Fill(bytes) => bytes.len(),
            Self::FillCopy(_, buffer) | Self::TakeCopy(_, buffer) => buffer.len(),
            Self::Take(bytes) => bytes.len(),
        }
    }
}

/// The view of a request, and the buffer that stands for its bytes, if there is one.
pub(super) enum View {
    Read(BoundPacketView<Write>, Option<AlignedBytes>),
    Write(BoundPacketView<Read>, Option<AlignedBytes>),
}

fn fail<Perms: PacketPerms>(view: BoundPacketView<Perms>, rest: &Cause) {
    if view.is_empty() { view.error(rest.error()) } else { view.fail(rest) }
}

/// The error for a number of the header.
pub(crate) fn error_of(number: u64) -> IoError {
    match Code::from_byte(u8::try_from(number).unwrap_or_default()) {
        Code::END => IoError::END,
        Code::UNSUPPORTED => IoError::UNSUPPORTED,
        Code::CANCELLED => IoError::CANCELLED,
        // 0 is no error, and numbers of more than one byte are of no version.
        code if code.to_byte() == 0 => IoError::from_code(Code::FAILED),
        code => IoError::from_code(code),
    }
}

/// A request during the call that hands it over. The plugin gets a pointer to the first field.
#[repr(C)]
pub(super) struct InCall {
    request: Request,
    held: RefCell<Option<Held>>,
    owner: Arc<Owner>,
}

impl InCall {
    /// Makes the call, and answers if the plugin has answered.
    pub(super) fn make(
        mut held: Held,
        position: u64,
        id: u64,
        owner: &Arc<Owner>,
        call: impl FnOnce(*const Request) -> Answer,
    ) {
        let (data, len) = held.memory();
        let request = Request { size: size::<Request>(), reserved: 0, position, data, len, id };
        let this = Self { request, held: RefCell::new(Some(held)), owner: owner.clone() };
        let answer = call((&raw const this).cast());
        match (this.held.take(), answer) {
            (Some(held), KEPT) => {
                owner.wrong("it returned PACTIO_KEPT for a request that it did not keep");
                held.complete(0, &IoError::from_code(Code::UNANSWERED).into());
            }
            (Some(held), answer) => held.answer(answer, owner),
            (None, KEPT) => {}
            // The request is kept, or was handed on: its answer comes from there. An exception in C++ completes a kept request as
            // well, and is no mistake.
            (None, answer) if answer < 0 => {}
            (None, _) => owner.wrong("it kept or forwarded a request and answered it as well"),
        }
    }

    /// The request behind a pointer that the plugin was given.
    ///
    /// # Safety
    ///
    /// The pointer was given to the call that is under way on this thread.
    pub(super) unsafe fn of<'c>(request: *const Request) -> Option<&'c Self> {
        // SAFETY: the caller promises that the pointer is to the first field of an `InCall` that exists during the call.
        unsafe { request.cast::<Self>().as_ref() }
    }

    pub(super) fn take(&self) -> Option<Held> {
        let held = self.held.borrow_mut().take();
        if held.is_none() {
            self.owner.wrong("it kept or forwarded a request twice");
        }
        held
    }

    pub(super) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }
}

/// The kept requests by their numbers, in a few lists, so that threads seldom wait for each other.
static ALL: [Mutex<Kept>; LISTS] = [const { Mutex::new(Kept { all: None, last: VecDeque::new() }) }; LISTS];
const LISTS: usize = 16;

/// A list of kept requests.
struct Kept {
    /// Made with the first request.
    all: Option<HashMap<u64, KeptRequest>>,
    /// The last ones that were completed, with their plugins: for the message about a second completion.
    last: VecDeque<(u64, Arc<Owner>)>,
}

/// Completed requests that are remembered in each list.
const REMEMBERED: usize = 64;

/// A request that the plugin completes later.
struct KeptRequest {
    held: Held,
    owner: Arc<Owner>,
    /// The reason why a request failed that was made to complete this one: its text is kept if the plugin passes the error on.
    cause: Option<Cause>,
    /// The plugin is in the completion that was given this request: the request stays until that returns.
    is_in_completion: bool,
}

fn list(number: u64) -> MutexGuard<'static, Kept> {
    ALL[number as usize % LISTS].lock().unwrap_or_else(PoisonError::into_inner)
}

/// See `pactio_host.keep`.
pub(super) unsafe extern "C" fn keep(request: *const Request) -> u64 {
    // SAFETY: the header has the plugin call this with the request of the call that is under way.
    let Some(in_call) = (unsafe { InCall::of(request) }) else { return 0 };
    let Some(held) = in_call.take() else { return 0 };
    insert(KeptRequest { held, owner: in_call.owner.clone(), cause: None, is_in_completion: false })
}

/// Keeps a request; gives its number.
fn insert(kept: KeptRequest) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Ordering: Relaxed. The lock of the list orders the request.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    list(number).all.get_or_insert_default().insert(number, kept);
    number
}

/// Keeps a request while `complete` has the plugin complete it. If its device is closed meanwhile, the request fails only
/// afterwards: the plugin may be using its bytes.
pub(super) fn keep_during(held: Held, owner: &Arc<Owner>, cause: Option<Cause>, complete: impl FnOnce(u64)) {
    let number = insert(KeptRequest { held, owner: owner.clone(), cause, is_in_completion: true });
    complete(number);
    let left = {
        let mut list = list(number);
        let all = list.all.get_or_insert_default();
        if let Some(kept) = all.get_mut(&number) {
            kept.is_in_completion = false;
        }
        // Ordering: Relaxed. `fail_all` locks this list after its store: either it sees the request, or this sees the store.
        if owner.is_closed.load(Ordering::Relaxed) { all.remove(&number) } else { None }
    };
    if let Some(kept) = left {
        kept.held.complete(0, &IoError::from_code(Code::UNANSWERED).into());
    }
}

fn take_kept(number: u64) -> Option<KeptRequest> {
    let (taken, before) = {
        let mut list = list(number);
        let taken = list.all.as_mut().and_then(|all| all.remove(&number));
        if let Some(kept) = &taken {
            list.last.truncate(REMEMBERED - 1);
            list.last.push_front((number, kept.owner.clone()));
        }
        let before = list.last.iter().find(|(last, _)| *last == number).map(|(_, owner)| owner.clone());
        (taken, before)
    };
    if taken.is_none() {
        match before {
            Some(owner) => owner.wrong("it completed a kept request twice"),
            None => tracing::error!(
                "a plugin breaks the contract: it completed a request that was never kept, or after its device was closed"
            ),
        }
    }
    taken
}

/// See `pactio_host.complete`.
pub(super) extern "C" fn complete(number: u64, answer: Answer) {
    note_call_from_plugin();
    if let Some(KeptRequest { held, owner, .. }) = take_kept(number) {
        if answer == KEPT {
            owner.wrong("it completed a request with PACTIO_KEPT");
        }
        held.answer(answer, &owner);
    }
}

/// See `pactio_host.complete_part`.
pub(super) unsafe extern "C" fn complete_part(
    number: u64,
    done: usize,
    error: u32,
    text: *const u8,
    text_len: usize,
) {
    note_call_from_plugin();
    let Some(KeptRequest { held, owner, cause, .. }) = take_kept(number) else { return };
    if done > held.len() {
        owner.wrong(&format!("it completed {done} bytes of a request of {}", held.len()));
        return held.complete(0, &IoError::from_code(Code::FAILED).into());
    }
    // SAFETY: the text is borrowed for the call.
    let text = unsafe { text_of(text, text_len) };
    let error = error_of(error.into());
    let cause = match cause {
        _ if !text.is_empty() => Cause::new(error, text),
        Some(cause) if cause.error().code() == error.code() => cause,
        _ => error.into(),
    };
    held.complete(done, &cause);
}

/// See `pactio_host.is_cancelled`.
pub(super) extern "C" fn is_cancelled(number: u64) -> u32 {
    let list = list(number);
    let held = list.all.as_ref().and_then(|all| all.get(&number));
    // The device of a request that is no longer kept has ended.
    u32::from(held.is_none_or(|kept| kept.held.is_cancelled()))
}

/// See `pactio_host.attribute`.
pub(super) extern "C" fn attribute(number: u64, attribute: u32) -> i64 {
    let list = list(number);
    let held = list.all.as_ref().and_then(|all| all.get(&number));
    // A request that is not kept has no deadline.
    let of_none = if attribute == TIME_LEFT { i64::MAX } else { 0 };
    held.map_or(of_none, |kept| kept.held.attribute(attribute))
}

/// Fails the kept requests of a device that was closed.
pub(super) fn fail_all(owner: &Owner) {
    // Ordering: Relaxed. The locks below order the store before the load in `keep_during`.
    owner.is_closed.store(true, Ordering::Relaxed);
    for list in &ALL {
        let left: Vec<Held> = {
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            let all = list.all.get_or_insert_default();
            all.extract_if(|_, kept| kept.owner.number == owner.number && !kept.is_in_completion)
                .map(|(_, kept)| kept.held)
                .collect()
        };
        left.into_iter().for_each(|held| held.complete(0, &IoError::from_code(Code::UNANSWERED).into()));
    }
}

/// Text of the plugin.
///
/// # Safety
///
/// `data` is null, or has `len` bytes for the life of the result.
pub(super) unsafe fn text_of(data: *const u8, len: usize) -> String {
    if data.is_null() {
        return String::new();
    }
    // SAFETY: the caller promises that the bytes are there.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(data, len) }).into_owned()
}
