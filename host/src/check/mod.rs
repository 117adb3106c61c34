//! The conformance suite, which checks that a plugin keeps the promises of plugins.
//!
//! Each [`Case`] opens devices of one URL and compares their behaviour with a model. A case may hang, crash or end the process if
//! the plugin is wrong, so [`run`] gives each case a process of its own; `pactio check` does that. All random choices follow from
//! a seed.
//!
//! ```no_run
//! # fn main() -> Result<(), pactio::Error> {
//! use pactio::check::{CASES, Finding, Subject};
//!
//! // In a process that may be lost:
//! let host = pactio::Host::builder().search_path("target/debug").build()?;
//! for case in CASES {
//!     let subject = Subject::new(&host, "mine:example", 7);
//!     match subject.and_then(|subject| case.run(&subject)) {
//!         Ok(()) => println!("{}: ok", case.name()),
//!         Err(Finding::DoesNotApply(why)) => println!("{}: {why}", case.name()),
//!         Err(Finding::Wrong(what)) => println!("{}: {what}", case.name()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod cases;
mod changes;
mod outcome;
mod slow;
mod subject;
mod window;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;
use futures_lite::future::zip;
use pactio_sdk::LinkedPlugin;

use cases::OPENS;
pub use cases::{CASES, Case};
pub use outcome::{Outcome, Verdict, junit, table};
pub use subject::{Finding, Plan, Subject};

/// Filters that the cases need; a host of a [`Subject`] links them in.
pub const PLUGINS: [LinkedPlugin; 2] = [window::PLUGIN, slow::PLUGIN];

/// Exit code of the process for one case if the case does not apply. 0 means that the case passed, any other code that it failed.
pub const DOES_NOT_APPLY: u8 = 77;

/// Runs cases, each in the process that `command` gives for it, and `report`s each when it has ended.
///
/// The process prints the mistake, or the reason why the case does not apply, and ends with 0, 1 or [`DOES_NOT_APPLY`]. A process
/// that takes longer than `limit` is ended. If the case that only opens a device does not pass, the cases after it are not run.
pub fn run(
    cases: &[&'static Case],
    limit: Duration,
    command: impl Fn(&Case) -> Command,
    mut report: impl FnMut(&Outcome),
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for &case in cases {
        let begun = Instant::now();
        let verdict = verdict(command(case), limit);
        let fatal = case.name() == OPENS && verdict != Verdict::Passed;
        let outcome = Outcome { case, verdict, time: begun.elapsed() };
        report(&outcome);
        outcomes.push(outcome);
        if fatal {
            break;
        }
    }
    outcomes
}

fn verdict(mut command: Command, limit: Duration) -> Verdict {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Verdict::Wrong(format!("its process cannot be started: {error}")),
    };
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let said = async {
        let read = async |pipe: Option<std::fs::File>| {
            let mut text = Vec::new();
            if let Some(pipe) = pipe
                && let Ok(mut pipe) = async_io::Async::new(pipe)
            {
                // The text that was read before an error is better than none.
                let _ = pipe.read_to_end(&mut text).await;
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let file = |pipe: std::os::fd::OwnedFd| std::fs::File::from(pipe);
        zip(read(output.map(|pipe| file(pipe.into()))), read(errors.map(|pipe| file(pipe.into())))).await
    };
    let late = async {
        async_io::Timer::after(limit).await;
        None
    };
    let said = futures_lite::future::block_on(futures_lite::future::or(async { Some(said.await) }, late));
    let Some((said, logged)) = said else {
        // The process may have ended just now; in both cases it is gone afterwards.
        let _ = child.kill();
        let _ = child.wait();
        return Verdict::Wrong(format!("it has not ended after {limit:?}"));
    };
    // The process has closed its output, but need not have ended.
    let status = loop {
        match child.try_wait() {
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(1)),
            other => break other,
        }
    };
    let status = match status {
        Ok(Some(status)) => status,
        Ok(None) => {
            let _ = child.kill();
            let _ = child.wait();
            return Verdict::Wrong(format!("it has not ended after {limit:?}"));
        }
        Err(error) => {
            return Verdict::Wrong(format!("the end of its process is unknown: {error}"));
        }
    };
    if status.success() {
        return Verdict::Passed;
    }
    if status.code() == Some(DOES_NOT_APPLY.into()) {
        return Verdict::DoesNotApply(said);
    }
    let last = if said.is_empty() { logged } else { said };
    match status.code() {
        Some(_) => Verdict::Wrong(last),
        None => Verdict::Wrong(format!("its process was ended by a signal ({status}): {last}")),
    }
}
