//! Runs tasks and device drivers.
//!
//! `runtime` has the executor, `crew` its threads; `driver` and its `driver_word` decide which thread polls a device's driver,
//! `local` is the work of a blocked thread, `deferred` holds the requests that travel together; `posts` records the call that
//! each thread is in, `watchdog` notices calls that do not return, `forks` detects forked processes, which have no threads;
//! `slow_calls` open and close devices for callers with a limit.

mod crew;
mod deferred;
mod driver;
mod driver_word;
mod forks;
pub(crate) mod local;
mod posts;
mod runtime;
pub(crate) mod slow_calls;
mod watchdog;

pub(crate) use deferred::{Deferrable, Views};
pub(crate) use driver::{Drive, Driver, Helper};
pub(crate) use forks::Process;
pub(crate) use local::{block_on, together};
pub(crate) use posts::{
    CALL, Call, Inside, current_url, may_close_here, must_not_wait, note_call_from_plugin, set_url_of,
};
pub(crate) use runtime::Runtime;
