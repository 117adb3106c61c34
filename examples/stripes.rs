//! A middle layer: one device that spreads its bytes over several others, stripe by stripe. One of them fails.
//!
//! The layer uses the public traits only: it cuts a view where a stripe ends and hands the parts on. The bytes are not
//! copied on the way, each part is answered separately, and the requester gets one exact account.

use pactio::{Device, Host, OpenOptions};
use pactio_sdk::{
    BoundPacketView, DeviceInfo, IoRead, IoWrite, LocalDevice, PacketIo, PacketPerms, Read, Write,
};

struct Stripes<D> {
    devices: Vec<D>,
    /// Length of a stripe in bytes.
    stripe: u64,
}

impl<D> Stripes<D> {
    fn spread<P: PacketPerms>(&self, mut position: u64, mut view: BoundPacketView<P>)
    where
        D: PacketIo<P, u64>,
    {
        let count = self.devices.len() as u64;
        while !view.is_empty() {
            let (row, offset) = (position / self.stripe, position % self.stripe);
            let (part, rest) = view.split_at((self.stripe - offset) as usize);
            position += part.len() as u64;
            self.devices[(row % count) as usize].send_io(row / count * self.stripe + offset, part);
            view = rest;
        }
    }
}

impl<D> pactio_sdk::BackendDevice for Stripes<D>
where
    D: PacketIo<Write, u64> + PacketIo<Read, u64> + Send + Sync + 'static,
{
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.spread(position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.spread(position, view);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::builder().build()?;
    // The second device ends early, as a broken one does.
    let sizes = ["1MiB", "32KiB", "1MiB"];
    // All are opened at once.
    let options = OpenOptions::new().read(true);
    let openings = sizes.map(|size| host.opening(&format!("memory:?size={size}"), options));
    let devices: Vec<Device> =
        openings.into_iter().map(|opening| host.block_on(opening)).collect::<Result<_, _>>()?;
    let stripes = LocalDevice::new(Stripes { devices, stripe: 64 << 10 })?;

    host.block_on(async {
        let data: Vec<u8> = (0..300 << 10).map(|index| (index % 251) as u8).collect();
        let (report, data) = stripes.write_raw(0, data).await?;
        println!("written: {report}");
        let (report, read) = stripes.read_raw(0, vec![0; data.len()]).await?;
        println!("read:    {report}");
        assert!(report.done_ranges().all(|range| read[range.clone()] == data[range]));
        println!("what was read is what was written");
        Ok(())
    })
}
