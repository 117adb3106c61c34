//! Turns the records and spans of plugins into those of the host.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pactio_sdk::abi::{HostTable, RawRecord};
use tracing::{Level, Span};

use crate::executor::current_url;

/// The destination of one plugin's records. It is made when the plugin's library is loaded, and lives as long as the process.
struct Sink {
    plugin: String,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    last: u64,
    /// The open spans by number, each with the number of its handles.
    alive: HashMap<u64, (Span, usize)>,
}

/// The table for a plugin. Each plugin has one table for the life of the process, also if several hosts load it.
pub(super) fn table(plugin: &str) -> &'static HostTable {
    static TABLES: Mutex<BTreeMap<String, &HostTable>> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = tables.get(plugin) {
        return table;
    }
    let table = make(plugin);
    tables.insert(plugin.to_owned(), table);
    table
}

fn make(plugin: &str) -> &'static HostTable {
    let sink: &'static Sink =
        Box::leak(Box::new(Sink { plugin: plugin.to_owned(), spans: Mutex::default() }));
    Box::leak(Box::new(HostTable {
        size: size_of::<HostTable>() as u32,
        object: std::ptr::from_ref(sink).cast(),
        enabled,
        event,
        new_span,
        enter,
        exit,
        clone_span,
        close,
    }))
}

impl Sink {
    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn span(&self, number: u64) -> Option<Span> {
        self.spans().alive.get(&number).map(|(span, _)| span.clone())
    }
}

/// The text of a record.
struct Record {
    target: String,
    message: String,
    fields: Option<String>,
    source: Option<String>,
}

impl From<&RawRecord<'_>> for Record {
    fn from(raw: &RawRecord<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            target: text(raw.target.as_slice()),
            message: text(raw.message.as_slice()),
            fields: some(text(raw.fields.as_slice())),
            source: some(text(raw.file.as_slice())).map(|file| format!("{file}:{}", raw.line)),
        }
    }
}

/// One branch per level, since `tracing` needs the level of a record as a constant.
macro_rules! at_level {
    ($number:expr, $level:ident => $what:expr) => {
        match $number {
            1 => {
                const $level: Level = Level::ERROR;
                $what
            }
            2 => {
                const $level: Level = Level::WARN;
                $what
            }
            3 => {
                const $level: Level = Level::INFO;
                $what
            }
            4 => {
                const $level: Level = Level::DEBUG;
                $what
            }
            _ => {
                const $level: Level = Level::TRACE;
                $what
            }
        }
    };
}

/// Calls `act` with the sink for a function of the table, and catches panics: a subscriber may panic, and the plugin's code
/// cannot handle that.
fn with<T: Default>(object: *const (), act: impl FnOnce(&'static Sink) -> T) -> T {
    // SAFETY: the object is the sink that `make` put into the table, and lives as long as the process.
    let sink: &'static Sink = unsafe { &*object.cast() };
    catch_unwind(AssertUnwindSafe(|| act(sink))).unwrap_or_default()
}

unsafe extern "C" fn enabled(object: *const (), level: u32) -> u32 {
    with(object, |_| at_level!(level, LEVEL => tracing::enabled!(target: "pactio::plugin", LEVEL)).into())
}

unsafe extern "C" fn event(object: *const (), record: &RawRecord<'_>) {
    with(object, |sink| {
        let Record { target, message, fields, source } = record.into();
        current_url(|device| {
            at_level!(record.level, LEVEL => tracing::event!(
                target: "pactio::plugin",
                LEVEL,
                plugin = sink.plugin.as_str(),
                device,
                target,
                source,
                fields,
                "{message}"
            ));
        });
    });
}

unsafe extern "C" fn new_span(object: *const (), record: &RawRecord<'_>, parent: u64) -> u64 {
    with(object, |sink| {
        let Record { target, message: name, fields, .. } = record.into();
        let parent = match parent {
            0 => Some(Span::current()),
            u64::MAX => None,
            number => sink.span(number),
        };
        let parent = parent.and_then(|parent| parent.id());
        let span = current_url(|device| {
            at_level!(record.level, LEVEL => tracing::span!(
                target: "pactio::plugin",
                parent: parent,
                LEVEL,
                "plugin",
                name,
                plugin = sink.plugin.as_str(),
                device,
                target,
                fields
            ))
        });
        let mut spans = sink.spans();
        spans.last += 1;
        // The numbers begin at 2: for a plugin, 1 stands for a span that could not be made.
        let number = spans.last + 1;
        spans.alive.insert(number, (span, 1));
        number
    })
}

unsafe extern "C" fn enter(object: *const (), span: u64) {
    with(object, |sink| {
        if let Some(span) = sink.span(span) {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
    });
}

unsafe extern "C" fn exit(object: *const (), span: u64) {
    with(object, |sink| {
        if let Some(span) = sink.span(span) {
            span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        }
    });
}

unsafe extern "C" fn clone_span(object: *const (), span: u64) {
    with(object, |sink| {
        if let Some((_, handles)) = sink.spans().alive.get_mut(&span) {
            *handles += 1;
        }
    });
}

unsafe extern "C" fn close(object: *const (), span: u64) -> u32 {
    with(object, |sink| {
        let mut spans = sink.spans();
        let Some((_, handles)) = spans.alive.get_mut(&span) else { return 0 };
        *handles -= 1;
        if *handles > 0 {
            return 0;
        }
        let ended = spans.alive.remove(&span);
        // Not under the lock: dropping the span calls the subscriber.
        drop(spans);
        drop(ended);
        1
    })
}
