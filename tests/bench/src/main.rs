//! The cost of crossing the boundary: 64-byte reads of a device in memory, behind a plugin that was really loaded.
//!
//! All variants run interleaved in one process; the figures are medians, and the ratios are the result.

mod archives;
mod deadlines;
mod files;
mod filters;
mod limits;
mod maps;
mod measure;
mod ours;
mod patterns;
mod peers;
mod processes;
mod scan;
mod soak;
mod streaming;
mod stuck;
mod together;

use std::process::{Command, ExitCode};

use clap::Parser;
use measure::Variant;

/// Bytes per read.
const LEN: usize = 64;

/// Size of the devices: small enough for the fastest cache, so that the crossing is measured and not the memory.
const SIZE: usize = 1 << 14;

/// Measures 64-byte reads of a device in memory, of pactio and of its peers.
#[derive(Parser)]
struct Arguments {
    /// How long to measure, in seconds.
    #[arg(long, default_value = "30")]
    seconds: f64,
    /// Also count instructions per operation, with valgrind.
    #[arg(long)]
    instructions: bool,
    /// Only variants whose name contains this text, and the first variant of a table, which is the reference.
    #[arg(long, default_value = "")]
    only: String,
    /// Only the columns of a table with names that begin with this text.
    #[arg(long, default_value = "")]
    case: String,
    /// Measure nothing: run this many requests of all kinds, and fail if memory or descriptors grow by more than 1 %.
    #[arg(long, value_name = "COUNT")]
    soak: Option<u64>,
    /// Measure nothing else: the time to find this many plugins in a folder, the first time and again.
    #[arg(long, value_name = "COUNT")]
    scan: Option<usize>,
    /// Measure nothing else: the map of a process with many mappings.
    #[arg(long)]
    maps: bool,
    /// Measure nothing else: searches in the memory of this process, against the libraries that they are built on.
    #[arg(long)]
    patterns: bool,
    /// Measure nothing else: reads of a file in the page cache, against loops on the system's interfaces.
    #[arg(long)]
    files: bool,
    /// Measure nothing else: whole files of a zip archive, against the codec's own call and the zip crate.
    #[arg(long)]
    archives: bool,
    /// Measure nothing else: the filters verify and crypt, against the hash and the cipher alone.
    #[arg(long)]
    filters: bool,
    /// Measure nothing else: the share of its rate that the filter limit lets through.
    #[arg(long)]
    limits: bool,
    /// Measure nothing else: the cost of a limit of time, and the time until a cancelled request is settled.
    #[arg(long)]
    deadlines: bool,
    /// Measure nothing else: the latency of devices beside devices that hang.
    #[arg(long)]
    stuck: bool,
    /// Measure nothing else: the streamer, with large, small, urgent and cancelled requests.
    #[arg(long)]
    streaming: bool,
    /// Measure nothing else: reads of another process, against the system's own call.
    #[arg(long)]
    processes: bool,
    /// Hold memory for another process that reads it.
    #[arg(long, hide = true)]
    hold: bool,
    /// Run one variant this many times and print nothing (for counting under valgrind).
    #[arg(long, value_name = "COUNT", hide = true)]
    count: Option<u64>,
}

impl Arguments {
    /// The selected cases, and the number of seconds for each.
    fn cases<T>(&self, all: impl IntoIterator<Item = (String, T)>) -> (Vec<(String, T)>, f64) {
        let wanted: Vec<_> = all.into_iter().filter(|(name, _)| name.starts_with(&self.case)).collect();
        let seconds = self.seconds / wanted.len().max(1) as f64;
        (wanted, seconds)
    }

    /// The selected variants, which always include the reference.
    fn variants(&self, mut all: Vec<Variant>) -> Vec<Variant> {
        let reference = all.iter().position(|variant| variant.name == measure::REFERENCE).unwrap_or(0);
        let reference = all[reference].name;
        all.retain(|variant| variant.name == reference || variant.name.contains(&self.only));
        all
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(count) = arguments.soak {
        return if soak::soak(count) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if arguments.maps {
        maps::maps(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.patterns {
        patterns::patterns(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if let Some(count) = arguments.scan {
        scan::scan(count);
        return ExitCode::SUCCESS;
    }
    if arguments.archives {
        archives::archives(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.filters {
        filters::filters(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.limits {
        limits::limits(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.deadlines {
        deadlines::deadlines(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.stuck {
        stuck::stuck(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.streaming {
        streaming::streaming(arguments.seconds);
        return ExitCode::SUCCESS;
    }
    if arguments.hold {
        processes::hold();
        return ExitCode::SUCCESS;
    }
    if arguments.processes {
        processes::processes(&arguments);
        return ExitCode::SUCCESS;
    }
    if arguments.files {
        files::files(&arguments);
        return ExitCode::SUCCESS;
    }
    let mut variants: Vec<Variant> = peers::variants();
    variants.extend(ours::variants());
    if let Some(count) = arguments.count {
        let Some(variant) = variants.iter_mut().find(|variant| variant.name == arguments.only) else {
            return ExitCode::FAILURE;
        };
        variant.run(count);
        return ExitCode::SUCCESS;
    }
    let mut table = measure::measure(arguments.variants(variants), arguments.seconds);
    if arguments.instructions {
        for row in &mut table.rows {
            row.instructions = instructions(&row.name);
        }
    }
    print!("{table}");
    ExitCode::SUCCESS
}

/// Instructions per operation: the difference between two runs of one variant under callgrind.
fn instructions(name: &str) -> Option<f64> {
    const COUNTS: [u64; 2] = [65_536, 131_072];
    let collected = COUNTS.map(|count| {
        let program = std::env::current_exe().ok()?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args(["--only", name, "--count", &count.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find_map(|line| line.split_once("Collected : "))?;
        line.1.trim().parse::<f64>().ok()
    });
    let [Some(few), Some(many)] = collected else { return None };
    Some((many - few) / (COUNTS[1] - COUNTS[0]) as f64)
}
