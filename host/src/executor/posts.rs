//! Records the call of a plugin that each thread is in.
//!
//! A thread that enters a plugin writes into its own post; the [watchdog](super::watchdog) reads the posts of all threads. So a
//! call that does not return is noticed on every thread, and a call costs a few plain stores.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Call {
    Request,
    Driver,
    Info,
    Extension,
    Cancel,
    Admit,
    /// Opening or closing: it may take as long as the storage takes.
    Slow,
}

impl Call {
    /// The kinds by number. The last kind appears twice, so that each number of three bits is a kind.
    const ALL: [Self; CALL + 1] = [
        Self::Request,
        Self::Driver,
        Self::Info,
        Self::Extension,
        Self::Cancel,
        Self::Admit,
        Self::Slow,
        Self::Slow,
    ];

    fn of(raw: usize) -> Self {
        Self::ALL[raw]
    }

    /// The name for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Request => "a request",
            Self::Driver => "poll_driver",
            Self::Info => "info",
            Self::Extension => "an extension",
            Self::Cancel => "cancel",
            Self::Admit => "poll_admit",
            Self::Slow => "open or close",
        }
    }
}

/// The outermost and the innermost call that a thread is in. Only the thread itself writes.
///
/// Readers use the fields as hints, and never as pointers. Orderings: the thread stores a place and then, with Release, a count;
/// a reader loads the counts first, with Acquire. So a place is not older than its count.
#[derive(Default)]
pub(super) struct Post {
    /// Number of times that the thread has entered a plugin or come back to its own code: odd while it is inside.
    calls: AtomicU64,
    /// Number of times that it has entered or left any call, also inside of another one.
    steps: AtomicU64,
    /// The innermost device, or null, with the kind of the call in the lowest bits: one store for both.
    innermost: AtomicPtr<()>,
    /// The same for the outermost call.
    outermost: AtomicPtr<()>,
}

/// The bits of a place that are the kind of the call. Devices are aligned to more.
pub(crate) const CALL: usize = 7;

/// A device and a kind of call.
#[inline(always)]
fn place(device: *const (), call: Call) -> *mut () {
    device.cast_mut().map_addr(|address| address | call as usize)
}

/// The device of a place.
#[inline(always)]
fn device_of(place: *mut ()) -> *const () {
    place.cast_const().map_addr(|address| address & !CALL)
}

/// The calls of a thread, as seen from another thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// The number of the outermost call: a different number means a different call.
    pub(super) number: u64,
    /// The number of the last step: the same number means the same innermost call.
    pub(super) step: u64,
    pub(super) innermost: Place,
    pub(super) outermost: Place,
}

/// A call of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The address of the device; the device may be gone.
    pub(super) device: *const (),
    pub(super) call: Call,
}

impl Place {
    fn of(raw: *mut ()) -> Self {
        Self { device: device_of(raw), call: Call::of(raw.addr() & CALL) }
    }
}

impl Post {
    /// The calls that the thread is in, if it is in any.
    pub(super) fn look(&self) -> Option<Seen> {
        let number = self.calls.load(Ordering::Acquire);
        let step = self.steps.load(Ordering::Acquire);
        let [innermost, outermost] =
            [&self.innermost, &self.outermost].map(|place| Place::of(place.load(Ordering::Relaxed)));
        (number % 2 == 1).then_some(Seen { number, step, innermost, outermost })
    }

    /// Adds one to a count of this thread's own post.
    #[inline(always)]
    fn add_one(count: &AtomicU64) {
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

struct Thread {
    /// This thread's post; null until it is first needed.
    post: Cell<*const Post>,
    /// Number of nested calls.
    depth: Cell<u32>,
    /// The thread belongs to a host.
    is_of_host: Cell<bool>,
    /// The thread belongs to a plugin.
    is_of_plugin: Cell<bool>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread { post: Cell::new(ptr::null()), depth: Cell::new(0), is_of_host: Cell::new(false), is_of_plugin: Cell::new(false) }
    };
    /// Keeps the post while the thread lives.
    static OWN_POST: RefCell<Option<OwnPost>> = const { RefCell::new(None) };
}

/// The state of this thread.
#[inline(always)]
fn this_thread() -> &'static Thread {
    // SAFETY: the thread-local has no destructor, so it exists until the thread ends; the reference cannot leave the thread,
    // since `Thread` is not `Sync`.
    unsafe { &*THREAD.with(ptr::from_ref) }
}

/// Has this thread's post in [`POSTS`] until the thread ends.
struct OwnPost(Arc<Post>);

impl Drop for OwnPost {
    fn drop(&mut self) {
        lock().retain(|post| !Arc::ptr_eq(post, &self.0));
        if THREAD.with(|thread| thread.depth.get()) > 0 {
            // The plugin that the thread is in ends the process or the thread. The thread's `Inside` values still point to the
            // post, so its memory is leaked; the watchdog does not see the post any more.
            std::mem::forget(self.0.clone());
        } else {
            // If a value that is dropped later enters a plugin, the thread gets a new post.
            THREAD.with(|thread| thread.post.set(ptr::null()));
        }
    }
}

/// The posts of all threads of the process that have entered a plugin.
static POSTS: Mutex<Vec<Arc<Post>>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<Arc<Post>>> {
    POSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The posts of all threads.
pub(super) fn all() -> Vec<Arc<Post>> {
    lock().clone()
}

/// Makes the post of this thread and lists it, so that the watchdog finds it; `OWN_POST` removes it when the thread ends. Gives
/// its address.
#[cold]
fn register() -> *const Post {
    let post = Arc::new(Post::default());
    let address = Arc::as_ptr(&post);
    let kept = OWN_POST.try_with(|kept| _ = kept.borrow_mut().get_or_insert_with(|| OwnPost(post.clone())));
    match kept {
        Ok(()) => lock().push(post),
        // The thread is about to end, and nothing can remove the post later: it is leaked, and not listed.
        Err(_) => std::mem::forget(post),
    }
    THREAD.with(|thread| thread.post.set(address));
    address
}

/// The post of this thread.
pub(super) fn own() -> Arc<Post> {
    let post = THREAD.with(|thread| thread.post.get());
    if post.is_null() {
        register();
    }
    OWN_POST.with(|kept| kept.borrow().as_ref().map_or_else(Arc::default, |kept| kept.0.clone()))
}

/// Records that devices can be closed on this thread, because it belongs to no plugin.
pub(super) fn mark_thread_may_close() {
    drop(own());
}

/// This thread belongs to a host from now on.
pub(super) fn join_host() {
    THREAD.with(|thread| thread.is_of_host.set(true));
}

/// Whether this thread belongs to a host, or is inside a plugin: such a thread must not wait for another thread to end.
pub(crate) fn must_not_wait() -> bool {
    THREAD.with(|thread| thread.is_of_host.get() || thread.depth.get() > 0)
}

/// Called where a plugin calls the host. A thread that is in no call of the host was started by the plugin: this is recorded,
/// since no device is closed on such a thread (see [`may_close_here`]).
#[inline(always)]
pub(crate) fn note_call_from_plugin() {
    let thread = this_thread();
    if thread.depth.get() == 0 {
        thread.is_of_plugin.set(true);
    }
}

/// Whether a device can be closed on this thread: its plugin does not wait for the end of this thread, and no call of a plugin is
/// under way here.
pub(crate) fn may_close_here() -> bool {
    THREAD
        .with(|thread| !thread.post.get().is_null() && thread.depth.get() == 0 && !thread.is_of_plugin.get())
}

/// While this value lives, its thread is inside a plugin.
pub(crate) struct Inside {
    thread: &'static Thread,
    post: &'static Post,
    /// The call around this one.
    outer: *mut (),
    /// The value belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Inside {
    /// Enters a call of the device at this address.
    #[inline(always)]
    pub(crate) fn enter(device: *const (), call: Call) -> Self {
        let thread = this_thread();
        let post = thread.post.get();
        let post = if post.is_null() { register() } else { post };
        // SAFETY: the post lives as long as the thread, or for ever; values of this type end before the thread does, since they
        // are only made on its stack.
        let post = unsafe { &*post };
        let depth = thread.depth.get();
        thread.depth.set(depth + 1);
        // Each place is stored before its count. The watchdog reads the counts first, so no place is older than its count.
        let (outer, place) = (post.innermost.load(Ordering::Relaxed), place(device, call));
        post.innermost.store(place, Ordering::Relaxed);
        Post::add_one(&post.steps);
        if depth == 0 {
            post.outermost.store(place, Ordering::Relaxed);
            // The count of calls becomes odd: the thread is inside a plugin.
            Post::add_one(&post.calls);
        }
        Self { thread, post, outer, _thread: PhantomData }
    }
}

impl Drop for Inside {
    #[inline(always)]
    fn drop(&mut self) {
        let Self { thread, post, outer, .. } = *self;
        let depth = thread.depth.get() - 1;
        thread.depth.set(depth);
        // The place before the count, as in `enter`.
        post.innermost.store(outer, Ordering::Relaxed);
        Post::add_one(&post.steps);
        // The count of calls becomes even: the thread has left its outermost call.
        if depth == 0 {
            Post::add_one(&post.calls);
        }
    }
}

/// Gives the URL of the device at an address.
type UrlOf = unsafe fn(*const ()) -> *const str;

static URL_OF: OnceLock<UrlOf> = OnceLock::new();

/// Sets the function that gives the URL of a device.
///
/// # Safety
///
/// The function is valid for the address of each device that a thread [enters](Inside::enter), as long as the thread is inside.
pub(crate) unsafe fn set_url_of(url_of: UrlOf) {
    let _ = URL_OF.set(url_of);
}

/// Gives the URL of the device that this thread is in a call of, if any.
pub(crate) fn current_url<T>(give: impl FnOnce(Option<&str>) -> T) -> T {
    let device = current_device();
    match URL_OF.get() {
        // SAFETY: the caller of `set_url_of` promises that the function is valid for this address; this thread is inside of the
        // device until `give` has returned.
        Some(url_of) if !device.is_null() => give(Some(unsafe { &*url_of(device) })),
        _ => give(None),
    }
}

/// The address of the device that this thread is in a call of; null if it is in none.
pub(crate) fn current_device() -> *const () {
    let post = THREAD.with(|thread| thread.post.get());
    if post.is_null() {
        return ptr::null();
    }
    // SAFETY: the post lives as long as the thread, or for ever.
    device_of(unsafe { &*post }.innermost.load(Ordering::Relaxed))
}
