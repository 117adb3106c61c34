//! `pactio check`

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::ValueHint;
use pactio::check::{self, CASES, Case, DOES_NOT_APPLY, Finding, Outcome, PLUGINS, Plan, Subject, Verdict};
use pactio::{Candidate, Host, HostBuilder, Manifest};

use super::failure::{Failure, to_stdout};
use super::given::GivenUrl;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The plugin's library.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Open this [default: the URL in the manifest, or a device in memory with the filter on it]. {folder} stands for a folder
    /// that is empty and removed afterwards. The device is written to, if it can be.
    #[arg(long)]
    url: Option<GivenUrl>,

    /// The device has the content of this file: it is compared, and the device is only read.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    sample: Option<PathBuf>,

    /// Check only a part of the device: OFFSET:LENGTH, or OFFSET: for all bytes from there on.
    #[arg(long, value_name = "OFFSET:LENGTH", value_parser = part)]
    range: Option<(u64, Option<u64>)>,

    /// Check the names of this tree, instead of those of the trees that the device is in. {folder} is as for --url. Unless there
    /// is a --sample, names that begin with 'pactio-check-' are made in it, changed and removed.
    #[arg(long, value_name = "URL")]
    tree: Option<GivenUrl>,

    /// Only these cases; may be repeated.
    #[arg(long, value_name = "CASE")]
    case: Vec<String>,

    /// End a case that takes longer.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    limit: Duration,

    /// Repeat the random choices of an earlier run, which printed this number.
    #[arg(long, value_name = "SEED")]
    reproduce: Option<u64>,

    /// Also write the results to this file, as JUnit's XML.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    junit: Option<PathBuf>,

    /// This is the process for one case.
    #[arg(long, hide = true)]
    here: bool,
}

fn part(text: &str) -> Result<(u64, Option<u64>), String> {
    let (offset, length) =
        text.split_once(':').ok_or("a part is OFFSET:LENGTH, such as 0x1000:64KiB, or OFFSET:")?;
    let length = if length.is_empty() { None } else { Some(super::size(length)?) };
    Ok((super::size(offset)?, length))
}

fn time(text: &str) -> Result<Duration, String> {
    let time = pactio::parse_duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "a time is a number with a unit, such as 500ms, 10s or 2min".to_owned())
}

pub(super) fn run(
    set_up: impl FnOnce(HostBuilder) -> HostBuilder,
    arguments: &Arguments,
    of_host: &[OsString],
) -> Result<ExitCode, Failure> {
    let cases = cases(&arguments.case)?;
    let candidate = Candidate::of_file(&arguments.file);
    let Some(plugin) = candidate.plugin() else {
        let (file, why) = (arguments.file.display(), candidate.refusal());
        let why = why.map_or(String::new(), |refusal| format!(" ({}): {refusal}", refusal.kind().code()));
        return Err(Failure::refused(format!("'{file}' is refused{why}")));
    };
    let default =
        || default_url(plugin.manifest()).map(|url| url.parse().unwrap_or_else(|never| match never {}));
    let url: GivenUrl = arguments.url.clone().map_or_else(default, Ok)?;
    let seed = arguments.reproduce.unwrap_or_else(|| fastrand::u64(..));
    if arguments.here {
        return here(set_up, arguments, cases[0], url.secret_text(), seed);
    }
    let shown = if arguments.url.is_some() { url.to_string() } else { url.secret_text().to_owned() };
    to_stdout(format!("checking {shown} with --reproduce {seed}\n").as_bytes())?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("the path of this program cannot be found out: {error}")))?;
    let command = |case: &Case| {
        let mut command = Command::new(&program);
        command.args(of_host).arg("check").arg(&arguments.file);
        command.args([
            "--here",
            "--case",
            case.name(),
            "--url",
            url.secret_text(),
            "--reproduce",
            &seed.to_string(),
        ]);
        if let Some(file) = &arguments.sample {
            command.arg("--sample").arg(file);
        }
        if let Some((offset, length)) = arguments.range {
            let length = length.map_or(String::new(), |length| length.to_string());
            command.arg("--range").arg(format!("{offset}:{length}"));
        }
        if let Some(tree) = &arguments.tree {
            command.args(["--tree", tree.secret_text()]);
        }
        command
    };
    // If the reader of the output has gone, `account` fails at the end.
    let outcomes = check::run(&cases, arguments.limit, command, |outcome| {
        let _ = to_stdout(check::table(outcome).as_bytes());
    });
    if let Some(file) = &arguments.junit {
        fs::write(file, check::junit(&plugin.manifest().id, &outcomes))
            .map_err(|error| Failure::new(format!("cannot write '{}': {error}", file.display())))?;
    }
    account(&outcomes)
}

/// The cases with these names, or all cases if there are no names.
fn cases(names: &[String]) -> Result<Vec<&'static Case>, Failure> {
    if names.is_empty() {
        return Ok(CASES.iter().collect());
    }
    let find = |name: &String| {
        CASES.iter().find(|case| case.name() == name).ok_or_else(|| {
            let known: Vec<String> =
                CASES.iter().map(|case| format!("  {:<13} {}", case.name(), case.about())).collect();
            Failure::new(format!("there is no case '{name}'; there are\n{}", known.join("\n")))
        })
    };
    names.iter().map(find).collect()
}

fn default_url(manifest: &Manifest) -> Result<String, Failure> {
    if !manifest.check.is_empty() {
        return Ok(manifest.check.clone());
    }
    let name = manifest.schemes.first().map_or("", String::as_str);
    if manifest.filter {
        return Ok(format!("memory:?size=100KiB | {name}"));
    }
    Err(Failure::new(format!("the plugin '{}' does not say which device to check", manifest.id))
        .with_hint(format!("give one: --url '{name}:...', or `check: \"{name}:...\"` in `export_plugin!`")))
}

/// An archive for the folder, with the files `stored` and `deflated`, and `inner` in a folder.
const TREE: &[u8] = include_bytes!("tree.zip");

/// Runs one case in this process.
fn here(
    set_up: impl FnOnce(HostBuilder) -> HostBuilder,
    arguments: &Arguments,
    case: &Case,
    url: &str,
    seed: u64,
) -> Result<ExitCode, Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("a temporary folder cannot be made: {error}")))?;
    let (plugins, data) = (folder.path().join("plugins"), folder.path().join("data"));
    let made = fs::create_dir(&plugins).and_then(|()| fs::create_dir(&data)).and_then(|()| {
        let file = arguments.file.canonicalize()?;
        fs::write(data.join("tree.zip"), TREE)?;
        symlink(&file, plugins.join(file.file_name().unwrap_or_default()))
    });
    made.map_err(|error| Failure::new(format!("a temporary folder cannot be filled: {error}")))?;
    // The folder with the file is searched first. The plugins of devices below a filter come from the other search paths.
    let host = set_up(PLUGINS.into_iter().fold(Host::builder().search_path(plugins), HostBuilder::plugin))
        .build()?;
    let placed = |url: &str| url.replace("{folder}", &data.to_string_lossy());
    let mut plan = Plan::new(&placed(url), seed);
    if let Some(file) = &arguments.sample {
        let sample = fs::read(file)
            .map_err(|error| Failure::new(format!("cannot read '{}': {error}", file.display())))?;
        plan = plan.with_sample(sample);
    }
    if let Some((offset, length)) = arguments.range {
        plan = plan.with_range(offset, length);
    }
    if let Some(tree) = &arguments.tree {
        plan = plan.with_tree(&placed(tree.secret_text()));
    }
    let found = Subject::of(&host, plan).and_then(|subject| case.run(&subject));
    let (text, code) = match found {
        Ok(()) => return Ok(ExitCode::SUCCESS),
        Err(Finding::DoesNotApply(why)) => (why, DOES_NOT_APPLY),
        Err(Finding::Wrong(what)) => (what, 1),
    };
    to_stdout(text.as_bytes())?;
    Ok(code.into())
}

fn account(outcomes: &[Outcome]) -> Result<ExitCode, Failure> {
    let count = |is: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| is(&outcome.verdict)).count();
    let (passed, wrong) =
        (count(|verdict| *verdict == Verdict::Passed), count(|verdict| matches!(verdict, Verdict::Wrong(_))));
    let skipped = outcomes.len() - passed - wrong;
    to_stdout(format!("{passed} ok, {wrong} wrong, {skipped} do not apply\n").as_bytes())?;
    if passed + wrong == 0 {
        return Err(Failure::new("no case applies to this device, so nothing was checked")
            .with_hint("name another device with --url, or other cases with --case"));
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
