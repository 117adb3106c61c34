//! A filter that shows a part of a device as a whole device, so that the cases check only that part: `URL | window?offset=...`.

use pactio_sdk::{
    Backend, BackendDevice, BoundPacketView, Capability, DeviceInfo, ExtensionQuery, IoError, Lower,
    OpenError, OpenRequest, OptionSpec, PacketIo, PacketPerms, Read, ReadWrite, Write,
};

/// The scheme of the filter.
pub(super) const SCHEME: &str = "window";

struct Windows;

struct Window {
    below: Lower,
    start: u64,
    len: u64,
}

impl Backend for Windows {
    type Device = Window;

    fn open(&self, request: &OpenRequest<'_>) -> Result<Window, OpenError> {
        let below = request.lower()?;
        let start = request.size_option("offset")?.unwrap_or(0);
        let rest = below.info().size().map_or(u64::MAX - start, |size| size.saturating_sub(start));
        let len = request.size_option("length")?.unwrap_or(rest).min(rest);
        Ok(Window { below, start, len })
    }
}

impl Window {
    fn send<Perms: PacketPerms>(&self, position: u64, view: BoundPacketView<Perms>)
    where
        Lower: PacketIo<Perms, u64>,
    {
        let room = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        if view.len() <= room {
            return self.below.send_io(self.start + position, view);
        }
        if room == 0 {
            return view.error(IoError::END);
        }
        let (front, behind) = view.split_at(room);
        self.below.send_io(self.start + position, front);
        behind.error(IoError::END);
    }
}

impl BackendDevice for Window {
    fn info(&self) -> DeviceInfo {
        let (info, below) = (DeviceInfo::with_size(self.len), self.below.info());
        let info = if below.writable() { info } else { info.read_only() };
        if below.readable() { info } else { info.write_only() }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.send(position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.send(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.send(position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        // Views keep their request and their length, so these extensions of the device below fit.
        let same = [Capability::CANCELLATION, Capability::ADMISSION, Capability::LIMITS, Capability::FLUSH];
        if same.contains(&query.capability()) {
            self.below.extensions(query);
        }
    }
}

pactio_sdk::plugin! {
    id: "pactio-check-window",
    description: "a part of a device, for the conformance suite",
    schemes: ["window"],
    options: [
        OptionSpec::size("offset", "the position in the device that is position 0").default("0"),
        OptionSpec::size("length", "the length of the part [default: to the end of the device]"),
    ],
    filter: Windows,
}
