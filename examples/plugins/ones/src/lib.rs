//! Devices that are full of one byte: `ones:255`.

use pactio_sdk::{Backend, BackendDevice, BoundPacketView, DeviceInfo, OpenError, OpenRequest, Write};

struct Ones;
struct Constant(u8);

impl Backend for Ones {
    type Device = Constant;

    fn open(&self, request: &OpenRequest<'_>) -> Result<Constant, OpenError> {
        let byte = request.target().parse();
        byte.map(Constant).map_err(|_| OpenError::invalid_input("the target must be a byte, as in ones:255"))
    }
}

impl BackendDevice for Constant {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless().read_only()
    }

    fn read(&self, _position: u64, view: BoundPacketView<Write>) {
        let bytes = vec![self.0; view.len()];
        view.transfer_data(&bytes).complete();
    }
}

pactio_sdk::export_plugin! {
    id: "ones",
    description: "devices full of one byte",
    schemes: ["ones"],
    backend: Ones,
}
