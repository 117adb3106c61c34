//! Runs tasks and device drivers.
//!
//! `runtime` has the threads, `driver` decides who polls a device's driver, `local` is what a blocked thread
//! does by itself, `queues` what its task leaves for that, `watchdog` notices who does not come back.

mod driver;
pub(crate) mod local;
mod queues;
mod runtime;
mod watchdog;

pub(crate) use driver::{Drive, Driver, Helper};
pub(crate) use queues::Queues;
pub(crate) use runtime::{Runtime, block_on};
pub(crate) use watchdog::UnderWay;
