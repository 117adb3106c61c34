//! The command `pactio`.

mod command;

fn main() -> std::process::ExitCode {
    command::run()
}
