//! Resolves a URL to a store and a place in it.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use pactio_sdk::{Identity, Name, OpenError, OpenMode, OpenRequest, Stat};
use reqwest::Url;

use crate::client::{Settings, client, strip_prefix, variable};
use crate::odd::reason;
use crate::versions::Versions;
use crate::web::WebStore;

/// A store and its settings.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The same store for uploads, which may take longer.
    pub(crate) uploads: Arc<dyn ObjectStore>,
    /// Ranges that are at most this number of bytes apart are read as one.
    pub(crate) gap: u64,
    pub(crate) part: usize,
    /// A read that fails is tried again for this time, as long as nothing of it arrives.
    pub(crate) retry_for: Duration,
    /// A watched folder is listed again after this time.
    pub(crate) poll: Duration,
    /// The version that is read, instead of the current one.
    pub(crate) version: Option<String>,
    /// Lists all versions of the objects in a folder, and opens them by these names.
    pub(crate) versions: Option<Arc<Versions>>,
    /// The media type of an object that is written.
    pub(crate) content_type: Option<String>,
    /// Reads need not be of one version.
    pub(crate) unversioned: bool,
    /// The store, if it is a web server.
    pub(crate) web: Option<Arc<WebStore>>,
    /// The address of the store and the bucket; `None` for files of this system.
    address: Option<Arc<str>>,
}

impl Store {
    /// It is a folder of this system.
    pub(crate) fn is_local(&self) -> bool {
        self.address.is_none()
    }

    /// The store has the interface of S3.
    pub(crate) fn is_s3(&self) -> bool {
        self.address.as_deref().is_some_and(|address| address.starts_with("s3"))
    }

    /// The storage that holds the bytes of a key.
    pub(crate) fn identity(&self, key: &Path) -> Option<Identity> {
        match &self.address {
            Some(address) => Some(Identity::stored(&**address, key.as_ref())),
            None => Stat::of_file(&std::fs::metadata(format!("/{key}")).ok()?).identity,
        }
    }
}

/// A place in a store.
pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) key: String,
}

/// Checks the options of a request, and gives the store, with its clients, and the key.
pub(crate) fn place(request: &OpenRequest<'_>) -> Result<Place, OpenError> {
    let settings = Settings::of(request)?;
    refuse_unusable(&settings)?;
    let lists_versions = request.flag_option("versions")?;
    if lists_versions
        && (settings.request.option("version").is_some() || request.mode().contains(OpenMode::WRITE))
    {
        let text = "versions=true lists versions for reading; leave version= out, and open the object itself to write it";
        return Err(OpenError::invalid_input(text));
    }
    let part = request.size_option("part")?.unwrap_or(8 << 20);
    let made = client(&settings, settings.timeout)?;
    // The client measures the time from the first byte sent to the first byte of the answer. The time to send a part is
    // added.
    let uploads = match request.mode().contains(OpenMode::WRITE) {
        true => client(&settings, settings.timeout + Duration::from_secs(part / SLOWEST))?.objects(),
        false => made.objects(),
    };
    let store = Store {
        objects: made.objects(),
        uploads,
        web: made.web(),
        gap: request.size_option("gap")?.unwrap_or(64 << 10),
        part: part as usize,
        retry_for: settings.retry_for,
        poll: request.duration_option("poll")?.unwrap_or(Duration::from_secs(10)),
        version: request.option("version").map(str::to_owned),
        versions: made.versions().filter(|_| lists_versions),
        content_type: request.option("content-type").map(str::to_owned),
        unversioned: request.flag_option("unversioned")?,
        address: identity_address(&settings).map(Arc::from),
    };
    let target = request.target();
    let key = match request.scheme() {
        // The name is for messages only.
        _ if store.web.as_ref().is_some_and(|web| web.is_link()) => "link".to_owned(),
        "local" => absolute(target)?,
        scheme => {
            let (bucket, key) = split(target);
            if key.starts_with('/') {
                let text = format!(
                    "the key '{key}' begins with a slash, which cannot be asked for; write {scheme}:{bucket}/key"
                );
                return Err(OpenError::invalid_input(text));
            }
            key.to_owned()
        }
    };
    Ok(Place { store, key })
}

/// A text that is the same for all requests of one store and bucket, for the identity of objects; `None` for files of this
/// system.
fn identity_address(settings: &Settings<'_>) -> Option<String> {
    let request = settings.request;
    let scheme = request.scheme();
    if scheme == "local" {
        return None;
    }
    let (bucket, _key) = split(request.target());
    let (_user, bucket) = login(bucket);
    // A link is another object for each path; its query may be a signature.
    if let Some(link) = request.option("link").and_then(|link| Url::parse(link.trim()).ok()) {
        return Some(format!("{} {}", link.origin().ascii_serialization(), link.path()));
    }
    match &settings.endpoint {
        Some((_, endpoint)) => Some(format!("{scheme} {} {bucket}", endpoint.trim_end_matches('/'))),
        None => {
            // The client reads the variable by itself.
            let set = || (scheme == "az").then(|| variable("AZURE_STORAGE_ACCOUNT_NAME")).flatten();
            let account = settings.account().map(str::to_owned).or_else(set);
            let account = account.map(|account| format!(" {account}")).unwrap_or_default();
            Some(format!("{scheme}{account} {bucket}"))
        }
    }
}

/// An upload that is slower than this, in bytes per second and part, is given up.
const SLOWEST: u64 = 32 << 10;

/// Refuses values on which the client would panic, or that it would send to an unintended place.
fn refuse_unusable(settings: &Settings<'_>) -> Result<(), OpenError> {
    let request = settings.request;
    let variable = |name: &str| env::var(name).ok().map(|value| (name.to_owned(), value));
    let option = |name: &str| request.option(name).map(|value| (name.to_owned(), value.to_owned()));
    if let Some((name, value)) = &settings.endpoint {
        let host = ["http://", "https://"].into_iter().find_map(|scheme| strip_prefix(value, scheme));
        let is_host = host.is_some_and(|host| {
            !host.is_empty() && !host.starts_with('/') && host.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !is_host {
            let text = format!("{name} is '{value}', which is no address; write it as http://127.0.0.1:9000");
            return Err(OpenError::invalid_input(text));
        }
    }
    let secrets = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    for (name, value) in secrets
        .into_iter()
        .filter_map(|name| variable(name).filter(|_| request.scheme() == "s3"))
        .chain(["key-id", "token", "region", "account"].into_iter().filter_map(option))
    {
        if value.chars().any(char::is_control) {
            let text = format!("{name} has a line break or another control character in it");
            return Err(OpenError::invalid_input(text));
        }
    }
    let bucket = split(request.target()).0;
    // Excludes characters that would end the name within an address; each store has further rules for names.
    let is_bucket = |byte: u8| byte.is_ascii_graphic() && !b"?#%@\\\"<>".contains(&byte);
    if matches!(request.scheme(), "s3" | "gs" | "az") && !bucket.bytes().all(is_bucket) {
        let text = format!(
            "'{bucket}' is no name of a bucket: it has blanks, or characters that mean something else in an address"
        );
        return Err(OpenError::invalid_input(text));
    }
    Ok(())
}

/// Splits a target into a bucket and a key; two slashes in front are accepted.
pub(crate) fn split(target: &str) -> (&str, &str) {
    let target = target.strip_prefix("//").unwrap_or(target);
    target.split_once('/').unwrap_or((target, ""))
}

/// The user and password of a web server's address, and the address without them.
pub(crate) fn login(bucket: &str) -> (Option<&str>, &str) {
    bucket.rsplit_once('@').map_or((None, bucket), |(login, host)| (Some(login), host))
}

/// The key of a path: the absolute path without the slash in front. A slash at its end stays, since it names a folder.
fn absolute(target: &str) -> Result<String, OpenError> {
    if target.is_empty() {
        return Err(OpenError::invalid_input("no path is given; write local:/path/to/file"));
    }
    let path = std::path::absolute(target)?;
    let path = path.to_str().ok_or_else(|| OpenError::invalid_input("the path is not UTF-8"))?;
    let slash = if target.ends_with('/') { "/" } else { "" };
    Ok(format!("{}{slash}", path.trim_start_matches('/').trim_end_matches('/')))
}

/// A key in the form that stores take. The slash at its end, which only says that a folder is meant, is dropped.
pub(crate) fn path(key: &str) -> Result<Path, OpenError> {
    Path::parse(key).map_err(|_| {
        OpenError::invalid_input(format!("'{}' is no key: {}", Name::show(key.as_bytes()), reason(key)))
    })
}
