//! Plays 60 frames a second while 10,000 requests for files in an archive are queued, and shows the cost for the frames:
//!
//! ```text
//! cargo run --release --bin frames -- [ARCHIVE] [SECONDS]
//! ```
//!
//! Without an archive, the program makes one of 10,000 files, two thirds of them compressed. Each frame works for 6 ms, as a game
//! would, and then takes arrived files for at most 2 ms. For each arrived file, the program requests another one. Ten times a
//! second, an urgent file is requested. The program prints a table, and writes a plot to frames.svg.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, hint, thread};

use pactio::{Device, Host, Streamer, Urgency};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const FRAME: Duration = Duration::from_nanos(16_666_667);
const WORK: Duration = Duration::from_millis(6);
const BUDGET: Duration = Duration::from_millis(2);
const FILES: usize = 10_000;

/// The reason of a request.
enum Wanted {
    /// Needed soon: the file is part of the level.
    Bulk,
    /// Needed now: the player looks at it.
    Urgent,
}

#[derive(Default)]
struct Measured {
    frames: Vec<Duration>,
    polls: Vec<Duration>,
    bulk: Vec<Duration>,
    urgent: Vec<Duration>,
    bytes: u64,
    failed: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (given, seconds) = (arguments.next().map(PathBuf::from), arguments.next());
    let seconds = match seconds {
        Some(text) => {
            text.to_string_lossy().parse().map_err(|_| "the second argument is a number of seconds")?
        }
        None => 10,
    };
    let folder = tempfile::tempdir()?;
    let path = match given {
        Some(path) => path,
        None => make(&folder.path().join("assets.zip"))?,
    };
    let host = Host::builder().build()?;
    let url = pactio::Url::new("file", &path.to_string_lossy())?.with_filter(pactio::Url::filter("archive")?);
    let assets = host.open_url(&url, pactio::OpenOptions::new().read(true))?;
    let names = names(&host, &assets)?;
    if names.is_empty() {
        return Err("there are no files in the archive".into());
    }
    println!("{} files in {}, {FILES} requests queued", names.len(), path.display());
    let measured = play(&host, &assets, &names, Duration::from_secs(seconds));
    print!("{}", table(&measured));
    fs::write("frames.svg", plot(&measured))?;
    println!("plot: frames.svg");
    Ok(())
}

/// An archive of files of 1 KiB to 32 KiB.
fn make(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    println!("making an archive of {FILES} files ...");
    let mut zip = ZipWriter::new(std::io::BufWriter::new(fs::File::create(path)?));
    let mut random = fastrand::Rng::with_seed(60);
    let text: Vec<u8> = (0..1 << 20).map(|_| b"etaoin shrdlu"[random.usize(..13)]).collect();
    for index in 0..FILES {
        let methods = [CompressionMethod::Deflated, CompressionMethod::Stored, CompressionMethod::Zstd];
        let options = SimpleFileOptions::default().compression_method(methods[index % 3]);
        zip.start_file(format!("level{}/{index:05}.asset", index % 10), options)?;
        let (start, len) = (random.usize(..text.len() - (32 << 10)), random.usize(1 << 10..32 << 10));
        zip.write_all(&text[start..start + len])?;
    }
    zip.finish()?.flush()?;
    Ok(path.to_owned())
}

/// The names of all files.
fn names(host: &Host, tree: &Device) -> Result<Vec<String>, pactio::Error> {
    let (mut names, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = folders.pop() {
        for entry in host.block_on(tree.list(&folder))? {
            let path =
                if folder.is_empty() { entry.name.to_string() } else { format!("{folder}/{}", entry.name) };
            if entry.is_folder() { folders.push(path) } else { names.push(path) }
        }
    }
    Ok(names)
}

fn play(host: &Host, assets: &Device, names: &[String], longest: Duration) -> Measured {
    let streamer = Streamer::new(host);
    let mut random = fastrand::Rng::with_seed(7);
    for index in 0..FILES {
        streamer.load(assets, &names[index % names.len()], Urgency::default(), Wanted::Bulk);
    }
    let (begun, mut measured) = (Instant::now(), Measured::default());
    let mut next = begun;
    for frame in 0.. {
        let start = Instant::now();
        // The game does something else.
        while start.elapsed() < WORK {
            hint::spin_loop();
        }
        if frame % 6 == 5 {
            streamer.load(assets, &names[random.usize(..names.len())], Urgency::of(100), Wanted::Urgent);
        }
        let poll = Instant::now();
        streamer.poll(BUDGET, |done| {
            match done.bytes() {
                // A game would use the bytes here.
                Ok(bytes) => measured.bytes += hint::black_box(bytes).len() as u64,
                Err(error) => {
                    measured.failed += 1;
                    eprintln!("{error}");
                }
            }
            match done.data {
                Wanted::Bulk => {
                    measured.bulk.push(done.took);
                    let name = &names[random.usize(..names.len())];
                    streamer.load(assets, name, Urgency::default(), Wanted::Bulk);
                }
                Wanted::Urgent => measured.urgent.push(done.took),
            }
        });
        measured.polls.push(poll.elapsed());
        measured.frames.push(start.elapsed());
        if begun.elapsed() > longest {
            return measured;
        }
        next += FRAME;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    measured
}

fn table(measured: &Measured) -> String {
    let Measured { frames, polls, bulk, urgent, bytes, failed } = measured;
    let mut text = format!(
        "{} frames, {} requests done, {failed} failed, {} MiB\n\n{:<34} {:>10} {:>10} {:>10} {:>10}\n",
        frames.len(),
        bulk.len() + urgent.len() - failed,
        bytes >> 20,
        "milliseconds",
        "p50",
        "p90",
        "p99",
        "most"
    );
    for (what, times) in [
        ("frame, with 6 ms of other work", frames),
        ("taking what arrived, 2 ms allowed", polls),
        ("latency, urgent", urgent),
        ("latency, of the 10,000", bulk),
    ] {
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let at = |share: f64| match sorted.len() {
            0 => "-".to_owned(),
            len => format!("{:.3}", milliseconds(sorted[((len - 1) as f64 * share) as usize])),
        };
        writeln!(text, "{what:<34} {:>10} {:>10} {:>10} {:>10}", at(0.5), at(0.9), at(0.99), at(1.0))
            .expect("text can be written");
    }
    text
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A plot of the time of each frame, and of the part of it that was spent on taking arrived files.
fn plot(measured: &Measured) -> String {
    const WIDTH: f64 = 900.0;
    const HEIGHT: f64 = 300.0;
    const TALLEST: f64 = 20.0;
    let across = |index: usize| 50.0 + WIDTH * index as f64 / measured.frames.len().max(1) as f64;
    let up = |time: f64| 20.0 + HEIGHT * (1.0 - time.min(TALLEST) / TALLEST);
    let line = |times: &[Duration], color: &str| {
        let points: Vec<String> = times
            .iter()
            .enumerate()
            .map(|(index, time)| format!("{:.1},{:.1}", across(index), up(milliseconds(*time))))
            .collect();
        format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.2\"/>\n",
            points.join(" ")
        )
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + 70.0,
        HEIGHT + 70.0
    );
    for (time, what) in [(0.0, "0 ms"), (5.0, "5 ms"), (10.0, "10 ms"), (16.667, "60 Hz")] {
        let color = if time > 16.0 { "#c0392b" } else { "#dddddd" };
        svg += &format!(
            "<line x1=\"50\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{color}\"/>\n<text x=\"4\" y=\"{:.1}\">{what}</text>\n",
            WIDTH + 50.0,
            up(time) + 4.0,
            y = up(time)
        );
    }
    svg += &line(&measured.frames, "#2c5f8a");
    svg += &line(&measured.polls, "#e08e1b");
    svg += &format!(
        "<text x=\"50\" y=\"{y}\" fill=\"#2c5f8a\">time of each of {} frames, with 6 ms of other work</text>\n\
         <text x=\"450\" y=\"{y}\" fill=\"#e08e1b\">of these, taking what arrived (2 ms allowed)</text>\n</svg>\n",
        measured.frames.len(),
        y = HEIGHT + 50.0
    );
    svg
}
