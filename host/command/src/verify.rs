//! `pactio verify`

use std::collections::VecDeque;
use std::thread;

use pactio::{Capability, Code, Device, Error, Host, Name, OpenOptions, Task};
use serde_json::json;

use super::failure::Failure;
use super::given::GivenUrl;
use super::ls::{Step, walk};
use super::output::{Form, Output};
use super::progress::Progress;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device: all of it is read. Of a tree, every file is read, and every hidden entry is reported.
    url: GivenUrl,

    #[command(flatten)]
    form: Form,
}

/// Number of bytes that are read at once.
const BLOCK: u64 = 1 << 20;

/// A file, and its check. The result is the number of its bytes.
struct File {
    name: Vec<u8>,
    task: Task<Result<u64, Error>>,
}

/// The results so far.
#[derive(Default)]
struct Results {
    files: u64,
    bytes: u64,
    wrong: u64,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    let mut output = Output::new(arguments.form);
    let mut results = Results::default();
    let progress = Progress::start("verifying", None);
    let at_a_time = thread::available_parallelism().map_or(1, usize::from) * 2;
    let mut under_way: VecDeque<File> = VecDeque::new();
    let end = |file: File, results: &mut Results, output: &mut Output| {
        let result = host.block_on(file.task);
        progress.add(*result.as_ref().unwrap_or(&0));
        results.add(&file.name, result, output)
    };
    if device.capabilities().has(Capability::LIST) {
        walk(host, &device, b"", |path, step| {
            if let Step::Closed(_, reason) = &step {
                results.wrong += 1;
                let (name, reason) = (Name::show(path), format!("left out: {reason}"));
                return output.line(
                    || format!("{name}: {reason}\n"),
                    || json!({ "name": name.to_string(), "wrong": reason }),
                );
            }
            if step.entry().is_folder() {
                return Ok(());
            }
            if under_way.len() == at_a_time
                && let Some(oldest) = under_way.pop_front()
            {
                end(oldest, &mut results, &mut output)?;
            }
            let opening = device.opening(path, OpenOptions::new().read(true));
            let task = host.spawn(async move { read_all(&opening.await?).await });
            under_way.push_back(File { name: path.to_vec(), task });
            Ok(())
        })?;
        under_way.into_iter().try_for_each(|file| end(file, &mut results, &mut output))?;
        for hidden in host.block_on(device.refused())? {
            results.wrong += 1;
            let name = hidden.name.to_string();
            let reason = format!("hidden: {}", hidden.reason);
            output.line(|| format!("{name}: {reason}\n"), || json!({ "name": name, "wrong": reason }))?;
        }
    } else {
        let task = host.spawn(async move { read_all(&device).await });
        end(File { name: Vec::new(), task }, &mut results, &mut output)?;
    }
    progress.finish();
    results.print(&mut output)
}

/// Reads all bytes, and gives their number.
async fn read_all(device: &Device) -> Result<u64, Error> {
    let (mut position, mut buffer) = (0, Vec::new());
    loop {
        // Systems report a size of 0 for files that are made when they are read.
        let left = device.size().filter(|&size| size > 0).map_or(BLOCK, |size| size.saturating_sub(position));
        if left == 0 {
            return Ok(position);
        }
        buffer.resize(left.min(BLOCK) as usize, 0);
        let (report, back) = device.read_at(position, buffer).await?;
        buffer = back;
        position += report.error_clamp() as u64;
        match report.min_cause() {
            None => {}
            Some((_, cause))
                if cause.error().code() == Code::END && device.size().is_none_or(|size| size <= position) =>
            {
                return Ok(position);
            }
            Some((_, cause)) => return Err(cause.clone().into()),
        }
    }
}

impl Results {
    fn add(&mut self, name: &[u8], result: Result<u64, Error>, output: &mut Output) -> Result<(), Failure> {
        self.files += 1;
        match result {
            Ok(bytes) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(error) => {
                self.wrong += 1;
                let name =
                    if name.is_empty() { "(all of it)".to_owned() } else { Name::show(name).to_string() };
                output.line(
                    || format!("{name}: {error}\n"),
                    || json!({ "name": name, "wrong": error.to_string() }),
                )
            }
        }
    }

    fn print(self, output: &mut Output) -> Result<(), Failure> {
        let Self { files, bytes, wrong } = self;
        let files_were = if files == 1 { "1 file was".to_owned() } else { format!("{files} files were") };
        output.line(
            || match wrong {
                0 => format!("{files_were} read, {bytes} bytes: nothing is wrong\n"),
                1 => format!("{files_were} read: 1 entry is wrong\n"),
                _ => format!("{files_were} read: {wrong} entries are wrong\n"),
            },
            || json!({ "files": files, "bytes": bytes, "wrong": wrong }),
        )?;
        output.flush()?;
        if wrong == 0 { Ok(()) } else { Err(Failure::no_match()) }
    }
}
