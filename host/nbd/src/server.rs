//! The server: its exports, its socket, and its connections.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::future::or;
use futures_rustls::TlsAcceptor;
use futures_util::future::{FutureExt, Shared};
use pactio::{Capability, Cause, Device, Error, OpenOptions};
use rustls::ServerConfig;

use crate::export::Export;
use crate::handshake::{Chosen, Security, greet, negotiate};
use crate::stream::{AnyStream, Client, Loop};
use crate::transmission::Transmission;

/// The longest time that a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);

/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;

/// The pause after a connection could not be accepted, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most names of a tree that are listed.
const MAX_NAMES: usize = 10_000;

/// What a server exports.
#[derive(Default)]
pub(crate) struct Exports {
    devices: BTreeMap<String, Arc<Export>>,
    tree: Option<(Device, bool)>,
    /// Names of the tree that are open: clients of one name share its device.
    open: Mutex<BTreeMap<String, std::sync::Weak<Export>>>,
}

impl Exports {
    /// The export with a name.
    pub(crate) async fn find(&self, name: &str) -> Result<Arc<Export>, Error> {
        if let Some(export) = self.devices.get(name) {
            return Ok(export.clone());
        }
        let Some((tree, may_write)) = &self.tree else {
            let text = format!("there is no export '{name}'");
            return Err(failure(io::Error::new(io::ErrorKind::NotFound, text)));
        };
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(export) = open().get(name).and_then(std::sync::Weak::upgrade) {
            return Ok(export);
        }
        let (tree, may_write, text) = (tree.clone(), *may_write, name.to_owned());
        let device = blocking::unblock(move || {
            let options = OpenOptions::new().read(true);
            tree.open_with(&text, if may_write { options.write(true) } else { options })
        })
        .await?;
        if device.capabilities().has(Capability::LIST) {
            return Err(failure(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!("'{name}' is a folder"),
            )));
        }
        let export = Arc::new(Export::new(device, may_write).await?);
        let mut open = open();
        open.retain(|_, export| export.strong_count() > 0);
        // Another client may have opened the name meanwhile.
        if let Some(export) = open.get(name).and_then(std::sync::Weak::upgrade) {
            return Ok(export);
        }
        open.insert(name.to_owned(), Arc::downgrade(&export));
        Ok(export)
    }

    /// The names of the exports.
    pub(crate) async fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.devices.keys().cloned().collect();
        let Some((tree, _)) = &self.tree else { return names };
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = tree.list(&folder).await else { continue };
            for entry in entries {
                let Some(name) = entry.name.to_str() else { continue };
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                if entry.is_folder() {
                    folders.push(path)
                } else {
                    names.push(path)
                }
                if names.len() >= MAX_NAMES {
                    return names;
                }
            }
        }
        names
    }
}

/// A server that is set up: [`bind`](Self::bind) begins to listen.
///
/// ```no_run
/// use pactio::{Error, Host};
/// use pactio_nbd::{Address, Builder};
///
/// fn main() -> Result<(), Error> {
///     let host = Host::builder().build()?;
///     let device = host.open("file:disk.img")?;
///     let server = host.block_on(Builder::new().export("", device))?.bind(&Address::Unix("disk.sock".into()))?;
///     host.block_on(server.run(std::future::pending()));
///     Ok(())
/// }
/// ```
#[derive(Default)]
#[must_use = "a server listens after `bind`"]
pub struct Builder {
    exports: Exports,
    tls: Option<Arc<ServerConfig>>,
    may_write: bool,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system. Only the user of the process may connect.
    Unix(PathBuf),
    /// An address of the network. Other addresses than those of this machine need [`tls`](Builder::tls).
    Tcp(SocketAddr),
}

impl Builder {
    /// A server without exports, whose devices can only be read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients may write to the exports that are added from now on, if the device was opened for writing.
    pub fn writable(self) -> Self {
        Self { may_write: true, ..self }
    }

    /// Adds a device under a name; the empty name is that of clients that name none.
    ///
    /// # Errors
    ///
    /// If the device does not give its regions.
    pub async fn export(mut self, name: &str, device: Device) -> Result<Self, Error> {
        let export = Export::new(device, self.may_write).await?;
        self.exports.devices.insert(name.to_owned(), Arc::new(export));
        Ok(self)
    }

    /// Adds all names of a device that is a tree; each is opened for its first client.
    ///
    /// # Errors
    ///
    /// If the device opens no names.
    pub fn tree(mut self, tree: Device) -> Result<Self, Error> {
        if !tree.capabilities().has(Capability::OPEN) {
            let text = format!("'{}' is no tree, so it has no names to be exported", tree.url());
            return Err(failure(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        self.exports.tree = Some((tree, self.may_write));
        Ok(self)
    }

    /// Requires TLS of all clients. `config` decides which certificates are shown and required: see [`tls_config`](crate::tls_config).
    pub fn tls(self, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If the address cannot be used: another server has it, or it is not of this machine and there is no TLS.
    pub fn bind(self, address: &Address) -> Result<Server, Error> {
        let listener = match address {
            Address::Unix(path) => {
                let socket = bind_unix(path).and_then(Async::new).map_err(failure)?;
                Listener::Unix(socket, SocketFile(path.clone()))
            }
            Address::Tcp(address) if !address.ip().is_loopback() && self.tls.is_none() => {
                let text = format!("{address} can be reached from other machines, which needs TLS");
                return Err(failure(io::Error::new(io::ErrorKind::PermissionDenied, text)));
            }
            Address::Tcp(address) => {
                let socket = TcpListener::bind(address).and_then(Async::new);
                Listener::Tcp(socket.map_err(|error| failure(named(&address, error)))?)
            }
        };
        Ok(Server { exports: Arc::new(self.exports), tls: self.tls, listener })
    }
}

fn failure(error: io::Error) -> Error {
    let text = error.to_string();
    Cause::new(error.into(), text).into()
}

/// The error with the address that was listened at.
fn named(address: &dyn std::fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen at {address}: {error}"))
}

/// Removes the socket at the end.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

/// A socket at a path. A socket that a server has left behind is replaced; one that a server listens on is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen at '{}': {error}", path.display()))
    };
    let bound = match UnixListener::bind(path) {
        // Anything else than a socket stays where it is.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_socket(path) => {
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).and_then(|()| UnixListener::bind(path))
                }
                _ => Err(error),
            }
        }
        bound => bound,
    };
    let listener = bound.map_err(named)?;
    // Clients of other users would read and write with the rights of this process.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(listener)
}

enum Listener {
    Unix(
        Async<UnixListener>,
        #[allow(dead_code, reason = "removes the socket when it is dropped")] SocketFile,
    ),
    Tcp(Async<TcpListener>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Client> {
        Ok(match self {
            Self::Unix(listener, _) => Client::Unix(listener.accept().await?.0.into_inner()?),
            Self::Tcp(listener) => Client::Tcp(listener.accept().await?.0.into_inner()?),
        })
    }
}

/// A server that listens.
pub struct Server {
    exports: Arc<Exports>,
    tls: Option<Arc<ServerConfig>>,
    listener: Listener,
}

/// A future of the end of the server, for each connection.
type Stop = Shared<Pin<Box<dyn Future<Output = ()> + Send>>>;

impl Server {
    /// The address that clients connect to, as a URI of the NBD project.
    pub fn uri(&self) -> String {
        let scheme = if self.tls.is_some() { "nbds" } else { "nbd" };
        match &self.listener {
            Listener::Unix(_, path) => {
                let path = std::path::absolute(&path.0).unwrap_or_else(|_| path.0.clone());
                format!("{scheme}+unix:///?socket={}", path.display())
            }
            Listener::Tcp(listener) => match listener.get_ref().local_addr() {
                Ok(address) => format!("{scheme}://{address}"),
                Err(_) => scheme.to_owned(),
            },
        }
    }

    /// Serves clients until `stop` resolves, each on a thread of its own. Then no further request is taken, and the requests in
    /// flight are answered.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        let stop: Stop = (Box::pin(stop) as Pin<Box<dyn Future<Output = ()> + Send>>).shared();
        let mut connections: Vec<blocking::Task<()>> = Vec::new();
        loop {
            let accepted = or(async { Some(self.listener.accept().await) }, async {
                stop.clone().await;
                None
            });
            let client = match accepted.await {
                None => break,
                Some(Ok(client)) => client,
                Some(Err(error)) => {
                    tracing::warn!("a connection cannot be accepted: {error}");
                    Timer::after(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            connections.retain(|connection| !connection.is_finished());
            if connections.len() >= MAX_CONNECTIONS {
                tracing::warn!("a connection is refused: there are {MAX_CONNECTIONS}");
                continue;
            }
            let (exports, tls, stop) = (self.exports.clone(), self.tls.clone(), stop.clone());
            connections.push(blocking::unblock(move || {
                if let Err(error) = serve(client, &exports, tls, stop) {
                    tracing::info!("a connection ended: {error}");
                }
            }));
        }
        for connection in connections {
            connection.await;
        }
    }
}

/// Serves a client on this thread.
fn serve(client: Client, exports: &Exports, tls: Option<Arc<ServerConfig>>, stop: Stop) -> io::Result<()> {
    let (on_this_thread, socket) = Loop::new(client)?;
    let handshake = async {
        let mut stream: AnyStream = Box::new(socket);
        let no_zeroes = greet(&mut stream).await?;
        let security = if tls.is_some() { Security::TlsRequired } else { Security::Plain };
        let mut chosen = negotiate(&mut stream, exports, security, no_zeroes).await?;
        if let (Chosen::Tls, Some(config)) = (&chosen, tls) {
            stream = Box::new(TlsAcceptor::from(config).accept(stream).await?);
            chosen = negotiate(&mut stream, exports, Security::Tls, no_zeroes).await?;
        }
        Ok((stream, chosen))
    };
    let stopped = async {
        stop.clone().await;
        Err(io::Error::new(io::ErrorKind::Interrupted, "the server ends"))
    };
    let limit = Instant::now() + HANDSHAKE_LIMIT;
    let (stream, chosen) = on_this_thread
        .run(or(handshake, stopped), Some(limit))
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")))?;
    match chosen {
        Chosen::Export(export, agreed) => {
            let transmission = Transmission::new(stream, export, agreed, stop);
            on_this_thread.run(transmission.run(), None).unwrap_or(Ok(()))
        }
        Chosen::Tls | Chosen::Nothing => Ok(()),
    }
}
