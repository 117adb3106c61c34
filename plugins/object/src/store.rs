//! Resolves a URL to a store and a place in it.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use pactio_sdk::{Identity, OpenError, OpenMode, OpenRequest, Stat};
use percent_encoding::percent_decode_str;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::failure::cannot_open;

/// A store and its settings.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The same store for uploads, which may take longer.
    pub(crate) uploads: Arc<dyn ObjectStore>,
    /// Ranges that are at most this number of bytes apart are read as one.
    pub(crate) gap: u64,
    pub(crate) part: usize,
    pub(crate) retries: u32,
    /// Reads need not be of one version.
    pub(crate) unversioned: bool,
    /// The store is a web server. Most web servers list nothing.
    pub(crate) is_web: bool,
    /// The address of the store and the bucket; `None` for files of this system.
    address: Option<Arc<str>>,
}

impl Store {
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

pub(crate) fn place(request: &OpenRequest<'_>) -> Result<Place, OpenError> {
    refuse_unusable(request)?;
    let retries = request.parsed_option("retries", "a whole number")?.unwrap_or(3);
    let timeout = request.duration_option("timeout")?.unwrap_or(Duration::from_secs(30));
    let part = request.size_option("part")?.unwrap_or(8 << 20);
    let objects = client(request, timeout, retries)?;
    // The client measures the time from the first byte sent to the first byte of the answer.
    let uploads = match request.mode().contains(OpenMode::WRITE) {
        true => client(request, timeout + Duration::from_secs(part / SLOWEST), retries)?,
        false => objects.clone(),
    };
    let store = Store {
        objects,
        uploads,
        gap: request.size_option("gap")?.unwrap_or(64 << 10),
        part: part as usize,
        retries,
        unversioned: request.flag_option("unversioned")?,
        is_web: matches!(request.scheme(), "http" | "https"),
        address: address(request).map(Arc::from),
    };
    let target = request.target();
    let key = match request.scheme() {
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

/// The address of a store and its bucket, as far as they distinguish one store from another; `None` for files of this system.
fn address(request: &OpenRequest<'_>) -> Option<String> {
    let (scheme, bucket) = (request.scheme(), login(split(request.target()).0).1);
    let variable = endpoint_variable(request).map(|(_, url)| url);
    match request.option("endpoint").or(variable.as_deref()) {
        _ if scheme == "local" => None,
        Some(endpoint) => Some(format!("{scheme} {} {bucket}", endpoint.trim_end_matches('/'))),
        None => {
            let account = request.option("account").map(|account| format!(" {account}")).unwrap_or_default();
            Some(format!("{scheme}{account} {bucket}"))
        }
    }
}

/// An upload that is slower than this, in bytes per second and part, is given up.
const SLOWEST: u64 = 32 << 10;

/// Refuses values on which the client would panic, or that it would send to an unintended place.
fn refuse_unusable(request: &OpenRequest<'_>) -> Result<(), OpenError> {
    let variable = |name: &str| env::var(name).ok().map(|value| (name.to_owned(), value));
    let option = |name: &str| request.option(name).map(|value| (name.to_owned(), value.to_owned()));
    for (name, value) in option("endpoint").into_iter().chain(endpoint_variable(request)) {
        let host = ["http://", "https://"].into_iter().find_map(|scheme| strip_prefix(&value, scheme));
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

/// The environment variable with the address of S3, unless an option gives the address.
fn endpoint_variable(request: &OpenRequest<'_>) -> Option<(String, String)> {
    if request.scheme() != "s3" || request.option("endpoint").is_some() {
        return None;
    }
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter();
    let set = |name: &str| env::var(name).ok().filter(|url| !url.is_empty());
    names.filter_map(|name| Some((name.to_owned(), set(name)?))).next()
}

/// Removes a scheme, in upper or lower case, from the front of a URL.
fn strip_prefix<'u>(url: &'u str, scheme: &str) -> Option<&'u str> {
    let (front, rest) = url.split_at_checked(scheme.len())?;
    front.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Most clients that are kept for further devices. A client in use is kept by its devices as well.
const MAX_KEPT_CLIENTS: usize = 32;

/// A client is not given to further devices after this time: files with credentials and certificates may have changed.
const MAX_CLIENT_AGE: Duration = Duration::from_secs(60);

/// A client that further devices with the same settings can use, with its connections.
struct Kept {
    settings: Vec<String>,
    made: Instant,
    client: Arc<dyn ObjectStore>,
}

/// All values that a client is made of, but the content of files.
fn settings(request: &OpenRequest<'_>, timeout: Duration, retries: u32) -> Vec<String> {
    const OPTIONS: [&str; 7] = ["endpoint", "region", "account", "key-id", "key", "token", "anonymous"];
    let mut settings = vec![
        request.scheme().to_owned(),
        split(request.target()).0.to_owned(),
        format!("{timeout:?} {retries}"),
    ];
    settings.extend(OPTIONS.map(|name| format!("{name}={:?}", request.option(name))));
    let prefixes = ["AWS_", "GOOGLE_", "AZURE_", "SSL_CERT_"];
    let is_read = |name: &str| {
        prefixes.iter().any(|prefix| name.starts_with(prefix))
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    // The names and values that are no text are no settings of a client.
    let mut variables: Vec<String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_read(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    variables.sort_unstable();
    settings.append(&mut variables);
    settings
}

/// A client for the store of a request, which may be one that other devices use. An answer, or its next bytes, may take
/// `timeout`.
fn client(
    request: &OpenRequest<'_>,
    timeout: Duration,
    retries: u32,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let settings = settings(request, timeout, retries);
    let found = {
        let mut kept = kept();
        kept.retain(|kept| kept.made.elapsed() < MAX_CLIENT_AGE);
        let found = kept.iter().position(|kept| kept.settings == settings);
        found.map(|index| {
            // The last one is the one that was used last.
            kept[index..].rotate_left(1);
            kept[kept.len() - 1].client.clone()
        })
    };
    if let Some(client) = found {
        return Ok(client);
    }
    let client = new_client(request, timeout, retries)?;
    let mut kept = kept();
    if kept.len() >= MAX_KEPT_CLIENTS {
        kept.remove(0);
    }
    kept.push(Kept { settings, made: Instant::now(), client: client.clone() });
    Ok(client)
}

/// Makes a client.
fn new_client(
    request: &OpenRequest<'_>,
    timeout: Duration,
    retries: u32,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let (scheme, target) = (request.scheme(), request.target());
    let retry = RetryConfig {
        max_retries: retries as usize,
        retry_timeout: timeout.saturating_mul(retries + 1),
        ..RetryConfig::default()
    };
    let endpoint = request.option("endpoint");
    let variable = endpoint_variable(request).map(|(_, url)| url);
    let plain = scheme == "http"
        || endpoint
            .or(variable.as_deref())
            .is_some_and(|endpoint| strip_prefix(endpoint, "http://").is_some());
    // Applies to all clients of this library's own copy of rustls. Later calls keep the first choice, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(timeout)
        .with_connect_timeout(timeout.min(Duration::from_secs(10)))
        .with_allow_http(plain);
    let (bucket, _) = split(target);
    let anonymous = request.flag_option("anonymous")?;
    let (key_id, secret, token) = (request.option("key-id"), request.option("key"), request.option("token"));
    let needs = |what: &str| {
        if bucket.is_empty() {
            return Err(OpenError::invalid_input(format!("no {what} is named; write {scheme}:{what}/key")));
        }
        Ok(())
    };
    let built: Result<Arc<dyn ObjectStore>, object_store::Error> = match scheme {
        "s3" => {
            needs("bucket")?;
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_client_options(client)
                .with_allow_http(plain);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(region) = request.option("region") {
                builder = builder.with_region(region);
            }
            if let Some(key_id) = key_id {
                builder = builder.with_access_key_id(key_id);
            }
            if let Some(secret) = secret {
                builder = builder.with_secret_access_key(secret);
            }
            if let Some(token) = token {
                builder = builder.with_token(token);
            }
            if anonymous {
                builder = builder.with_skip_signature(true);
            }
            builder.build().map(|store| Arc::new(store) as _)
        }
        "gs" => {
            needs("bucket")?;
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_client_options(client);
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint);
            }
            if let Some(secret) = secret {
                builder = builder.with_service_account_key(secret);
            }
            if let Some(token) = token {
                builder = builder.with_bearer_token(token);
            }
            if anonymous {
                builder = builder.with_skip_signature(true);
            }
            builder.build().map(|store| Arc::new(store) as _)
        }
        "az" => {
            needs("container")?;
            let account = request.option("account");
            if account.is_none() && env::var_os("AZURE_STORAGE_ACCOUNT_NAME").is_none() {
                let text = "no account is named; give account=NAME or set AZURE_STORAGE_ACCOUNT_NAME";
                return Err(OpenError::invalid_input(text));
            }
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_retry(retry)
                .with_client_options(client)
                .with_allow_http(plain);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.to_owned());
            }
            if let Some(account) = account {
                builder = builder.with_account(account);
            }
            if let Some(secret) = secret {
                builder = builder.with_access_key(secret);
            }
            if let Some(token) = token {
                builder = builder.with_bearer_token_authorization(token);
            }
            if anonymous {
                builder = builder.with_skip_signature(true);
            }
            builder.build().map(|store| Arc::new(store) as _)
        }
        "http" | "https" => {
            needs("host")?;
            let (login, host) = login(bucket);
            let client = match login {
                Some(login) => client.with_default_headers(authorization(login)?),
                None => client,
            };
            HttpBuilder::new()
                .with_url(format!("{scheme}://{host}"))
                .with_retry(retry)
                .with_client_options(client)
                .build()
                .map(|store| Arc::new(store) as _)
        }
        _ => Ok(Arc::new(LocalFileSystem::new()) as _),
    };
    built.map_err(|error| cannot_open(&error))
}

/// Splits a target into a bucket and a key; two slashes in front are accepted.
fn split(target: &str) -> (&str, &str) {
    let target = target.strip_prefix("//").unwrap_or(target);
    target.split_once('/').unwrap_or((target, ""))
}

/// The user and password of a web server's address, and the address without them.
fn login(bucket: &str) -> (Option<&str>, &str) {
    bucket.rsplit_once('@').map_or((None, bucket), |(login, host)| (Some(login), host))
}

/// The header for a user and password. They are not left in the URL, which the client's records and errors show.
fn authorization(login: &str) -> Result<HeaderMap, OpenError> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let plain = [percent_decode_str(user).collect::<Vec<_>>(), percent_decode_str(password).collect()];
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(plain.join(&b':'))))
        .map_err(|_| OpenError::invalid_input("the user or the password cannot be sent"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn absolute(target: &str) -> Result<String, OpenError> {
    if target.is_empty() {
        return Err(OpenError::invalid_input("no path is given; write local:/path/to/file"));
    }
    let path = std::path::absolute(target)?;
    let path = path.to_str().ok_or_else(|| OpenError::invalid_input("the path is not UTF-8"))?;
    let slash = if target.ends_with('/') { "/" } else { "" };
    Ok(format!("{}{slash}", path.trim_start_matches('/').trim_end_matches('/')))
}

/// A key in the form that stores take.
pub(crate) fn path(key: &str) -> Result<Path, OpenError> {
    Path::parse(key.trim_end_matches('/'))
        .map_err(|error| OpenError::invalid_input(format!("'{key}' is no key: {error}")))
}
