//! `pactio sum`

use pactio::Host;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::failure::{Failure, to_stdout};
use super::progress::Progress;
use super::stream::Stream;
use super::{Flow, Range};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The devices.
    #[arg(required = true)]
    urls: Vec<String>,
    /// The digest.
    #[arg(short, long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    flow: Flow,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Algorithm {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn start(self) -> Box<dyn DynDigest> {
        match self {
            Self::Sha224 => Box::new(Sha224::default()),
            Self::Sha256 => Box::new(Sha256::default()),
            Self::Sha384 => Box::new(Sha384::default()),
            Self::Sha512 => Box::new(Sha512::default()),
        }
    }
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    for url in &arguments.urls {
        let device = host.open(url)?;
        let mut stream = Stream::new(host, device, arguments.range, arguments.flow);
        let progress = Progress::start("hashing", stream.expected());
        let mut digest = arguments.algorithm.start();
        host.block_on(async {
            while let Some(block) = stream.next().await? {
                digest.update(&block);
                progress.set(stream.done());
                stream.recycle(block);
            }
            Ok::<_, Failure>(())
        })?;
        progress.finish();
        stream.account()?;
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        to_stdout(format!("{hex}  {url}\n").as_bytes())?;
    }
    Ok(())
}
