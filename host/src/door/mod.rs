//! The door for plugins in other languages than Rust: the structs of `pactio/plugin.h`, and the objects of the host that stand
//! for a plugin's.
//!
//! ```text
//!  Rust plugin ── PACTIO_PLUGIN: objects of cglue ─────────────────────┐
//!                                                                       ├─► BackendObj, DeviceObj ──► the host
//!  C plugin ── pactio_plugin_v1: tables ──► CBackend, CDevice (here) ──┘
//! ```
//!
//! | file | has |
//! |------|-----|
//! | `mod.rs` | the structs of the header |
//! | `backend.rs` | opening |
//! | `device.rs` | a device of a plugin |
//! | `request.rs` | a request in the form of the header; kept requests |
//! | `lower.rs` | the device below a filter, as a table for the plugin |

mod backend;
mod device;
mod lower;
mod request;

use std::ffi::{c_char, c_void};

pub(crate) use backend::{CBackend, host_table};
pub(crate) use request::error_of;

/// Name of the exported variable, a [`Plugin`].
pub(crate) const SYMBOL: &str = "pactio_plugin_v1";

/// The first eight bytes of the variable.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"pactioC\x01");

/// See `pactio_plugin`. The pointers are those of another language: any of them may be null.
#[repr(C)]
pub(crate) struct Plugin {
    pub(crate) magic: u64,
    pub(crate) size: u32,
    pub(crate) abi_major: u16,
    pub(crate) abi_minor: u16,
    pub(crate) manifest: *const u8,
    pub(crate) manifest_len: usize,
    pub(crate) init: Option<unsafe extern "C" fn(*const Host) -> u32>,
    pub(crate) open: Option<Open>,
}

pub(crate) type Open = unsafe extern "C" fn(*const OpenRequest, *mut Device, *mut OpenError) -> u32;

/// See `pactio_answer`.
type Answer = i64;

/// See `PACTIO_KEPT`.
const KEPT: Answer = i64::MIN;

/// See `pactio_request`.
#[repr(C)]
struct Request {
    size: u32,
    reserved: u32,
    position: u64,
    data: *mut u8,
    len: usize,
    id: u64,
}

/// See `pactio_host`.
#[repr(C)]
pub(crate) struct Host {
    size: u32,
    reserved: u32,
    object: *const c_void,
    keep: unsafe extern "C" fn(*const Request) -> u64,
    complete: extern "C" fn(u64, Answer),
    complete_part: unsafe extern "C" fn(u64, usize, u32, *const u8, usize),
    is_cancelled: extern "C" fn(u64) -> u32,
    wake: unsafe extern "C" fn(*const c_void),
    log: unsafe extern "C" fn(*const c_void, u32, *const u8, usize),
    attribute: extern "C" fn(u64, u32) -> i64,
}

// SAFETY: the table is never changed, and its functions may be called on any thread.
unsafe impl Send for Host {}
// SAFETY: the table is never changed, and its functions may be called on any thread.
unsafe impl Sync for Host {}

/// See `pactio_info`.
#[repr(C)]
struct Info {
    size: u32,
    flags: u32,
    device_size: u64,
}

const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
const STREAM: u32 = 4;

/// See `pactio_limits`.
#[repr(C)]
struct Limits {
    size: u32,
    alignment: u32,
    memory_alignment: u32,
    in_flight: u32,
    largest: u64,
}

/// See `pactio_polling`.
#[repr(C)]
struct Polling {
    size: u32,
    kind: u32,
    descriptor: i32,
    interest: u32,
}

/// See `pactio_error`.
#[repr(C)]
pub(crate) struct OpenError {
    size: u32,
    code: u32,
    text: [u8; 1016],
}

/// See `pactio_device_ops`. The fields behind the size that the plugin gives are `None`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ops {
    size: u32,
    reserved: u32,
    close: Option<unsafe extern "C" fn(*mut c_void)>,
    info: Option<unsafe extern "C" fn(*mut c_void, *mut Info)>,
    read: Option<Transfer>,
    write: Option<Transfer>,
    read_next: Option<Transfer>,
    write_next: Option<Transfer>,
    cancel: Option<unsafe extern "C" fn(*mut c_void, u64)>,
    limits: Option<unsafe extern "C" fn(*mut c_void, *mut Limits)>,
    polling: Option<unsafe extern "C" fn(*mut c_void, *mut Polling)>,
    poll: Option<unsafe extern "C" fn(*mut c_void, *const c_void) -> u32>,
    supports: Option<unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> u32>,
    operate: Option<Operate>,
    open_name:
        Option<unsafe extern "C" fn(*mut c_void, *const u8, usize, u32, *mut Device, *mut OpenError) -> u32>,
    read_now: Option<unsafe extern "C" fn(*mut c_void, u64, *mut u8, usize) -> u32>,
}

type Transfer = unsafe extern "C" fn(*mut c_void, *const Request) -> Answer;

type Operate =
    unsafe extern "C" fn(*mut c_void, *const c_char, usize, u64, *const u8, usize, *const Request) -> Answer;

/// See `pactio_device`.
#[repr(C)]
pub(crate) struct Device {
    this: *mut c_void,
    ops: *const Ops,
}

/// See `pactio_text`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Text {
    data: *const u8,
    len: usize,
}

impl Text {
    fn of(text: &str) -> Self {
        Self { data: text.as_ptr(), len: text.len() }
    }
}

/// See `pactio_option`.
#[repr(C)]
struct OptionValue {
    name: Text,
    value: Text,
}

/// See `pactio_open`.
#[repr(C)]
pub(crate) struct OpenRequest {
    size: u32,
    mode: u32,
    scheme: Text,
    target: Text,
    options: *const OptionValue,
    option_count: usize,
    lower: *const lower::Table,
}

/// The size of a struct, which is its first field.
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Sizes and offsets as the header has them, for the test that compares them with those of a C compiler.
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    macro_rules! layout {
        ($($name:literal $type:ty { $($field:ident $(as $c:ident)?),* })*) => {
            vec![$(
                (concat!("sizeof(", $name, ")"), size_of::<$type>()),
                $((layout!(@ $name $field $($c)?), offset_of!($type, $field)),)*
            )*]
        };
        (@ $name:literal $field:ident) => { concat!("offsetof(", $name, ", ", stringify!($field), ")") };
        (@ $name:literal $field:ident $c:ident) => { concat!("offsetof(", $name, ", ", stringify!($c), ")") };
    }
    layout! {
        "pactio_plugin" Plugin { magic, size, abi_major, abi_minor, manifest, manifest_len, init, open }
        "pactio_request" Request { size, reserved, position, data, len, id }
        "pactio_host" Host { size, reserved, object, keep, complete, complete_part, is_cancelled, wake, log, attribute }
        "pactio_info" Info { size, flags, device_size }
        "pactio_limits" Limits { size, alignment, memory_alignment, in_flight, largest }
        "pactio_polling" Polling { size, kind, descriptor, interest }
        "pactio_error" OpenError { size, code, text }
        "pactio_device_ops" Ops {
            size, reserved, close, info, read, write, read_next, write_next, cancel, limits, polling, poll, supports, operate, open_name, read_now
        }
        "pactio_device" Device { this as self, ops }
        "pactio_text" Text { data, len }
        "pactio_option" OptionValue { name, value }
        "pactio_open" OpenRequest { size, mode, scheme, target, options, option_count, lower }
        "pactio_lower" lower::Table { size, reserved, info, forward, start, supports, operate, cancel }
    }
}
