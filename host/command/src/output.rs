//! Standard output: text, or one JSON object per line.

use serde_json::Value;

use super::failure::{Failure, to_stdout};

/// How results are printed.
#[derive(clap::Args, Clone, Copy)]
pub(super) struct Form {
    /// Print one JSON object per line; positions and sizes are numbers, and names are written as in the text form.
    #[arg(long)]
    json: bool,
}

impl Form {
    pub(super) fn is_json(self) -> bool {
        self.json
    }
}

/// Collects lines, and writes them in large pieces.
pub(super) struct Output {
    form: Form,
    text: String,
}

/// Length of the text from which on it is written.
const ENOUGH: usize = 1 << 16;

impl Output {
    pub(super) fn new(form: Form) -> Self {
        Self { form, text: String::new() }
    }

    /// Adds a line: one of the two, as the form says. `text` is one or more lines with their ends.
    pub(super) fn line(
        &mut self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        if self.form.json {
            self.text.push_str(&json().to_string());
            self.text.push('\n');
        } else {
            self.text.push_str(&text());
        }
        if self.text.len() < ENOUGH { Ok(()) } else { self.flush() }
    }

    /// Writes the collected lines.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.text.is_empty() {
            return Ok(());
        }
        to_stdout(std::mem::take(&mut self.text).as_bytes())
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
