//! `pactio sum`

use pactio::{Host, Url};
use serde_json::json;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::failure::Failure;
use super::given::GivenUrl;
use super::output::{Form, Output, hex};
use super::progress::Progress;
use super::stream::Stream;
use super::{Flow, Range};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The devices.
    #[arg(required = true)]
    urls: Vec<GivenUrl>,
    /// The digest.
    #[arg(short, long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    form: Form,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Algorithm {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn start(self) -> Box<dyn DynDigest + Send> {
        match self {
            Self::Sha224 => Box::new(Sha224::default()),
            Self::Sha256 => Box::new(Sha256::default()),
            Self::Sha384 => Box::new(Sha384::default()),
            Self::Sha512 => Box::new(Sha512::default()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// A device that fails does not hide the others; the code is that of the last failure.
pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let (mut failed, mut output) = (None, Output::new(arguments.form));
    for url in &arguments.urls {
        match digest(host, url, arguments) {
            Ok(Sum { hex, url, device, bytes }) => {
                let json = || json!({ "url": device, "bytes": bytes, "algorithm": arguments.algorithm.name(), "digest": hex });
                output.line(|| line(&hex, url, &device), json)?;
                output.flush()?;
            }
            Err(failure) => failed = Some(failure.reported()),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The digest of one device.
struct Sum<'u> {
    hex: String,
    /// The argument, if all of its device was read.
    url: &'u str,
    /// The URL of the device, as it may be shown.
    device: String,
    bytes: u64,
}

fn digest<'u>(host: &Host, url: &'u GivenUrl, arguments: &Arguments) -> Result<Sum<'u>, Failure> {
    let device = url.open(host)?;
    let shown = device.url().to_owned();
    let mut stream = Stream::new(host, device, arguments.range, arguments.flow);
    let progress = Progress::start("hashing", stream.expected());
    let mut digest = arguments.algorithm.start();
    host.block_on(add(&mut stream, &mut *digest, &progress))?;
    progress.finish();
    stream.account()?;
    let hex = hex(&digest.finalize());
    let url = if arguments.range.is_whole() { url.secret_text() } else { "" };
    Ok(Sum { hex, url, device: shown, bytes: stream.done() })
}

/// Adds the rest of a stream to a digest.
pub(super) async fn add(
    stream: &mut Stream<'_>,
    digest: &mut (dyn DynDigest + Send),
    progress: &Progress,
) -> Result<(), Failure> {
    while let Some(block) = stream.next().await? {
        digest.update(&block);
        progress.set(stream.done());
        stream.recycle(block);
    }
    Ok(())
}

/// A line as `sha256sum` writes and checks it. A whole file of the system has its path; any other device, and
/// a part of a file (an empty `url`), its URL as it may be shown.
fn line(hex: &str, url: &str, shown: &str) -> String {
    let name = url
        .parse::<Url>()
        .ok()
        .filter(|url| url.scheme() == "file" && url.options().is_empty() && url.filters().is_empty())
        .map_or_else(|| shown.to_owned(), |url| url.target().to_owned());
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{hex}  {escaped}\n")
}
