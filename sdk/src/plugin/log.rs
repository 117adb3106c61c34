//! Hands the records and spans of this library to its host.

use core::fmt::{self, Write};
use core::num::NonZeroU64;
use std::sync::Once;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, Field, Interest, Level, Metadata, Subscriber, field::Visit};

use crate::abi::{HostTable, RawRecord};
use crate::firewall;

/// Sends the records of this library to `host` from now on.
pub(crate) unsafe extern "C" fn attach(host: &'static HostTable) {
    // Two hosts of a process may load the library at once. Neither continues before the records have a destination.
    static ONCE: Once = Once::new();
    let _ = firewall::contain(|| {
        ONCE.call_once(|| {
            // A library that has a subscriber of its own keeps it.
            let _ = tracing_core::dispatcher::set_global_default(Dispatch::new(Forward { host }));
        });
    });
}

struct Forward {
    host: &'static HostTable,
}

fn number(level: &Level) -> u32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The fields of a record as text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail, but formatting a value might.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            let joint = if self.fields.is_empty() { "" } else { " " };
            write!(self.fields, "{joint}{}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.record_debug(field, &value);
        }
    }
}

impl Forward {
    /// Passes a record, or a span with its name as the message.
    fn pass<T>(&self, metadata: &Metadata<'_>, text: &Text, give: impl FnOnce(&RawRecord<'_>) -> T) -> T {
        give(&RawRecord {
            level: number(metadata.level()),
            line: metadata.line().unwrap_or(0),
            target: metadata.target().as_bytes().into(),
            file: metadata.file().unwrap_or("").as_bytes().into(),
            message: text.message.as_bytes().into(),
            fields: text.fields.as_bytes().into(),
        })
    }
}

// SAFETY of all calls: the table belongs to a host that provides it for the life of the process, and data is borrowed for the
// call only.
impl Subscriber for Forward {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The levels that the host wants may change at any time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // SAFETY: the host keeps the table and its object for the life of the process.
        unsafe { (self.host.enabled)(self.host.object, number(metadata.level())) != 0 }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text { message: span.metadata().name().to_owned(), ..Text::default() };
        span.record(&mut text);
        let parent = if span.is_root() { u64::MAX } else { span.parent().map_or(0, Id::into_u64) };
        let id = self.pass(span.metadata(), &text, |record| {
            // SAFETY: the host keeps the table and its object for the life of the process; the record is borrowed for the call.
            unsafe { (self.host.new_span)(self.host.object, record, parent) }
        });
        Id::from_non_zero_u64(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }

    /// Fields that are recorded after a span has begun are not sent to the host.
    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.pass(event.metadata(), &text, |record| {
            // SAFETY: the host keeps the table and its object for the life of the process; the record is borrowed for the call.
            unsafe { (self.host.event)(self.host.object, record) }
        });
    }

    fn enter(&self, span: &Id) {
        // SAFETY: the host keeps the table and its object for the life of the process.
        unsafe { (self.host.enter)(self.host.object, span.into_u64()) }
    }

    fn exit(&self, span: &Id) {
        // SAFETY: the host keeps the table and its object for the life of the process.
        unsafe { (self.host.exit)(self.host.object, span.into_u64()) }
    }

    fn clone_span(&self, id: &Id) -> Id {
        // SAFETY: the host keeps the table and its object for the life of the process.
        unsafe { (self.host.clone_span)(self.host.object, id.into_u64()) };
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        // SAFETY: the host keeps the table and its object for the life of the process.
        unsafe { (self.host.close)(self.host.object, id.into_u64()) != 0 }
    }
}
