//! `pactio inspect`

use std::path::PathBuf;

use clap::ValueHint;
use pactio::{Candidate, Outcome};

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The library.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let candidate = Candidate::of_file(&arguments.file);
    match candidate.outcome() {
        Outcome::Loaded(plugin) => {
            let info = plugin.info();
            let text = format!(
                "id           {}\nversion      {}\ndescription  {}\nschemes      {}\nsdk          {}\nfile         {}\n",
                info.id,
                info.version,
                info.description,
                info.schemes.join(" "),
                info.sdk_version,
                plugin.path().display()
            );
            to_stdout(text.as_bytes())
        }
        Outcome::Refused(refusal) => Err(Failure::refused(format!(
            "'{}' is refused ({:?}): it {refusal}",
            arguments.file.display(),
            refusal.kind()
        ))),
        _ => Err(Failure::new("this command does not know what became of the file")),
    }
}
