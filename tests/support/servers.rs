//! Servers of objects on loopback, if their programs are installed: an environment variable names each program. The gate installs
//! the programs.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// A server that was started here. It ends with this value.
pub struct Server {
    child: Child,
    /// The port on 127.0.0.1 that it listens at.
    pub port: u16,
    /// The folder for its files.
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with a bucket or container of the name `bucket`.
pub struct Store {
    pub server: Server,
    /// The scheme of its URLs: `s3`.
    pub scheme: &'static str,
    /// Options of its URLs.
    pub options: String,
}

impl Store {
    /// The URL of a key, with more options.
    pub fn url(&self, key: &str, options: &str) -> String {
        format!("{}:bucket/{key}?{}{options}", self.scheme, self.options)
    }
}

/// The program that a variable names; without the variable, a message says that the test is skipped.
fn program(variable: &str, hint: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    if named.is_none() {
        println!("skipped: {variable} names no program ({hint})");
    }
    named
}

/// Starts a server at a free port. If another process takes the port first, another port is tried.
fn start(program: &Path, set: impl Fn(&mut Command, u16, &Path)) -> Server {
    for _ in 0..5 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it has an address").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = Command::new(program);
        set(&mut command, port, folder.path());
        let said = fs::File::create(folder.path().join("said")).expect("a file can be made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut server = Server { child, port, folder };
        for _ in 0..600 {
            if server.child.try_wait().expect("it is a child of this process").is_some() {
                break;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!("{}", fs::read_to_string(server.folder.path().join("said")).unwrap_or_default());
    }
    panic!("{} did not start", program.display());
}

/// moto, as a store of S3 or, in the part of the protocol that is the same, of Google.
pub fn moto(scheme: &'static str) -> Option<Store> {
    let program = program("PACTIO_TEST_S3", "`pip install 'moto[server,s3]'` has moto_server")?;
    let server = start(&program, |command, port, _| {
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    });
    let port = server.port;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let request = "PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\
                   Authorization: AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/s3/aws4_request, \
                   SignedHeaders=host, Signature=0\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let options = match scheme {
        "gs" => format!("endpoint=http://127.0.0.1:{port}&token=none"),
        _ => format!("endpoint=http://127.0.0.1:{port}&region=us-east-1&key-id=a&key=b"),
    };
    Some(Store { server, scheme, options })
}

/// The well-known account of this server.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Asks for a container, with a signature: `node -e THIS PORT ACCOUNT KEY`.
const NEW_CONTAINER: &str = r#"
const [port, account, key] = process.argv.slice(1), date = new Date().toUTCString();
const headers = { "x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": 0 };
const text = "PUT" + "\n".repeat(12) + `x-ms-date:${date}\nx-ms-version:2021-08-06\n` +
  `/${account}/${account}/bucket\nrestype:container`;
const signed = require("crypto").createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
headers.Authorization = `SharedKey ${account}:${signed}`;
const request = { host: "127.0.0.1", port, method: "PUT", path: `/${account}/bucket?restype=container`, headers };
require("http").request(request, answer => process.exit(answer.statusCode == 201 ? 0 : 1)).end();
"#;

/// Azurite, as a store of Azure.
pub fn azurite() -> Option<Store> {
    let program = program("PACTIO_TEST_AZURE", "`npm install azurite` has azurite-blob")?;
    let server = start(&program, |command, port, folder| {
        command.args(["--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]).current_dir(folder);
    });
    let port = server.port.to_string();
    let made = Command::new("node").args(["-e", NEW_CONTAINER, &port, ACCOUNT, KEY]).status();
    assert!(made.is_ok_and(|status| status.success()), "a container cannot be made");
    let options = format!(
        "endpoint=http://127.0.0.1:{port}/{ACCOUNT}&account={ACCOUNT}&key={}",
        KEY.replace('+', "%2B").replace('=', "%3D")
    );
    Some(Store { server, scheme: "az", options })
}

/// nginx with the files of a folder, which may be written; with TLS, if it is given files of a certificate and its key.
pub fn nginx(files: &Path, certificate: Option<(&Path, &Path)>) -> Option<Server> {
    let program = program("PACTIO_TEST_NGINX", "the Debian package nginx-light has /usr/sbin/nginx")?;
    Some(start(&program, |command, port, folder| {
        let folder = folder.display();
        let (tls, settings) = match certificate {
            Some((certificate, key)) => (
                " ssl",
                format!("ssl_certificate {};\nssl_certificate_key {};", certificate.display(), key.display()),
            ),
            None => ("", String::new()),
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\nclient_max_body_size 0;\n{temporary}\
             server {{\nlisten 127.0.0.1:{port}{tls};\n{settings}\nroot {};\n\
             location / {{\nautoindex on;\ndav_methods PUT;\ncreate_full_put_path on;\n}}\n}}\n}}\n",
            files.display()
        );
        let path = format!("{folder}/nginx.conf");
        fs::write(&path, text).expect("a file can be written");
        command.args(["-p", &folder.to_string(), "-e", "stderr", "-c", &path]);
    }))
}

/// The web server of Python's standard library, which has no ranges, on a folder.
pub fn python(files: &Path) -> Option<Server> {
    let program = program("PACTIO_TEST_PYTHON", "the Debian package python3 has /usr/bin/python3")?;
    Some(start(&program, |command, port, _| {
        let files = files.to_str().expect("the folder is UTF-8");
        command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", files]);
    }))
}
