//! `pactio serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use pactio::{Capability, Host, OpenOptions};
use pactio_nbd::{Address, Builder, tls_config};
use serde_json::json;

use super::failure::Failure;
use super::given::GivenUrl;
use super::interrupt::Interrupt;
use super::output::{Form, Output};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(clap::Subcommand)]
enum Protocol {
    /// Serve a device, or all names of a tree, to clients of NBD: qemu, nbdcopy, fio, the Linux kernel.
    ///
    /// Prints the address for clients. SIGINT and SIGTERM end the server when the requests in flight are answered.
    Nbd(Nbd),
}

#[derive(clap::Args)]
struct Nbd {
    /// The device. A tree exports its names.
    url: GivenUrl,
    /// Listen at this socket [default: pactio.sock in the folder for sockets of the user, or in this folder].
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// Listen at this address instead, such as 127.0.0.1:10809. Port 0 takes any. Other machines need the --tls options.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "socket")]
    tcp: Option<SocketAddr>,
    /// Clients may write.
    #[arg(long)]
    write: bool,
    /// Name of the export.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Require TLS: the certificate of this server (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_authorities"], value_hint = clap::ValueHint::FilePath)]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate", value_hint = clap::ValueHint::FilePath)]
    tls_key: Option<PathBuf>,
    /// The authorities that sign the certificates of clients (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate", value_hint = clap::ValueHint::FilePath)]
    tls_authorities: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let Protocol::Nbd(arguments) = &arguments.protocol;
    let options = OpenOptions::new().read(true).write(arguments.write);
    let device = arguments.url.open_with(host, options)?;
    let mut builder = Builder::new();
    if arguments.write {
        builder = builder.writable();
    }
    builder = match device.capabilities().has(Capability::LIST) {
        true => builder.tree(device.clone())?,
        false => host.block_on(builder.export(&arguments.name, device.clone()))?,
    };
    let (certificate, key) = (&arguments.tls_certificate, &arguments.tls_key);
    if let (Some(certificate), Some(key), Some(authorities)) = (certificate, key, &arguments.tls_authorities)
    {
        let config = tls_config(certificate, key, authorities);
        builder = builder.tls(config.map_err(|error| Failure::new(format!("cannot set up TLS: {error}")))?);
    }
    let address = match (&arguments.tcp, &arguments.socket) {
        (Some(address), _) => Address::Tcp(*address),
        (None, Some(path)) => Address::Unix(path.clone()),
        (None, None) => {
            let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
            Address::Unix(folder.join("pactio.sock"))
        }
    };
    let interrupt = Interrupt::listen()?;
    let server = builder.bind(&address)?;
    let mut output = Output::new(arguments.form);
    let uri = server.uri();
    // Programs read the address to know when the server is ready.
    output.line(|| format!("{uri}\n"), || json!({ "uri": uri }))?;
    output.flush()?;
    host.block_on(server.run(async move {
        interrupt.wait().await;
    }));
    Ok(())
}
