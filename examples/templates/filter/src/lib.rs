//! A filter: shows the device below with each byte changed, `file:/data | xor?value=255`. Devices are read-only.

use pactio_sdk::{
    Backend, Capability, DerivedPacket, DeviceInfo, Filter, IoError, Lower, OpenError, OpenRequest,
    OptionSpec, PacketIo, ReadView, ReboundPacket, Write,
};

/// Opens devices over others.
struct Xor;

impl Backend for Xor {
    type Device = Changed;

    fn open(&self, request: &OpenRequest<'_>) -> Result<Changed, OpenError> {
        let value = request.parsed_option::<u8>("value", "0 to 255")?.unwrap_or(0);
        Ok(Changed { lower: request.lower()?, value })
    }
}

/// A device over another one.
struct Changed {
    lower: Lower,
    value: u8,
}

impl Filter for Changed {
    // Nothing else passes: writes, exchanges and methods that later versions add are unsupported.
    const FORWARDS: &'static [Capability] = &[Capability::STAT, Capability::CANCELLATION];

    fn lower(&self) -> &Lower {
        &self.lower
    }

    fn info(&self, lower: DeviceInfo) -> DeviceInfo {
        lower.read_only()
    }

    fn read(&self, position: u64, view: ReadView) {
        // Where memory fails, the view has failed already.
        let _ = if view.has_bytes() { self.in_place(position, view) } else { self.copied(position, view) };
    }
}

impl Changed {
    /// Takes the view over: the device below gets the requester's memory, and each part comes back here first.
    fn in_place(&self, position: u64, view: ReadView) -> Result<(), IoError> {
        let value = self.value;
        let fresh = ReboundPacket::new(view)?.bind_each(move |mut part| {
            part.bytes_mut().into_iter().for_each(|bytes| change(bytes, value));
            part.complete();
        })?;
        self.lower.send_io(position, fresh);
        Ok(())
    }

    /// For a request whose bytes are not in memory: reads into a buffer, and answers from there.
    fn copied(&self, position: u64, view: ReadView) -> Result<(), IoError> {
        let (value, memory) = (self.value, vec![0; view.len()]);
        let mut copy = DerivedPacket::<_, Write, Write>::new(view, memory)?;
        let fresh = copy.bind()?;
        copy.on_complete(move |copy| {
            let Ok((view, mut bytes, report)) = copy.into_parts() else { return };
            change(&mut bytes, value);
            report.answer(&bytes, 0, view);
        });
        self.lower.send_io(position, fresh);
        Ok(())
    }
}

fn change(bytes: &mut [u8], value: u8) {
    bytes.iter_mut().for_each(|byte| *byte ^= value);
}

pactio_sdk::export_plugin! {
    id: "template-filter",
    description: "changes each byte",
    schemes: ["xor"],
    options: [OptionSpec::integer("value", "each byte is combined with this one").range("0", "255").default("255")],
    filter: Xor,
}

/// Tests without a host: `Lower::of` is a device of the test below the filter.
#[cfg(test)]
mod tests {
    use pactio_sdk::{BackendDevice, BlockOn, IoError, IoRead, LocalDevice};

    use super::*;

    struct Text(&'static [u8]);

    impl BackendDevice for Text {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::with_size(self.0.len() as u64)
        }

        fn read(&self, position: u64, view: ReadView) {
            let start = usize::try_from(position).unwrap_or(usize::MAX);
            view.transfer_data(self.0.get(start..).unwrap_or(&[])).complete();
        }
    }

    #[test]
    fn bytes_are_changed_and_the_end_stays() -> Result<(), IoError> {
        let device = LocalDevice::new(Changed { lower: Lower::of(Text(b"abc"))?, value: 0x20 })?;
        let (report, bytes) = device.block_on(device.read_raw(1, vec![0; 5]))?;
        assert_eq!((report.done(), &bytes[..2]), (2, &b"BC"[..]));
        assert!(!device.info().writable());
        Ok(())
    }
}
