//! Runs tasks and device drivers.
//!
//! `runtime` has the threads, `driver` decides which thread polls a device's driver, `local` is the work of a blocked thread,
//! `queues` holds the views that its task leaves for that, `watchdog` notices calls that do not return.

mod driver;
pub(crate) mod local;
mod queues;
mod runtime;
mod watchdog;

pub(crate) use driver::{Drive, Driver, Helper};
pub(crate) use queues::Queues;
pub(crate) use runtime::{Runtime, block_on};
pub(crate) use watchdog::UnderWay;
