//! The server: its exports, its socket, and its connections.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::future::or;
use futures_rustls::TlsAcceptor;
use futures_util::future::{FutureExt, Shared};
use pactio::{Capability, Cause, Device, Error, OpenOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustls::ServerConfig;

use crate::export::Export;
use crate::handshake::{Chosen, Security, greet, negotiate};
use crate::stream::{AnyStream, Client, Loop};
use crate::transmission::Transmission;

/// The longest time that a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);

/// The longest time that a connection may take to end after the server was told to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Characters of a path that a URI has in another form.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;

/// The pause after a connection could not be accepted, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most names of a tree that are listed, with its folders.
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
        let may_write = *may_write;
        let device = tree.opening(name, OpenOptions::new().read(true).write(may_write)).await?;
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
        let (mut folders, mut seen) = (vec![String::new()], 0);
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
                seen += 1;
                if seen >= MAX_NAMES {
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
                let (socket, file) = bind_unix(path).map_err(failure)?;
                Listener::Unix(Async::new(socket).map_err(failure)?, file)
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

/// A socket in the file system, which is removed at the end.
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another server may have the path by then.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_some_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of a socket.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let there = fs::symlink_metadata(path).ok()?;
    there.file_type().is_socket().then(|| (there.dev(), there.ino()))
}

/// Listens at a path. Replaces a socket that a server has left behind, but no socket that a server listens on, and no other file.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let named = |error| named(&format_args!("'{}'", path.display()), error);
    // Under another name at first: the socket has its mode before a client can connect.
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    let listener = UnixListener::bind(&own).map_err(named)?;
    let bound =
        fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).and_then(|()| take_path(&own, path));
    let identity = identity(&own);
    let _ = fs::remove_file(&own);
    bound.map_err(named)?;
    let identity = identity.ok_or_else(|| named(io::ErrorKind::NotFound.into()))?;
    Ok((listener, SocketFile { path: path.to_owned(), identity }))
}

/// Gives a socket its path, unless another one is in use there.
fn take_path(own: &Path, path: &Path) -> io::Result<()> {
    let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
    match fs::hard_link(own, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Anything else than a socket stays where it is.
            let old = identity(path).ok_or_else(in_use)?;
            let is_left_behind = UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !is_left_behind || identity(path) != Some(old) {
                return Err(in_use());
            }
            fs::remove_file(path)?;
            fs::hard_link(own, path)
        }
        linked => linked,
    }
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
    /// The address that clients connect to, as a URI of the NBD project. If there is one export, the URI names it.
    pub fn uri(&self) -> String {
        let scheme = if self.tls.is_some() { "nbds" } else { "nbd" };
        let name = match (self.exports.devices.len(), self.exports.devices.keys().next()) {
            (1, Some(name)) => percent_encode(name.as_bytes(), NON_ALPHANUMERIC).to_string(),
            _ => String::new(),
        };
        match &self.listener {
            Listener::Unix(_, file) => {
                let path = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
                let path = percent_encode(path.as_os_str().as_bytes(), PATH);
                format!("{scheme}+unix:///{name}?socket={path}")
            }
            Listener::Tcp(listener) => match listener.get_ref().local_addr() {
                Ok(address) => format!("{scheme}://{address}/{name}").trim_end_matches('/').to_owned(),
                Err(_) => scheme.to_owned(),
            },
        }
    }

    /// Serves clients until `stop` resolves, each on a thread of its own. Then no further request is taken, and the requests in
    /// flight are answered.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        let Self { exports, tls, listener } = self;
        let stop: Stop = (Box::pin(stop) as Pin<Box<dyn Future<Output = ()> + Send>>).shared();
        // Each connection has a sender, and drops it at its end.
        let (alive, ended) = async_channel::bounded::<()>(1);
        loop {
            let stopped = async {
                stop.clone().await;
                None
            };
            let client = match or(stopped, async { Some(listener.accept().await) }).await {
                None => break,
                Some(Ok(client)) => client,
                Some(Err(error)) => {
                    tracing::warn!("a connection cannot be accepted: {error}");
                    Timer::after(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if alive.sender_count() > MAX_CONNECTIONS {
                tracing::warn!("a connection is refused: there are {MAX_CONNECTIONS}");
                continue;
            }
            let (exports, tls, stop, alive) = (exports.clone(), tls.clone(), stop.clone(), alive.clone());
            let thread = thread::Builder::new().name("pactio-nbd".to_owned()).spawn(move || {
                if let Err(error) = serve(client, &exports, tls, stop) {
                    tracing::info!("a connection ended: {error}");
                }
                drop(alive);
            });
            if let Err(error) = thread {
                tracing::warn!("a connection is refused: no thread can be started: {error}");
            }
        }
        // From now on, clients are refused, and another server may have the address.
        drop(listener);
        drop(alive);
        let _ = ended.recv().await;
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
            let transmission = Transmission::new(stream, export.clone(), agreed, stop.clone()).run();
            // A client that takes no replies, or a device that does not answer, does not hold up the end of the server.
            let late = async {
                stop.await;
                Timer::after(END_LIMIT).await;
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the server ends, and the connection did not end in time",
                ))
            };
            let served = on_this_thread.run(or(transmission, late), None).unwrap_or(Ok(()));
            if !export.is_read_only {
                let limit = Instant::now() + END_LIMIT;
                match on_this_thread.run(export.device.flush(), Some(limit)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::error!("written bytes may be lost: {error}"),
                    None => tracing::error!(
                        "written bytes may be lost: '{}' was not flushed in time",
                        export.device.url()
                    ),
                }
            }
            served
        }
        Chosen::Tls | Chosen::Nothing => Ok(()),
    }
}
