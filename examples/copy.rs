//! Copies a file through two plugins that are loaded from their shared libraries.
//!
//! `file:` → `memory:` → `file:`, with many requests in flight, and the digest at the end. Without an argument, the program
//! copies its own file.

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pactio::{Device, Host, OpenOptions, Url};
use sha2::{Digest, Sha256};

const BLOCK: u64 = 256 << 10;
const IN_FLIGHT: usize = 16;

/// The reason why the copy ended early. It may come from another thread.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let source: PathBuf =
        std::env::args_os().nth(1).map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("copy");

    let host = Host::builder().build()?;
    let from = host.open_url(&file(&source)?, OpenOptions::new().read(true))?;
    let size = from.size().ok_or("the source has no size")?;
    let memory = Url::new("memory", "")?.with_option("size", &size.to_string());
    let memory = host.open_url(&memory, OpenOptions::new().read(true).write(true))?;
    let to = host.open_url(&file(&target)?, OpenOptions::new().read(true).write(true).create(true))?;

    for plugin in host.plugins().iter().filter(|plugin| plugin.is_loaded()) {
        println!("loaded {:<7} from {}", plugin.manifest().id, plugin.place());
    }

    copy(&host, &from, &memory, size)?;
    copy(&host, &memory, &to, size)?;

    let (expected, copied) = (digest(&source)?, digest(&target)?);
    println!("sha256 {expected} {}", source.display());
    println!("sha256 {copied} {}", target.display());
    if expected != copied {
        return Err("the digests differ".into());
    }
    println!("the copy is the same");
    Ok(())
}

fn file(path: &Path) -> Result<Url, Failure> {
    Ok(Url::new("file", path.to_str().ok_or("the path is not UTF-8")?)?)
}

/// Copies all blocks, several at once.
fn copy(host: &Host, from: &Device, to: &Device, size: u64) -> Result<(), Failure> {
    let shared = Arc::new(Shared::default());
    let bar = progress_bar(size);
    let begin = Instant::now();
    let lanes: Vec<_> = (0..IN_FLIGHT)
        .map(|_| host.spawn(lane(shared.clone(), from.clone(), to.clone(), size, bar.clone())))
        .collect();
    host.block_on(async {
        for lane in lanes {
            lane.await?;
        }
        Ok::<_, Failure>(())
    })?;
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "copied {size} bytes from '{}' to '{}' in {} packets ({} segments), {:.0} MiB/s",
        from.plugin().manifest().id,
        to.plugin().manifest().id,
        shared.packets.load(Ordering::Relaxed),
        shared.segments.load(Ordering::Relaxed),
        size as f64 / seconds / f64::from(1 << 20)
    );
    Ok(())
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    packets: AtomicU64,
    segments: AtomicU64,
}

async fn lane(
    shared: Arc<Shared>,
    from: Device,
    to: Device,
    size: u64,
    bar: ProgressBar,
) -> Result<(), Failure> {
    let mut buffer = Vec::new();
    loop {
        let position = shared.next.fetch_add(BLOCK, Ordering::Relaxed);
        if position >= size {
            return Ok(());
        }
        // The buffer goes with each request and comes back: the host itself copies nothing.
        buffer.resize(BLOCK.min(size - position) as usize, 0);
        let (read, filled) = from.read_at(position, buffer).await?;
        let (written, emptied) = to.write_at(position, filled).await?;
        if !read.is_done() || !written.is_done() {
            return Err(format!("at {position}: read {read}; wrote {written}").into());
        }
        shared.packets.fetch_add(2, Ordering::Relaxed);
        shared.segments.fetch_add((read.segments() + written.segments()) as u64, Ordering::Relaxed);
        bar.inc(read.done() as u64);
        buffer = emptied;
    }
}

fn progress_bar(size: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(size), target);
    match ProgressStyle::with_template(
        "[{bar:30}] {bytes} of {total_bytes} at {binary_bytes_per_sec}, {eta} left",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The digest of a file, read without pactio.
fn digest(path: &Path) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut Hasher(&mut digest))?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Hasher<'a>(&'a mut Sha256);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
