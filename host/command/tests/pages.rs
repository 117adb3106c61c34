//! The commands of the README and the book do what the pages say, and the picture shows real output.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pactio_tests::core_file;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

const LIBRARIES: [&str; 16] = [
    "archive", "cache", "core", "cow", "crypt", "delay", "fault", "file", "limit", "memory", "mount",
    "object", "process", "retry", "stats", "verify",
];

/// A folder with the files that the pages use.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for name in ["README.md", "docs", "examples", "plugins"] {
            symlink(root().join(name), place.path(name)).unwrap();
        }
        fs::create_dir(place.path("installed")).unwrap();
        for name in LIBRARIES {
            let library = std::env::current_exe().unwrap().with_file_name(format!("libpactio_{name}.so"));
            symlink(&library, place.path("installed").join(library.file_name().unwrap())).unwrap();
        }
        let mut page = vec![0; 0x1000];
        page[0x20..0x40].copy_from_slice(b"user=ada\0password=hunter2\0\0\0\0\0\0\0");
        let core = core_file(4, &[(0x10000, 0x1000, 4, &page), (0x20000, 0x2000, 6, &[1; 0x2000])]);
        fs::write(place.path("core.1234"), &core).unwrap();
        for (archive, entries) in [
            ("game.zip", vec![("maps/start.map", b"a map\n".to_vec()), ("sounds/step.wav", vec![7; 3000])]),
            ("dumps.zip", vec![("core.1234", core)]),
        ] {
            let mut zip = zip::ZipWriter::new(fs::File::create(place.path(archive)).unwrap());
            for (name, content) in entries {
                let time = zip::DateTime::from_date_and_time(2026, 11, 29, 12, 0, 0).unwrap();
                let options = zip::write::SimpleFileOptions::default().last_modified_time(time);
                zip.start_file(name, options).unwrap();
                std::io::Write::write_all(&mut zip, &content).unwrap();
            }
            zip.finish().unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a line of a shell.
    fn run(&self, line: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_pactio")).parent().unwrap();
        let path = std::env::join_paths(
            std::iter::once(program.to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        Command::new("sh")
            .args(["-c", line])
            .current_dir(self.0.path())
            .env("PATH", path.unwrap())
            .env("PACTIO_PLUGIN_PATH", self.path("installed"))
            .env_remove("PACTIO_PROFILES")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// The lines of the blocks of a shell in a page.
fn commands(page: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut commands = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = line == "```sh";
        } else if in_block && !line.is_empty() {
            commands.push(line);
        }
    }
    commands
}

#[test]
fn the_commands_of_the_pages_succeed() {
    // The gate runs these itself.
    const OTHERS: [&str; 3] = ["cargo ", "./install.sh", "cp -r "];
    let place = Place::new();
    let mut pages = vec![root().join("README.md")];
    pages.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    let (mut run, mut wrong) = (0, String::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for line in commands(&text) {
            if OTHERS.iter().any(|other| line.starts_with(other)) {
                continue;
            }
            assert!(line.starts_with("pactio "), "{}: '{line}' is no command of pactio", page.display());
            run += 1;
            let Output { status, stderr, .. } = place.run(line);
            if !status.success() {
                let _ = writeln!(
                    wrong,
                    "{}: {line}\n  {status}: {}",
                    page.display(),
                    String::from_utf8_lossy(&stderr)
                );
            }
        }
    }
    assert!(run > 30, "only {run} commands were found");
    assert!(wrong.is_empty(), "commands of the pages fail:\n{wrong}");
}

/// A picture of a terminal with these lines.
fn picture(lines: &[String]) -> String {
    let height = 24 + 18 * lines.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1100\" height=\"{height}\" font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1e2228\"/>\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let color = if line.starts_with("$ ") { "#8fd18f" } else { "#dde3ea" };
        let text = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let y = 26 + 18 * index;
        let _ =
            writeln!(svg, "<text x=\"14\" y=\"{y}\" fill=\"{color}\" xml:space=\"preserve\">{text}</text>");
    }
    svg + "</svg>\n"
}

/// With `PACTIO_WRITE`, the picture is made anew.
#[test]
fn the_picture_shows_real_output() {
    let place = Place::new();
    let mut lines = Vec::new();
    for command in [
        "pactio ls -l 'file:dumps.zip | archive'",
        "pactio maps 'file:dumps.zip | archive | /core.1234 | core'",
        "pactio scan 'file:dumps.zip | archive | /core.1234 | core' --text password",
        "pactio hexdump 'file:dumps.zip | archive | /core.1234 | core' --offset 0x10020 --length 32",
        "pactio cat 'file:dumps.zip | archive | /core.1234 | core' --offset 0x10f00 --length 512 >part",
    ] {
        let Output { stdout, stderr, .. } = place.run(command);
        lines.push(format!("$ {command}"));
        lines.extend(String::from_utf8([stdout, stderr].concat()).unwrap().lines().map(str::to_owned));
    }
    let (path, made) = (root().join("docs/command.svg"), picture(&lines));
    if std::env::var_os("PACTIO_WRITE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), made, "make it anew with PACTIO_WRITE=1");
}

#[test]
fn manual_pages_are_made_of_the_help() {
    let place = Place::new();
    let Output { status, stderr, .. } =
        place.run("pactio --no-default-plugin-paths --plugin-path installed man pages");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let names = |section: &str| -> Vec<String> {
        let entries = fs::read_dir(place.path("pages").join(section)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let commands = names("man1");
    for name in ["pactio.1", "pactio-cat.1", "pactio-cp.1", "pactio-man.1", "pactio-scan.1"] {
        assert!(commands.iter().any(|command| command == name), "{name} is missing: {commands:?}");
    }
    let mut plugins: Vec<String> = LIBRARIES.map(|name| format!("pactio-{name}.7")).into();
    plugins.sort();
    assert_eq!(names("man7"), plugins);
    let memory = fs::read_to_string(place.path("pages/man7/pactio-memory.7")).unwrap();
    for part in [".SH NAME", "memory:", "\\fBsize=\\fR", "required"] {
        assert!(memory.contains(part), "'{part}' is not in {memory}");
    }
    let cp = fs::read_to_string(place.path("pages/man1/pactio-cp.1")).unwrap();
    assert!(cp.contains("\\-\\-verify") && cp.contains("Copy one device to another"), "{cp}");
}
