//! Runs tasks and device drivers.
//!
//! `runtime` has the executor, `crew` its threads; `driver` and its `word` decide which thread polls a device's driver, `local` is the
//! work of a blocked thread, `queues` holds the views that its task leaves for that; `posts` records the call that each thread is in,
//! `watchdog` notices calls that do not return, `forks` processes without threads.

mod crew;
mod driver;
mod forks;
pub(crate) mod local;
mod posts;
mod queues;
mod runtime;
mod watchdog;
mod word;

pub(crate) use driver::{Drive, Driver, Helper};
pub(crate) use forks::Process;
pub(crate) use local::block_on;
pub(crate) use posts::{
    CALL, Call, Inside, current_device, is_known, is_of_plugin, may_close_here, must_not_wait,
};
pub(crate) use queues::Queues;
pub(crate) use runtime::Runtime;
