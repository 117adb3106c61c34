//! `pactio maps`

use pactio::Host;

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: String,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = host.open(&arguments.url)?;
    let mut text = String::new();
    for region in host.block_on(device.regions())? {
        let (start, end) = (region.range.start, region.range.end);
        let rights = [(region.readable, 'r'), (region.writable, 'w'), (region.executable, 'x')];
        let rights: String = rights.iter().map(|(has, letter)| if *has { *letter } else { '-' }).collect();
        let line = format!("{start:#014x}-{end:#014x} {rights} {:>12} {}", end - start, region.name);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    to_stdout(text.as_bytes())
}
