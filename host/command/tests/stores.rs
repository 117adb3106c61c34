//! The command with object servers, where those are installed.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pactio_tests::{core_file, folder_of, servers};
use tempfile::TempDir;

/// The command with the plugins of one folder.
struct Place {
    plugins: TempDir,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let plugins = folder_of(&["pactio_archive", "pactio_core", "pactio_file", "pactio_object"]);
        Self { plugins, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pactio"));
        command.arg("--no-default-plugin-paths").arg("--plugin-path").arg(self.plugins.path());
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command
    }
}

/// The standard output and the standard error of a command.
fn run(mut command: Command, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {said}");
    (String::from_utf8_lossy(&stdout).into_owned(), said)
}

#[test]
fn a_core_file_in_an_archive_on_an_s3_server_is_scanned() {
    let Some(store) = servers::moto("s3") else { return };
    let place = Place::new();
    let marker = b"the marker that is looked for";
    let mut heap: Vec<u8> =
        (0..9_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for at in [0, 4_194_290, 8_999_971] {
        heap[at..at + marker.len()].copy_from_slice(marker);
    }
    // The second part has a hole behind it, of which nothing was dumped.
    let parts = [(0x40_0000, 0x1000, 5, &[0xcc; 0x1000][..]), (0x7000_0000, 9_400_000, 6, &heap[..])];
    let core = core_file(4, &parts);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let packed =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("dumps/core.1", packed).unwrap();
    archive.write_all(&core).unwrap();
    fs::write(place.path("dumps.zip"), archive.finish().unwrap().into_inner()).unwrap();
    fs::write(place.path("core.1"), &core).unwrap();
    let url = store.url("dumps.zip", "");
    run(place.command(&["cp", "file:dumps.zip", &url]), 0);
    let composed = format!("{url} | archive | /dumps/core.1 | core");
    let text = std::str::from_utf8(marker).unwrap();
    let there = run(place.command(&["scan", &composed, "--text", text]), 0);
    let addresses: Vec<_> = there.0.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(addresses, ["0x000070000000", "0x0000703ffff2", "0x000070895423"]);
    // The output is the same as for the local file, with all holes.
    assert_eq!(run(place.command(&["scan", "file:core.1 | core", "--text", text]), 0), there);
    assert_eq!(
        run(place.command(&["maps", &composed]), 0),
        run(place.command(&["maps", "file:core.1 | core"]), 0)
    );
}

/// Files of a certificate for 127.0.0.1, of the certificate of its signer, and of its key.
fn certificates(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(root, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let of_server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let of_server = of_server.signed_by(&own, &issuer).unwrap();
    let paths = ["server.pem", "root.pem", "key.pem"].map(|name| folder.join(name));
    for (path, text) in paths.iter().zip([of_server.pem(), root_certificate.pem(), own.serialize_pem()]) {
        fs::write(path, text).unwrap();
    }
    let [server, root, key] = paths;
    (server, root, key)
}

#[test]
fn a_web_server_is_read_with_tls_if_its_certificate_is_trusted() {
    let place = Place::new();
    let secrets = tempfile::tempdir().unwrap();
    let (certificate, root, key) = certificates(secrets.path());
    let Some(server) = servers::nginx(place.folder.path(), Some((&certificate, &key))) else { return };
    let bytes: Vec<u8> = (0..2_000_000).map(|at| (at % 251) as u8).collect();
    fs::write(place.path("file"), &bytes).unwrap();
    let url = format!("https://127.0.0.1:{}/file?retry-for=0s", server.port);
    let trusting = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("SSL_CERT_FILE", &root);
        command
    };
    let (here, _) = run(place.command(&["sum", "file:file"]), 0);
    let (there, _) = run(trusting(&["sum", &url]), 0);
    assert_eq!(there.split(' ').next(), here.split(' ').next());
    let (part, _) = run(trusting(&["cat", &url, "--offset", "300", "--length", "5"]), 0);
    assert_eq!(part.as_bytes(), &bytes[300..305]);
    let (_, said) = run(trusting(&["info", &url.replace("/file", "/none")]), 1);
    assert!(said.contains("there is no such object"), "{said}");
    let mut command = place.command(&["info", &url]);
    command.env("SSL_CERT_FILE", &certificate);
    let (_, said) = run(command, 1);
    assert!(said.contains("invalid peer certificate"), "{said}");
    // Plain text to a server that requires TLS.
    let (_, said) = run(trusting(&["info", &url.replace("https:", "http:")]), 1);
    assert!(said.contains("400"), "{said}");
    drop(server);
    let (_, said) = run(trusting(&["info", &url]), 1);
    assert!(said.to_lowercase().contains("connection refused"), "{said}");
    let (_, said) = run(trusting(&["cp", "file:file", &url]), 1);
    assert!(said.contains("all 2000000 bytes were sent, but may not be kept; copy again"), "{said}");
}

#[test]
fn without_credentials_an_error_names_the_ways_at_once() {
    let place = Place::new();
    let home = tempfile::tempdir().unwrap();
    for (url, way) in [
        ("s3:bucket/key?region=r", "profile=NAME"),
        ("gs:bucket/key", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az:container/key?account=a", "AZURE_STORAGE_ACCOUNT_KEY"),
    ] {
        let begun = std::time::Instant::now();
        let mut command = place.command(&["cat", url]);
        command.env_clear().env("HOME", home.path());
        let (_, said) = run(command, 1);
        assert!(said.contains("there are no credentials; ") && said.contains(way), "{said}");
        assert!(said.contains("metadata=true") && said.contains("anonymous=true"), "{said}");
        // No address was asked: the time is that of starting the command, on a loaded machine.
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    }
    let mut command = place.command(&["cat", "s3:bucket/key?profile=none"]);
    command.env_clear().env("HOME", home.path());
    let (_, said) = run(command, 1);
    assert!(said.contains("there is no profile 'none' in "), "{said}");
}

#[test]
fn keys_region_and_address_come_from_a_profile() {
    let Some(store) = servers::moto("s3") else { return };
    let place = Place::new();
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let option = |name: &str| {
        let (_, rest) = store.options.split_once(&format!("{name}=")).unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    fs::write(
        home.path().join(".aws/credentials"),
        format!(
            "[work]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            option("key-id"),
            option("key")
        ),
    )
    .unwrap();
    let config =
        format!("[profile work]\nregion = {}\nendpoint_url = {}\n", option("region"), option("endpoint"));
    fs::write(home.path().join(".aws/config"), config).unwrap();
    fs::write(place.path("x"), "content").unwrap();
    let with = |arguments: &[&str], profile: Option<&str>| {
        let mut command = place.command(arguments);
        command.env_clear().env("HOME", home.path()).envs(profile.map(|name| ("AWS_PROFILE", name)));
        command
    };
    run(with(&["cp", "file:x", "s3:bucket/x?profile=work"], None), 0);
    let (content, _) = run(with(&["cat", "s3:bucket/x"], Some("work")), 0);
    assert_eq!(content, "content");
    let (_, said) = run(with(&["cat", "s3:bucket/x?region=r"], None), 1);
    assert!(said.contains("there are no credentials"), "{said}");
}

#[test]
fn credentials_of_the_options_come_before_those_of_the_environment() {
    for (store, variable) in
        [(servers::azurite(), "AZURE_STORAGE_TOKEN"), (servers::moto("gs"), "GOOGLE_SERVICE_ACCOUNT_PATH")]
    {
        let Some(store) = store else { continue };
        let place = Place::new();
        fs::write(place.path("x"), "content").unwrap();
        let url = store.url("key", "&retry-for=0s");
        let mut command = place.command(&["cp", "file:x", &url]);
        command.env(variable, "/no/such/credentials");
        run(command, 0);
        let (content, _) = run(place.command(&["cat", &url]), 0);
        assert_eq!(content, "content", "{variable}");
    }
}

#[test]
fn a_copy_keeps_the_media_type() {
    let Some(store) = servers::moto("s3") else { return };
    let place = Place::new();
    fs::write(place.path("x"), "content").unwrap();
    let (one, other) = (store.url("one", ""), store.url("other", ""));
    run(place.command(&["cp", "file:x", &format!("{one}&content-type=text/x-test")]), 0);
    run(place.command(&["cp", &one, &other]), 0);
    let (said, _) = run(place.command(&["info", &other]), 0);
    assert!(said.contains("text/x-test"), "{said}");
}

#[test]
fn trees_are_copied_to_stores_and_back() {
    let stores: Vec<_> = [servers::moto("s3"), servers::azurite()].into_iter().flatten().collect();
    let place = Place::new();
    let mut files = Vec::new();
    for folder in ["", "deep/", "deep/er %2F/"] {
        fs::create_dir_all(place.path(&format!("tree/{folder}"))).unwrap();
        for len in [0, 1, 70_000, 6 << 20] {
            let name = format!("{folder}{len} \u{fc}");
            let content: Vec<u8> = (0..len).map(|byte| (byte % 253) as u8).collect();
            fs::write(place.path(&format!("tree/{name}")), &content).unwrap();
            files.push((name, content));
        }
    }
    for store in &stores {
        let url = store.url("copied/", "");
        run(place.command(&["cp", "-r", "--verify", "file:tree", &url]), 0);
        let back = format!("back-{}", store.scheme);
        let (_, said) = run(place.command(&["cp", "-r", &url, &format!("file:{back}")]), 0);
        assert_eq!(said, "");
        for (name, content) in &files {
            assert!(fs::read(place.path(&format!("{back}/{name}"))).unwrap() == *content, "{name}");
        }
        let (listed, _) = run(place.command(&["stat", &store.url("copied/1 %C3%BC", "")]), 0);
        assert!(listed.contains("size         1\n"), "{listed}");
    }
}
