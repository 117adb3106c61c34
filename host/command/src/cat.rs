//! `pactio cat`

use std::io::Write;

use pactio::Host;

use super::failure::{Failure, output_failed};
use super::given::GivenUrl;
use super::stream::Stream;
use super::{Flow, Range, standard};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: GivenUrl,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    flow: Flow,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    let mut stream = Stream::new(host, device, arguments.range, arguments.flow);
    let mut output = standard::output().map_err(|error| output_failed(&error, None))?;
    host.block_on(async {
        let mut written = 0;
        while let Some(block) = stream.next().await? {
            output.write_all(&block).map_err(|error| output_failed(&error, Some(written)))?;
            written += block.len() as u64;
            stream.recycle(block);
        }
        stream.account()
    })
}
