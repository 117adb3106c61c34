//! Failures of the command: a message, a hint, an exit code.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use super::standard::{self, say};

/// The reason why the command ends with a code other than 0.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
    /// Nothing was changed.
    is_harmless: bool,
}

impl Failure {
    /// Something failed.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: 1, is_harmless: false }
    }

    /// The command line makes no sense.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(message) }
    }

    /// A part of the requested range does not exist.
    pub(super) fn incomplete(message: impl Into<String>) -> Self {
        Self { code: 3, ..Self::new(message) }
    }

    /// The inspected file was refused.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { code: 4, ..Self::new(message) }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The reader of the output closed it. As with other tools, this is no matter for a message: the code is that of a process
    /// that SIGPIPE ended.
    fn closed_output() -> Self {
        Self { code: 141, ..Self::new("") }
    }

    /// A folder was named where bytes are needed.
    pub(super) fn folder(url: &str) -> Self {
        Self::new(format!("'{url}' is a folder"))
            .with_hint("`pactio ls` lists its names, and URL | /NAME opens one")
    }

    /// A signal ended the command; the code is that of shells for it.
    pub(super) fn interrupted(signal: i32, what: &str) -> Self {
        let code = 128u8.saturating_add(signal.clamp(0, 127) as u8);
        Self { code, ..Self::new(format!("interrupted: {what}")) }
    }

    /// A search found nothing, or a check something, and that was printed: only the code is left to say it, as with `grep`.
    pub(super) fn no_match() -> Self {
        Self::new("")
    }

    /// The same failure with the codes of a search, of which 1 is "no match".
    pub(super) fn of_search(self) -> Self {
        if self.code == 1 && !self.message.is_empty() { Self { code: 2, ..self } } else { self }
    }

    /// The same failure of an operation that has changed nothing, if `is_harmless`.
    pub(super) fn harmless(self, is_harmless: bool) -> Self {
        Self { is_harmless, ..self }
    }

    /// A signal ended the operation, which had changed nothing.
    pub(super) fn is_harmless_interruption(&self) -> bool {
        self.code > 128 && self.is_harmless
    }

    /// The message, without the hint.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Prints the message, if there is one.
    pub(super) fn report(&self) {
        if !self.message.is_empty() {
            say(self);
        }
    }

    /// The same failure after its message was printed: only the code is left.
    pub(super) fn reported(self) -> Self {
        self.report();
        Self { message: String::new(), hint: None, ..self }
    }

    /// The same failure, with a line added to its message.
    pub(super) fn and(mut self, what: &str) -> Self {
        self.message = format!("{}\n{what}", self.message);
        self
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        self.code.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pactio: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<pactio::Error> for Failure {
    fn from(error: pactio::Error) -> Self {
        let failure = Self::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// Writes to standard output.
pub(super) fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let written = standard::output().and_then(|mut output| output.write_all(bytes));
    written.map_err(|error| output_failed(&error, None))
}

/// The failure for an error of standard output.
pub(super) fn output_failed(error: &io::Error, written: Option<u64>) -> Failure {
    let after = written.map_or(String::new(), |bytes| format!(" after {bytes} bytes"));
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::closed_output()
    } else {
        Failure::new(format!("cannot write to standard output{after}: {error}"))
    }
}
