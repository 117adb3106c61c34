//! Runs tasks and device drivers.
//!
//! `runtime` has the threads, `driver` decides who polls a device's driver, `local` is what a blocked thread
//! drives by itself.

mod driver;
mod local;
mod runtime;

pub(crate) use driver::{Drive, Driver, Helper};
pub(crate) use local::Deferring;
pub(crate) use runtime::{Runtime, block_on};
