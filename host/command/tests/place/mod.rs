//! The command in a folder of its own.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::{TempDir, tempdir};

/// A folder to work in, and the command in it, with the plugins `file` and `memory` and no others.
pub struct Place(pub TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempdir().unwrap());
        fs::create_dir(place.path("plugins")).unwrap();
        place.with("file").with("memory")
    }

    /// One more plugin.
    pub fn with(self, name: &str) -> Self {
        self.with_library(plugin(name))
    }

    /// One more plugin, by the name of its crate.
    pub fn with_fixture(self, name: &str) -> Self {
        self.with_library(std::env::current_exe().unwrap().with_file_name(format!("lib{name}.so")))
    }

    fn with_library(self, library: PathBuf) -> Self {
        symlink(&library, self.path("plugins").join(library.file_name().unwrap())).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, len: usize) -> Vec<u8> {
        let content: Vec<u8> = (0..len).map(|byte| (byte * 31 % 251) as u8).collect();
        fs::write(self.path(name), &content).unwrap();
        content
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pactio"));
        command
            .args(["--no-default-plugin-paths", "--plugin-path", "plugins"])
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command, checks the exit code, and gives the standard output and the standard error.
    pub fn check(&self, arguments: &[&str], code: i32) -> (Vec<u8>, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        (stdout, said)
    }

    pub fn printed(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.check(arguments, 0).0).unwrap()
    }

    #[track_caller]
    pub fn says(&self, arguments: &[&str], code: i32, expected: &str) {
        assert_eq!(self.check(arguments, code).1, expected);
    }
}

/// A process that is ended when this value is dropped.
pub struct Ends(pub std::process::Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plugin's library, which cargo puts beside this test.
pub fn plugin(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(format!("libpactio_{name}.so"))
}
