//! The smallest host: reads its own source file through the file plugin.

use pactio::{Error, Host};

fn main() -> Result<(), Error> {
    let host = Host::builder().build()?;
    let device = host.open(concat!("file:", env!("CARGO_MANIFEST_DIR"), "/hello.rs"))?;
    host.block_on(async {
        let magic: [u8; 3] = device.read(0).await?; // one plain value
        let (report, rest) = device.read_at(3, vec![0; 4096]).await?; // as many as exist, and an account
        print!(
            "{}{}",
            String::from_utf8_lossy(&magic),
            String::from_utf8_lossy(&rest[..report.error_clamp()])
        );
        println!("// {report}");
        Ok(())
    })
}
