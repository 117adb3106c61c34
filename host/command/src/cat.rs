//! `pactio cat`

use std::io::Write;

use pactio::{Device, Host};

use super::failure::{Failure, output_failed};
use super::given::GivenUrl;
use super::pieces::AroundHoles;
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
    #[command(flatten)]
    around: AroundHoles,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    if arguments.around.is_set() {
        return around_holes(host, device, arguments);
    }
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

/// Writes all bytes that can be read, and zeros for the others or nothing.
fn around_holes(host: &Host, device: Device, arguments: &Arguments) -> Result<(), Failure> {
    let mut pieces = arguments.around.pieces(host, device, arguments.range, arguments.flow)?;
    let mut output = standard::output().map_err(|error| output_failed(&error, None))?;
    host.block_on(async {
        while let Some(piece) = pieces.next().await? {
            for part in &piece.done {
                output.write_all(&piece.bytes[part.clone()]).map_err(|error| output_failed(&error, None))?;
            }
            pieces.recycle(piece);
        }
        pieces.account()
    })
}
