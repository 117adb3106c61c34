//! Opening through the door.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use pactio_sdk::{Backend, IoError, OpenError};

use super::device::{CDevice, opened};
use super::lower::LowerObject;
use super::request::{attribute, complete, complete_part, is_cancelled, keep, text_of};
use super::{Host, Open, OptionValue, Text, size};

/// The purposes of opening that the header has: `PACTIO_OPEN_READ` to `PACTIO_OPEN_REPLACE`.
const KNOWN_MODES: u32 = 31;

/// The backend of a plugin.
pub(crate) struct CBackend {
    open: Open,
    plugin: Arc<str>,
    is_filter: bool,
}

impl CBackend {
    pub(crate) fn new(open: Open, plugin: &str, is_filter: bool) -> Self {
        Self { open, plugin: plugin.into(), is_filter }
    }
}

impl Backend for CBackend {
    type Device = CDevice;

    fn open(&self, request: &pactio_sdk::OpenRequest<'_>) -> Result<CDevice, OpenError> {
        if request.mode().bits() & !KNOWN_MODES != 0 {
            let text = "it was built for a header that does not know this purpose of opening";
            return Err(OpenError::new(IoError::UNSUPPORTED, text));
        }
        let lower = if self.is_filter { Some(LowerObject::new(request.lower()?)) } else { None };
        let options: Vec<OptionValue> = request
            .options()
            .iter()
            .map(|(name, value)| OptionValue { name: Text::of(name), value: Text::of(value) })
            .collect();
        let raw = super::OpenRequest {
            size: size::<super::OpenRequest>(),
            mode: request.mode().bits(),
            scheme: Text::of(request.scheme()),
            target: Text::of(request.target()),
            options: options.as_ptr(),
            option_count: options.len(),
            lower: lower.as_ref().map_or(std::ptr::null(), |lower| lower.table()),
        };
        opened(&self.plugin, lower, None, |out, error| {
            // SAFETY: the plugin is loaded for the life of the process; the request is borrowed for the call, and both results
            // are valid for a write.
            unsafe { (self.open)(&raw const raw, out, error) }
        })
    }
}

/// The table of the host for a plugin: one for the life of the process.
pub(crate) fn host_table(plugin: &str) -> &'static Host {
    static TABLES: Mutex<BTreeMap<String, &Host>> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    tables.entry(plugin.to_owned()).or_insert_with_key(|plugin| {
        let name: &'static String = Box::leak(Box::new(plugin.clone()));
        Box::leak(Box::new(Host {
            size: size::<Host>(),
            reserved: 0,
            object: std::ptr::from_ref(name).cast(),
            keep,
            complete,
            complete_part,
            is_cancelled,
            wake,
            log,
            attribute,
        }))
    })
}

unsafe extern "C" fn wake(waker: *const c_void) {
    // SAFETY: the header has the plugin pass the waker of a device that is open, or null.
    if let Some(waker) = unsafe { waker.cast::<Waker>().as_ref() } {
        waker.wake_by_ref();
    }
}

unsafe extern "C" fn log(object: *const c_void, level: u32, text: *const u8, len: usize) {
    // SAFETY: the header has the plugin pass the object of its table, which is the name of the plugin.
    let plugin = unsafe { object.cast::<String>().as_ref() }.map_or("", String::as_str);
    // SAFETY: the text is borrowed for the call.
    let text = unsafe { text_of(text, len) };
    match level {
        0 | 1 => tracing::error!(plugin, "{text}"),
        2 => tracing::warn!(plugin, "{text}"),
        3 => tracing::info!(plugin, "{text}"),
        4 => tracing::debug!(plugin, "{text}"),
        _ => tracing::trace!(plugin, "{text}"),
    }
}
