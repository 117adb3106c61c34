//! Runs tasks and device drivers.
//!
//! `runtime` has the threads, `driver` decides who polls a device's driver, `local` is what a blocked thread
//! does by itself, `queues` what its task leaves for that.

mod driver;
pub(crate) mod local;
mod queues;
mod runtime;

pub(crate) use driver::{Drive, Driver, Helper};
pub(crate) use queues::Queues;
pub(crate) use runtime::{Runtime, block_on};
