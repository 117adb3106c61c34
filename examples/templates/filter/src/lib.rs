//! A filter: shows the device below with each byte changed, `file:/data | xor?value=255`.

use pactio_sdk::{
    AlignedBytes, Backend, Capability, DerivedPacket, Filter, IoError, Lower, OpenError, OpenRequest,
    OptionSpec, PacketIo, Read, ReadView, ReboundPacket, Write, WriteView,
};

/// Opens devices over others.
struct Xor;

impl Backend for Xor {
    type Device = Changed;

    fn open(&self, request: &OpenRequest<'_>) -> Result<Changed, OpenError> {
        let value = request.parsed_option::<u8>("value", "0 to 255")?.unwrap_or(0);
        Ok(Changed::over(request.lower()?, value))
    }
}

/// A device over another one.
struct Changed {
    lower: Lower,
    value: u8,
}

impl Filter for Changed {
    // All other capabilities are unsupported: exchanges, streams, and methods that later versions add. Without PUBLISH, the
    // filter could not be opened for writing on a device that publishes, such as a file that is replaced.
    const FORWARDS: &'static [Capability] = &[
        Capability::STAT,
        Capability::MAP,
        Capability::LIMITS,
        Capability::FLUSH,
        Capability::PUBLISH,
        Capability::RESIZE,
        // Not ZERO: the zeros of the device below are other bytes here.
        Capability::CANCELLATION,
        Capability::ADMISSION,
    ];

    fn lower(&self) -> &Lower {
        &self.lower
    }

    fn read(&self, position: u64, view: ReadView) {
        // An error here means that the view has failed already.
        let _ = if view.has_bytes() {
            self.read_in_place(position, view)
        } else {
            self.read_copied(position, view)
        };
    }

    fn write(&self, position: u64, view: WriteView) {
        let _ = self.write_copied(position, view);
    }
}

impl Changed {
    /// `open` without the request, so that tests can call it.
    fn over(lower: Lower, value: u8) -> Self {
        Self { lower, value }
    }

    /// Takes the view over: the device below gets the requester's memory, and each part comes back here first.
    fn read_in_place(&self, position: u64, view: ReadView) -> Result<(), IoError> {
        let value = self.value;
        let fresh = ReboundPacket::new(view)?.bind_each(move |mut part| {
            part.bytes_mut().into_iter().for_each(|bytes| change(bytes, value));
            part.complete();
        })?;
        self.lower.send_io(position, fresh);
        Ok(())
    }

    /// For a request whose bytes are not in memory: reads into a buffer, and answers from there.
    fn read_copied(&self, position: u64, view: ReadView) -> Result<(), IoError> {
        let value = self.value;
        let memory = match self.memory(view.len()) {
            Ok(memory) => memory,
            Err(error) => {
                view.error(error);
                return Err(error);
            }
        };
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

    /// The requester's bytes stay as they are: the device below gets a changed copy.
    fn write_copied(&self, position: u64, view: WriteView) -> Result<(), IoError> {
        let copied = self.memory(view.len()).and_then(|mut bytes| view.copy_to(&mut bytes).map(|()| bytes));
        let mut bytes = match copied {
            Ok(bytes) => bytes,
            Err(error) => {
                view.error(error);
                return Err(error);
            }
        };
        change(&mut bytes, self.value);
        let mut copy = DerivedPacket::<_, Read, Read>::new(view, bytes)?;
        let fresh = copy.bind()?;
        copy.on_complete(|copy| {
            let Ok((view, _, report)) = copy.into_parts() else { return };
            report.answer_write(0, view);
        });
        self.lower.send_io(position, fresh);
        Ok(())
    }

    /// Memory with the alignment that the device below needs to use it without a copy.
    fn memory(&self, len: usize) -> Result<AlignedBytes, IoError> {
        AlignedBytes::zeroed(len, self.lower.limits().memory_alignment() as usize)
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

/// Tests without a host: `Lower::of` puts a device of the test below the filter. Its driver is not polled.
#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pactio_sdk::{BackendDevice, BlockOn, DeviceInfo, IoRead, IoWrite, LocalDevice};

    use super::*;

    /// Bytes that are read and written at once.
    struct Bytes(Mutex<Vec<u8>>);

    impl BackendDevice for Bytes {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::with_size(self.0.lock().unwrap().len() as u64)
        }

        fn read(&self, position: u64, view: ReadView) {
            let bytes = self.0.lock().unwrap();
            view.transfer_data(bytes.get(position as usize..).unwrap_or(&[])).complete();
        }

        fn write(&self, position: u64, view: WriteView) {
            let mut bytes = self.0.lock().unwrap();
            view.transfer_data(bytes.get_mut(position as usize..).unwrap_or(&mut [])).complete();
        }
    }

    #[test]
    fn bytes_are_changed_on_both_ways_and_the_end_stays() -> Result<(), IoError> {
        let lower = Lower::of(Bytes(Mutex::new(b"abc".to_vec())))?;
        let device = LocalDevice::new(Changed::over(lower.clone(), 0x20))?;
        device.block_on(async {
            let (report, bytes) = device.read_raw(1, vec![0; 5]).await?;
            assert_eq!((report.error_clamp(), &bytes[..2]), (2, &b"BC"[..]));
            device.write_all(0, b"X").await?;
            assert_eq!(lower.read_all(0, vec![0; 3]).await?, b"xbc");
            let (report, _) = device.write_raw(2, b"YZ".to_vec()).await?;
            assert_eq!(report.min_error(), Some((1, IoError::END)));
            Ok::<_, IoError>(())
        })
    }
}
