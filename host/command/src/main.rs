//! The command `pactio`. One file per subcommand; `stream` is shared by several.

// These macros panic if the output is closed or full.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod cat;
mod change;
mod check;
mod cp;
mod dump;
mod failure;
mod given;
mod hexdump;
mod holes;
mod info;
mod inspect;
mod interrupt;
mod ls;
mod man;
mod manifest;
mod maps;
mod options;
mod output;
mod pattern;
mod pieces;
mod plugins;
mod progress;
mod scan;
mod serve;
mod standard;
mod stat;
mod stats;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod stopped;
mod stream;
mod sum;
mod verify;
mod watch;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use pactio::{Device, Host, HostBuilder};

use failure::Failure;

/// Read, write and copy through storage backends that are loaded from plugins.
///
/// A URL is scheme:target?key=value, such as file:/etc/hostname or memory:?size=64MiB. `pactio plugins` lists the schemes.
#[derive(Parser)]
#[command(name = "pactio", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Arguments {
    /// Search this folder for plugins before the others; may be repeated.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    plugin_path: Vec<PathBuf>,

    /// Search only the folders of --plugin-path.
    #[arg(long, global = true, help_heading = GLOBAL)]
    no_default_plugin_paths: bool,

    /// Load a plugin only if no user but root and you can write its file or the folders on the way to it.
    #[arg(long, global = true, help_heading = GLOBAL)]
    strict_owners: bool,

    /// Load plugins from their files and not from sealed copies, so that profilers find their symbols.
    #[arg(long, global = true, help_heading = GLOBAL)]
    no_seal: bool,

    /// File of profiles, which profile:NAME opens [default: pactio/profiles.toml in the configuration folder].
    #[arg(long, global = true, help_heading = GLOBAL, env = "PACTIO_PROFILES", value_name = "FILE", value_hint = ValueHint::FilePath)]
    profiles: Option<PathBuf>,

    /// Number of worker threads [default: one per processor, at most 4].
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Print the counts of each device and filter to standard error at the end, and the requests in flight on SIGUSR1.
    #[arg(long, global = true, help_heading = GLOBAL)]
    stats: bool,

    /// Log each step on standard error; twice for more detail.
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    subcommand: Command,
}

/// The heading of the options that every subcommand has.
const GLOBAL: &str = "Options of every command";

const EXIT_CODES: &str = "\
Exit codes:
    0  done; of scan, there is a match
    1  failed; of scan, there is no match; of verify, something is wrong
    2  the arguments are wrong; of scan, also a failure
    3  a part of the range does not exist, or could not be searched
    4  the inspected file was refused
  129  SIGHUP ended a copy
  70   a plugin ended the process; the output is incomplete
  130  SIGINT ended a copy
  141  the reader of the output closed it
  143  SIGTERM ended a copy";

#[derive(Subcommand)]
enum Command {
    /// List the plugins that were found, and those that were refused.
    Plugins(plugins::Arguments),
    /// Show the manifest of a plugin's file, or the reason why the file is refused.
    Inspect(inspect::Arguments),
    /// Work on the manifest of a plugin's file.
    #[command(subcommand)]
    Manifest(manifest::Manifest),
    /// Test the promises of a plugin.
    Check(check::Arguments),
    /// Show size, kind, capabilities and plugin of a device.
    Info(info::Arguments),
    /// Show the metadata of devices: kind, size, times (UTC), mode, version, media type.
    Stat(stat::Arguments),
    /// Write bytes of a device to standard output.
    Cat(cat::Arguments),
    /// Show bytes of a device in hexadecimal and as text.
    Hexdump(hexdump::Arguments),
    /// List the names in a device that is a tree.
    Ls(ls::Arguments),
    /// Print the changes of names in a device that is a tree, as they happen.
    Watch(watch::Arguments),
    /// Show the source of a mount that serves a name, and the sources that it hides.
    Why(why::Arguments),
    /// List the regions of a device that has holes, such as the memory of a process.
    Maps(maps::Arguments),
    /// Find bytes, text, values or matches of a regular expression.
    Scan(scan::Arguments),
    /// Write the memory of a process, or of another device with addresses, to an ELF core file.
    Dump(dump::Arguments),
    /// Copy one device to another.
    Cp(cp::Arguments),
    /// Remove files, objects and empty folders of a tree.
    Rm(change::Remove),
    /// Rename a file, a folder or an object of a tree.
    Mv(change::Rename),
    /// Make folders in a tree.
    Mkdir(change::CreateFolders),
    /// Serve a device to other programs.
    Serve(serve::Arguments),
    /// Print digests of devices, as sha256sum does.
    Sum(sum::Arguments),
    /// Read every file of an archive or another tree, and list those that are damaged or hidden.
    Verify(verify::Arguments),
    /// Print help for a subcommand, or the options of a scheme's URLs.
    Help {
        /// A subcommand such as cp, or a scheme such as file.
        topic: Option<String>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages of the command and of the plugins that are found.
    Man(man::Arguments),
}

/// A part of a device.
#[derive(Args, Clone, Copy)]
struct Range {
    /// Begin at this byte, such as 4096, 64KiB or 0x7f0000001000.
    #[arg(long, default_value = "0", value_parser = size, value_name = "POSITION")]
    offset: u64,

    /// End after this number of bytes [default: at the end of the device].
    #[arg(long, value_parser = size, value_name = "SIZE")]
    length: Option<u64>,
}

impl Range {
    fn is_whole(self) -> bool {
        self.offset == 0 && self.length.is_none()
    }
}

/// How much is asked for at once.
#[derive(Args, Clone, Copy)]
struct Flow {
    /// Size of one request.
    #[arg(long, default_value = "1MiB", value_parser = block_size, value_name = "SIZE")]
    block_size: usize,

    /// Number of requests in flight [default: the number that the device prefers, or 8].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096), value_name = "COUNT")]
    in_flight: Option<u16>,
}

impl Flow {
    /// Number of requests that a device should have in flight.
    fn in_flight(&self, device: &Device) -> u16 {
        let wanted =
            || device.capabilities().limits().in_flight().map_or(8, |count| count.clamp(1, 64) as u16);
        self.in_flight.unwrap_or_else(wanted)
    }
}

fn size(text: &str) -> Result<u64, String> {
    pactio::parse_size(text).ok_or_else(|| {
        "positions and sizes are numbers, in hexadecimal or with an optional unit, such as 4096, 0x1000, 64KiB or 1.5GiB"
            .to_owned()
    })
}

fn block_size(text: &str) -> Result<usize, String> {
    const MAX_REQUEST_BYTES: u64 = 1 << 30;
    match size(text)? {
        bytes @ 1..=MAX_REQUEST_BYTES => Ok(bytes as usize),
        _ => Err("a request has between 1 byte and 1GiB".to_owned()),
    }
}

/// Runs the command line.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.verbose);
    // A copy prints no data; its destination may be /dev/stdout.
    let has_output = !matches!(arguments.subcommand, Command::Cp(_));
    let claimed = standard::claim(has_output).map_err(|error| failure::output_failed(&error, None));
    match claimed.and_then(|_claimed| arguments.run()) {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

impl Arguments {
    fn set_up(&self, builder: HostBuilder) -> HostBuilder {
        let builder = builder
            .default_search_paths(!self.no_default_plugin_paths)
            .strict_owners(self.strict_owners)
            .seal(!self.no_seal);
        let builder = self.plugin_path.iter().fold(builder, |builder, folder| builder.search_path(folder));
        let builder = self.profiles.iter().fold(builder, |builder, file| builder.profiles(file));
        self.workers.map_or(builder.clone(), |count| builder.worker_threads(count.into()))
    }

    /// The arguments that select the plugins, for another process.
    fn of_host(&self) -> Vec<OsString> {
        let mut all = Vec::new();
        for folder in &self.plugin_path {
            all.extend(["--plugin-path".into(), folder.into()]);
        }
        if self.no_default_plugin_paths {
            all.push("--no-default-plugin-paths".into());
        }
        if self.strict_owners {
            all.push("--strict-owners".into());
        }
        if self.no_seal {
            all.push("--no-seal".into());
        }
        if let Some(file) = &self.profiles {
            all.extend(["--profiles".into(), file.into()]);
        }
        if let Some(count) = self.workers {
            all.extend(["--workers".into(), count.to_string().into()]);
        }
        all
    }

    fn run(self) -> Result<ExitCode, Failure> {
        let with_host = |act: &dyn Fn(&Host) -> Result<(), Failure>| {
            let host = self.set_up(Host::builder()).statistics(self.stats).build()?;
            if self.stats {
                stats::print_on_signal(&host)
                    .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
            }
            let result = act(&host);
            stats::print(&host);
            result
        };
        match self.subcommand {
            Command::Check(ref arguments) => {
                return check::run(|builder| self.set_up(builder), arguments, &self.of_host());
            }
            Command::Plugins(ref arguments) => with_host(&|host| plugins::run(host, arguments)),
            Command::Inspect(ref arguments) => inspect::run(arguments),
            Command::Manifest(ref command) => manifest::run(command),
            Command::Info(ref arguments) => with_host(&|host| info::run(host, arguments)),
            Command::Stat(ref arguments) => with_host(&|host| stat::run(host, arguments)),
            Command::Cat(ref arguments) => with_host(&|host| cat::run(host, arguments)),
            Command::Hexdump(ref arguments) => with_host(&|host| hexdump::run(host, arguments)),
            Command::Cp(ref arguments) => with_host(&|host| cp::run(host, arguments)),
            Command::Rm(ref arguments) => with_host(&|host| change::remove(host, arguments)),
            Command::Mv(ref arguments) => with_host(&|host| change::rename(host, arguments)),
            Command::Mkdir(ref arguments) => with_host(&|host| change::create_folders(host, arguments)),
            Command::Serve(ref arguments) => with_host(&|host| serve::run(host, arguments)),
            Command::Ls(ref arguments) => with_host(&|host| ls::run(host, arguments)),
            Command::Watch(ref arguments) => with_host(&|host| watch::run(host, arguments)),
            Command::Why(ref arguments) => with_host(&|host| why::run(host, arguments)),
            Command::Maps(ref arguments) => with_host(&|host| maps::run(host, arguments)),
            Command::Scan(ref arguments) => with_host(&|host| scan::run(host, arguments)),
            Command::Dump(ref arguments) => with_host(&|host| dump::run(host, arguments)),
            Command::Sum(ref arguments) => with_host(&|host| sum::run(host, arguments)),
            Command::Verify(ref arguments) => with_host(&|host| verify::run(host, arguments)),
            Command::Man(ref arguments) => with_host(&|host| man::run(host, arguments)),
            Command::Help { topic: None } => help(&mut Arguments::command()),
            Command::Help { topic: Some(ref topic) } => {
                let mut command = Arguments::command();
                command.build();
                match command.find_subcommand_mut(topic) {
                    Some(subcommand) => help(subcommand),
                    None => with_host(&|host| options::run(host, topic)),
                }
            }
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Arguments::command(), "pactio", &mut script);
                failure::to_stdout(&script)
            }
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

fn help(command: &mut clap::Command) -> Result<(), Failure> {
    failure::to_stdout(command.render_long_help().to_string().as_bytes())
}

fn log_to_stderr(verbosity: u8) {
    use tracing_subscriber::EnvFilter;
    // Refused plugins are not logged for a command that does not need them; a command that needs one reports the refusal.
    let level = match verbosity {
        0 => "pactio=error",
        1 => "pactio=debug",
        _ => "pactio=trace",
    };
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let filter = if verbosity == 0 && is_set(EnvFilter::DEFAULT_ENV) {
        EnvFilter::builder().from_env_lossy()
    } else {
        EnvFilter::new(level)
    };
    let has_colors = std::io::IsTerminal::is_terminal(&std::io::stderr()) && !is_set("NO_COLOR");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(has_colors)
        .without_time()
        .with_target(false)
        .init();
}
