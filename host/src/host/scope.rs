//! Many requests in flight over borrowed memory.

use std::fmt;

use pactio_sdk::Report;
use pactio_sdk::io::{self, Incomplete};

use crate::{Device, Error, Host};

impl Host {
    /// Calls `f` with a scope in which requests may use all memory that outlives the call, without a copy. The call returns, or
    /// unwinds, when all requests are complete, in the manner of [`std::thread::scope`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// # let device = host.open("memory:?size=64KiB")?;
    /// let (mut index, mut texture) = ([0; 16], [0; 64]);
    /// let entries = host.scope(|scope| {
    ///     let first = scope.read(&device, 0, &mut index);
    ///     scope.read(&device, 4096, &mut texture); // both are in flight
    ///     first.wait().map(|index| index[0]) // the rest is waited for at the end
    /// })?;
    /// # let _ = entries;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<'env, R>(&'env self, f: impl for<'scope> FnOnce(Scope<'scope, 'env>) -> R) -> R {
        pactio_sdk::scope(self, |scope| f(Scope(scope)))
    }
}

/// A scope in which requests over borrowed memory are made; see [`Host::scope`].
#[derive(Clone, Copy)]
pub struct Scope<'scope, 'env>(&'scope io::Scope<'scope, 'env, Host>);

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Reads into `buffer` at `position` of `device`. If the device is full, this waits until the device has room.
    pub fn read<'d>(
        self,
        device: &'d Device,
        position: u64,
        buffer: &'scope mut [u8],
    ) -> Scoped<'scope, 'env, 'd, &'scope mut [u8]> {
        Scoped { request: self.0.read(device, position, buffer), what: "read", device, position }
    }

    /// Writes `buffer` to `position` of `device`. If the device is full, this waits until the device has room.
    pub fn write<'d>(
        self,
        device: &'d Device,
        position: u64,
        buffer: &'scope [u8],
    ) -> Scoped<'scope, 'env, 'd, &'scope [u8]> {
        Scoped { request: self.0.write(device, position, buffer), what: "write", device, position }
    }
}

/// A request of a [scope](Host::scope). The caller need not wait for the request: the end of the scope waits for it.
pub struct Scoped<'scope, 'env, 'd, B> {
    request: io::Scoped<'scope, 'env, Host, B>,
    what: &'static str,
    device: &'d Device,
    position: u64,
}

impl<'scope> Scoped<'scope, '_, '_, &'scope mut [u8]> {
    /// Waits until all of the buffer was read, and gives the buffer back.
    ///
    /// # Errors
    ///
    /// If any byte could not be read.
    pub fn wait(self) -> Result<&'scope mut [u8], Error> {
        let (device, position) = (self.device, self.position);
        let (report, buffer) = self.wait_report()?;
        exactly(device, "read", position, report).map(|()| buffer)
    }

    /// Waits until the request is complete, and gives the account and the buffer.
    ///
    /// # Errors
    ///
    /// If the request could not be made.
    pub fn wait_report(self) -> Result<(Report, &'scope mut [u8]), Error> {
        let Self { request, what, device, position } = self;
        request.wait_report().map_err(|error| device.failed(what, position, Incomplete::NotStarted(error)))
    }
}

impl<'scope> Scoped<'scope, '_, '_, &'scope [u8]> {
    /// Waits until all of the buffer was written.
    ///
    /// # Errors
    ///
    /// If any byte could not be written.
    pub fn wait(self) -> Result<(), Error> {
        let (device, position) = (self.device, self.position);
        let report = self.wait_report()?;
        exactly(device, "write", position, report)
    }

    /// Waits until the request is complete, and gives the account.
    ///
    /// # Errors
    ///
    /// If the request could not be made.
    pub fn wait_report(self) -> Result<Report, Error> {
        let Self { request, what, device, position } = self;
        request.wait_report().map_err(|error| device.failed(what, position, Incomplete::NotStarted(error)))
    }
}

fn exactly(device: &Device, what: &str, position: u64, report: Report) -> Result<(), Error> {
    if report.is_done() { Ok(()) } else { Err(device.failed(what, position, Incomplete::Partly(report))) }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<B> fmt::Debug for Scoped<'_, '_, '_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x} of '{}'", self.what, self.position, self.device.url())
    }
}
