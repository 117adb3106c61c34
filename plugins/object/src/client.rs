//! Clients of stores: their settings, where the settings come from, and the clients that devices share.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, S3CopyIfNotExists};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};
use pactio_sdk::{OpenError, OpenRequest};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::connection::Connector;
use crate::failure::cannot_open;
use crate::profile::Profile;
use crate::store::{login, split};
use crate::sums::WANTED;
use crate::versions::Versions;
use crate::web::{Server, WebStore};

/// Most clients that are kept for further devices. A client in use is kept by its devices as well.
const MAX_KEPT_CLIENTS: usize = 32;

/// A client is not given to further devices after this time: files with credentials and certificates may have changed.
const MAX_CLIENT_AGE: Duration = Duration::from_secs(60);

/// A client that further devices with the same settings can use, with its connections.
struct Kept {
    values: Vec<String>,
    made: Instant,
    client: Made,
}

/// A client.
#[derive(Clone)]
pub(crate) enum Made {
    Store(Arc<dyn ObjectStore>),
    S3(Arc<AmazonS3>, Arc<Versions>),
    Web(Arc<WebStore>),
}

impl Made {
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        match self {
            Self::Store(store) => store.clone(),
            Self::S3(store, _) => store.clone(),
            Self::Web(web) => web.clone(),
        }
    }

    pub(crate) fn web(&self) -> Option<Arc<WebStore>> {
        match self {
            Self::Store(_) | Self::S3(..) => None,
            Self::Web(web) => Some(web.clone()),
        }
    }

    pub(crate) fn versions(&self) -> Option<Arc<Versions>> {
        match self {
            Self::S3(_, versions) => Some(versions.clone()),
            Self::Store(_) | Self::Web(_) => None,
        }
    }
}

/// The settings of a request for the client that it needs.
pub(crate) struct Settings<'r> {
    pub(crate) request: &'r OpenRequest<'r>,
    profile: Profile,
    /// The address of the service and the place that names it, unless it is the provider's own.
    pub(crate) endpoint: Option<(&'static str, String)>,
    /// An answer, or its next bytes, may take this time.
    pub(crate) timeout: Duration,
    /// A request that fails for a while is sent again for this time.
    pub(crate) retry_for: Duration,
}

impl<'r> Settings<'r> {
    /// Reads the settings: from the options, then from the variables of the environment, then from the profile.
    pub(crate) fn of(request: &'r OpenRequest<'r>) -> Result<Self, OpenError> {
        refuse_meaningless(request)?;
        let has_keys = request.option("key-id").is_some()
            || request.flag_option("anonymous")?
            || ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"]
                .into_iter()
                .any(|name| variable(name).is_some());
        let profile = match Profile::of(request) {
            // The keys come from elsewhere, so that a profile which cannot be read is ignored, unless the option names it.
            Err(_) if has_keys && request.option("profile").is_none() => Profile::default(),
            profile => profile?,
        };
        let option = request.option("endpoint").map(|url| ("endpoint", url.to_owned()));
        let endpoint = option.or_else(|| endpoint_variable(request));
        let endpoint =
            endpoint.or_else(|| profile.endpoint.clone().map(|url| ("endpoint_url of the profile", url)));
        Ok(Self {
            request,
            profile,
            endpoint,
            timeout: request.duration_option("timeout")?.unwrap_or(Duration::from_secs(30)),
            retry_for: request.duration_option("retry-for")?.unwrap_or(Duration::from_secs(60)),
        })
    }

    /// The account of Azure.
    pub(crate) fn account(&self) -> Option<&str> {
        let is_set = variable("AZURE_STORAGE_ACCOUNT_NAME").is_some();
        self.request.option("account").or(self.profile.account.as_deref().filter(|_| !is_set))
    }

    /// The pair of keys of S3 that the profile gives, unless an option or the environment gives one.
    fn profile_keys(&self) -> Option<(&str, &str, Option<&str>)> {
        let elsewhere = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"]
            .into_iter()
            .any(|name| variable(name).is_some());
        if self.request.option("key-id").is_some() || (elsewhere && !self.profile.is_of_option) {
            return None;
        }
        Some((self.profile.key_id.as_deref()?, self.profile.key.as_deref()?, self.profile.token.as_deref()))
    }

    /// Connections without encryption are allowed: the URL or the endpoint says `http`.
    fn allows_http(&self) -> bool {
        let endpoint = self.endpoint.as_ref().map(|(_, url)| url.as_str());
        self.request.scheme() == "http" || endpoint.is_some_and(|url| strip_prefix(url, "http://").is_some())
    }

    /// Whether the client may ask a service of this machine for credentials: `metadata=true`, or a variable names one. Otherwise,
    /// the connection refuses such requests with the ways to give credentials.
    fn may_ask_for_metadata(&self) -> Result<bool, OpenError> {
        let variables: &[&str] = match self.request.scheme() {
            "s3" => &[
                "AWS_METADATA_ENDPOINT",
                "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            ],
            "gs" => &["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"],
            "az" => &["IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT"],
            _ => &[],
        };
        Ok(self.request.flag_option("metadata")? || variables.iter().any(|name| variable(name).is_some()))
    }

    /// The key under which clients are shared: requests with equal values get the same client. The content of certificates and of
    /// service accounts is not compared. `timeout` is that of the client; clients for uploads have a longer one than
    /// `self.timeout`.
    fn sharing_key(&self, timeout: Duration) -> Vec<String> {
        const OPTIONS: [&str; 11] = [
            "region",
            "account",
            "key-id",
            "key",
            "token",
            "anonymous",
            "metadata",
            "profile",
            "header",
            "link",
            "ca",
        ];
        let Profile { key_id, key, token, region, account, sas_token, .. } = &self.profile;
        let mut values = vec![
            self.request.scheme().to_owned(),
            split(self.request.target()).0.to_owned(),
            format!("{timeout:?} {:?} {:?}", self.retry_for, self.endpoint),
            format!("{:?}", [key_id, key, token, region, account, sas_token]),
        ];
        values.extend(OPTIONS.map(|name| format!("{name}={:?}", self.request.option(name))));
        // The variables that the client reads by itself.
        let prefixes = ["AWS_", "GOOGLE_", "GCE_", "AZURE_", "IDENTITY_", "SERVICE_ACCOUNT", "SSL_CERT_"];
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
        values.append(&mut variables);
        values
    }
}

/// The ways in which the credentials of a store can be given.
fn ways(scheme: &str) -> &'static str {
    match scheme {
        "s3" => {
            "give the options key-id and key, or a profile of ~/.aws with profile=NAME, or set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY; metadata=true asks the metadata service of this machine; anonymous=true does not sign requests"
        }
        "gs" => {
            "give the option key or token, or set GOOGLE_APPLICATION_CREDENTIALS, or run \
             `gcloud auth application-default login`; metadata=true asks the metadata service of this machine; \
             anonymous=true does not sign requests"
        }
        "az" => {
            "give the option key or token, or set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or write them to \
             ~/.azure/config; metadata=true asks the metadata service of this machine; anonymous=true does not sign requests"
        }
        _ => "",
    }
}

/// A variable of the environment that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Refuses options that the scheme does not have.
fn refuse_meaningless(request: &OpenRequest<'_>) -> Result<(), OpenError> {
    const OPTIONS: [(&str, &[&str]); 15] = [
        ("endpoint", &["s3", "gs", "az"]),
        ("region", &["s3"]),
        ("account", &["az"]),
        ("key-id", &["s3"]),
        ("key", &["s3", "gs", "az"]),
        ("token", &["s3", "gs", "az", "http", "https"]),
        ("profile", &["s3"]),
        ("metadata", &["s3", "gs", "az"]),
        ("anonymous", &["s3", "gs", "az"]),
        ("version", &["s3", "gs", "az"]),
        ("versions", &["s3"]),
        ("content-type", &["s3", "gs", "az", "http", "https"]),
        ("header", &["http", "https"]),
        ("link", &["http", "https"]),
        ("ca", &["s3", "gs", "az", "https"]),
    ];
    let scheme = request.scheme();
    for (name, schemes) in OPTIONS {
        if request.option(name).is_some_and(|value| value != "false") && !schemes.contains(&scheme) {
            let schemes = schemes.iter().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(", ");
            let text = format!("the option '{name}' has no meaning for {scheme}:, only for {schemes}");
            return Err(OpenError::invalid_input(text));
        }
    }
    Ok(())
}

/// A client for the store of a request, which may be one that other devices use. An answer, or its next bytes, may take
/// `timeout`.
pub(crate) fn client(settings: &Settings<'_>, timeout: Duration) -> Result<Made, OpenError> {
    static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let values = settings.sharing_key(timeout);
    let found = {
        let mut kept = kept();
        kept.retain(|kept| kept.made.elapsed() < MAX_CLIENT_AGE);
        let found = kept.iter().position(|kept| kept.values == values);
        found.map(|index| {
            // The last one is the one that was used last.
            kept[index..].rotate_left(1);
            kept[kept.len() - 1].client.clone()
        })
    };
    if let Some(client) = found {
        return Ok(client);
    }
    let client = new_client(settings, timeout)?;
    let mut kept = kept();
    if kept.len() >= MAX_KEPT_CLIENTS {
        kept.remove(0);
    }
    kept.push(Kept { values, made: Instant::now(), client: client.clone() });
    Ok(client)
}

/// What the clients of all stores have.
struct Parts<'s, 'r> {
    settings: &'s Settings<'r>,
    bucket: &'s str,
    endpoint: Option<&'s str>,
    retry: RetryConfig,
    connector: Connector,
    options: ClientOptions,
    /// The options `key-id`, `key` and `token`.
    key_id: Option<&'s str>,
    secret: Option<&'s str>,
    token: Option<&'s str>,
    /// Requests are not signed.
    anonymous: bool,
}

/// Makes a client.
fn new_client(settings: &Settings<'_>, timeout: Duration) -> Result<Made, OpenError> {
    let request = settings.request;
    let scheme = request.scheme();
    let connector = Connector {
        retry_for: settings.retry_for,
        credentials: ways(scheme),
        metadata: settings.may_ask_for_metadata()?,
    };
    // Applies to all clients of this library's own copy of rustls. Later calls keep the first choice, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = request.option("ca").map(certificates).transpose()?;
    if matches!(scheme, "http" | "https") {
        return web_client(settings, timeout, authorities.as_deref());
    }
    let (bucket, _) = split(request.target());
    let parts = Parts {
        settings,
        bucket,
        endpoint: settings.endpoint.as_ref().map(|(_, url)| url.as_str()),
        retry: RetryConfig {
            // The connection repeats requests. The client repeats only those that it alone sees to have failed.
            max_retries: if settings.retry_for.is_zero() { 0 } else { 3 },
            retry_timeout: settings.retry_for,
            ..RetryConfig::default()
        },
        connector,
        options: client_options(settings, timeout, authorities.as_deref()),
        key_id: request.option("key-id"),
        secret: request.option("key"),
        token: request.option("token"),
        anonymous: request.flag_option("anonymous")?,
    };
    let bucket_is = match scheme {
        "s3" | "gs" => Some("bucket"),
        "az" => Some("container"),
        _ => None,
    };
    if let Some(what) = bucket_is.filter(|_| bucket.is_empty()) {
        return Err(OpenError::invalid_input(format!("no {what} is named; write {scheme}:{what}/key")));
    }
    match scheme {
        "s3" => s3_client(parts),
        "gs" => google_client(parts),
        "az" => azure_client(parts),
        _ => Ok(Made::Store(Arc::new(LocalFileSystem::new()))),
    }
}

/// How a client connects: its time limits, the certificates that it trusts, and the headers of its requests.
fn client_options(settings: &Settings<'_>, timeout: Duration, authorities: Option<&[u8]>) -> ClientOptions {
    // Asks for the check sums of objects that are read. A client for uploads is told by its longer timeout, and needs none.
    let is_for_reads = timeout == settings.timeout;
    let checksum_header = (settings.request.scheme() == "s3" && is_for_reads).then_some(WANTED);
    let options = ClientOptions::new()
        .with_default_headers(HeaderMap::from_iter(checksum_header))
        .with_timeout_disabled()
        .with_read_timeout(timeout)
        .with_connect_timeout(timeout.min(Duration::from_secs(10)))
        .with_allow_http(settings.allows_http());
    let certificates =
        authorities.into_iter().flat_map(|pem| Certificate::from_pem_bundle(pem).into_iter().flatten());
    certificates.fold(options, ClientOptions::with_root_certificate)
}

/// A client of S3. The options come before the profile, and both before the environment.
fn s3_client(parts: Parts<'_, '_>) -> Result<Made, OpenError> {
    let Parts { settings, bucket, endpoint, retry, connector, options, key_id, secret, token, anonymous } =
        parts;
    // The client takes the name as it is into the address. A bucket of a tenant of Ceph has a colon: `tenant:bucket`.
    let bucket = bucket.replace(':', "%3A");
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_client_options(options.clone())
        .with_http_connector(connector.clone())
        .with_allow_http(settings.allows_http());
    if builder.get_config_value(&AmazonS3ConfigKey::CopyIfNotExists).is_none() {
        let condition = S3CopyIfNotExists::Header("if-none-match".to_owned(), "*".to_owned());
        builder = builder.with_copy_if_not_exists(condition);
    }
    // A pair of keys goes with its own token, and with no other one of the environment.
    let keys =
        key_id.zip(secret).map(|(key_id, key)| (key_id, key, token)).or_else(|| settings.profile_keys());
    if let Some((key_id, key, token)) = keys {
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: key.to_owned(),
            token: token.map(str::to_owned),
        })));
    }
    if let Some(endpoint) = endpoint {
        // The variable of the environment for this service would come before a general one.
        builder = builder.with_endpoint(endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let profile_region = || {
        let elsewhere = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().any(|name| variable(name).is_some());
        settings.profile.region.as_deref().filter(|_| !elsewhere || settings.profile.is_of_option)
    };
    if let Some(region) = settings.request.option("region").or_else(profile_region) {
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
    Versions::client(builder, connector, &options).map_err(|error| cannot_open(&error))
}

/// A client of Google's store.
fn google_client(parts: Parts<'_, '_>) -> Result<Made, OpenError> {
    let Parts { bucket, endpoint, retry, connector, options, secret, token, anonymous, .. } = parts;
    // Credentials of the environment would come before a token or a key of the options, or beside them.
    let builder = match secret.or(token) {
        Some(_) => GoogleCloudStorageBuilder::new(),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    let mut builder = builder
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_http_connector(connector)
        .with_client_options(options);
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
    builder.build().map(|store| Made::Store(Arc::new(store))).map_err(|error| cannot_open(&error))
}

/// A client of Azure's store. The options come before the environment, and both before the profile.
fn azure_client(parts: Parts<'_, '_>) -> Result<Made, OpenError> {
    let Parts { settings, bucket, endpoint, retry, connector, options, secret, token, anonymous, .. } = parts;
    let account = settings.account();
    if account.is_none() && variable("AZURE_STORAGE_ACCOUNT_NAME").is_none() {
        let text = "no account is named; give account=NAME or set AZURE_STORAGE_ACCOUNT_NAME";
        return Err(OpenError::invalid_input(text));
    }
    let builder = match secret.or(token) {
        Some(_) => azure_without_credentials(),
        None => MicrosoftAzureBuilder::from_env(),
    };
    let mut builder = builder
        .with_container_name(bucket)
        .with_retry(retry)
        .with_http_connector(connector)
        .with_client_options(options)
        .with_allow_http(settings.allows_http());
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.to_owned());
    }
    if let Some(account) = account {
        builder = builder.with_account(account);
    }
    const KEYS: [&str; 8] = [
        "AZURE_STORAGE_MASTER_KEY",
        "AZURE_STORAGE_TOKEN",
        "AZURE_STORAGE_CLIENT_ID",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_CLIENT_ID",
    ];
    // Credentials of the environment come before those of the profile.
    if KEYS.into_iter().all(|name| variable(name).is_none()) {
        let Profile { key, sas_token, .. } = &settings.profile;
        if let Some(key) = key {
            builder = builder.with_access_key(key);
        } else if let Some(token) = sas_token {
            builder = builder.with_config(AzureConfigKey::SasKey, token);
        }
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
    builder.build().map(|store| Made::Store(Arc::new(store))).map_err(|error| cannot_open(&error))
}

/// The settings of Azure in the environment, without credentials: some of those would come before a key of the options.
fn azure_without_credentials() -> MicrosoftAzureBuilder {
    use AzureConfigKey::{AccountName, Endpoint, UseEmulator, UseFabricEndpoint};
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        if let Ok(key) = name.to_ascii_lowercase().parse()
            && name.starts_with("AZURE_")
            && matches!(key, AccountName | Endpoint | UseEmulator | UseFabricEndpoint)
        {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// The environment variable with the address of S3, unless an option gives the address.
fn endpoint_variable(request: &OpenRequest<'_>) -> Option<(&'static str, String)> {
    if request.scheme() != "s3" || request.option("endpoint").is_some() {
        return None;
    }
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter();
    names.filter_map(|name| Some((name, variable(name)?))).next()
}

/// Removes a scheme, in upper or lower case, from the front of a URL.
pub(crate) fn strip_prefix<'u>(url: &'u str, scheme: &str) -> Option<&'u str> {
    let (front, rest) = url.split_at_checked(scheme.len())?;
    front.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The certificates of a file, as text.
fn certificates(path: &str) -> Result<Vec<u8>, OpenError> {
    let pem = std::fs::read(path).map_err(|error| {
        let text = format!("the certificates {path}: {error}");
        OpenError::new(error.into(), text)
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(pem),
        _ => Err(OpenError::invalid_input(format!(
            "the certificates {path}: there is none in PEM form in the file"
        ))),
    }
}

/// Makes a client for a web server.
fn web_client(
    settings: &Settings<'_>,
    timeout: Duration,
    authorities: Option<&[u8]>,
) -> Result<Made, OpenError> {
    let request = settings.request;
    let (scheme, target) = (request.scheme(), request.target());
    let parse =
        |text: &str| Url::parse(text).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    let (mut login, host) = login(split(target).0);
    let mut link = match request.option("link") {
        Some(_) if !target.is_empty() => {
            return Err(OpenError::invalid_input(format!(
                "link= is the whole address; write {scheme}:?link=env:NAME"
            )));
        }
        Some(link) => {
            let link = parse(link.trim()).filter(|url| url.scheme() == scheme);
            let text =
                || OpenError::invalid_input(format!("link= is no address that begins with {scheme}://"));
            Some(link.ok_or_else(text)?)
        }
        None => None,
    };
    let mut link_login = None;
    if let Some(link) = link.as_mut().filter(|link| !link.username().is_empty() || link.password().is_some())
    {
        link_login = Some(format!("{}:{}", link.username(), link.password().unwrap_or_default()));
        // The address may be shown; user and password become a header.
        let _ = (link.set_username(""), link.set_password(None));
    }
    login = login.or(link_login.as_deref());
    let base = match &link {
        Some(link) => link.join("/").ok(),
        None if host.is_empty() => {
            return Err(OpenError::invalid_input(format!("no host is named; write {scheme}:host/key")));
        }
        None => parse(&format!("{scheme}://{host}/")),
    };
    let base = base.ok_or_else(|| OpenError::invalid_input(format!("'{host}' is no name of a host")))?;
    let mut secrets = own_headers(request.option("header").unwrap_or_default())?;
    match (login, request.option("token")) {
        (Some(_), Some(_)) => {
            return Err(OpenError::invalid_input(
                "the address has a user, and token= is given; give one of the two",
            ));
        }
        (Some(login), None) => secrets.extend(authorization(login)?),
        (None, Some(token)) => {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| OpenError::invalid_input("the token cannot be sent"))?;
            value.set_sensitive(true);
            secrets.insert(AUTHORIZATION, value);
        }
        (None, None) => {}
    }
    let builder = || {
        let client = reqwest::Client::builder()
            .user_agent(concat!("pactio/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .connect_timeout(timeout.min(Duration::from_secs(10)));
        let authorities = authorities.iter().flat_map(|pem| reqwest::Certificate::from_pem_bundle(pem));
        authorities.flatten().fold(client, reqwest::ClientBuilder::add_root_certificate)
    };
    let build = |client: reqwest::ClientBuilder| {
        client.build().map_err(|error| OpenError::invalid_input(format!("no client can be made: {error}")))
    };
    // The client measures the time from the first byte sent to the answer, however long the body takes. A streamed upload
    // has no such limit: it watches the progress of its body instead.
    let (client, streaming) = (build(builder().read_timeout(timeout))?, build(builder())?);
    let server = Server {
        client,
        streaming,
        timeout: settings.timeout,
        base,
        link,
        secrets,
        retry_for: settings.retry_for,
    };
    WebStore::new(server).map(|web| Made::Web(Arc::new(web))).map_err(|error| cannot_open(&error))
}

/// The headers of lines `Name: value`.
fn own_headers(lines: &str) -> Result<HeaderMap, OpenError> {
    let mut headers = HeaderMap::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        // The line may be a secret, and is not shown.
        let wrong = || OpenError::invalid_input("header= has a line that is not Name: value");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
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
