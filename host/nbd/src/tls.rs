//! The configuration of TLS from files, with certificates on both sides.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A configuration with the certificate and the key of the server, for clients with a certificate that one of `authorities` has
/// signed. All files are PEM.
///
/// # Errors
///
/// If a file cannot be read or has not what it should have; the message names the file.
pub fn tls_config(certificate: &Path, key: &Path, authorities: &Path) -> io::Result<Arc<ServerConfig>> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("'{}': {error}", path.display()))
    };
    let chain = |path: &Path| {
        let all: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, &error))?.collect();
        let all = all.map_err(|error| wrong(path, &error))?;
        if all.is_empty() { Err(wrong(path, &"it has no certificate")) } else { Ok(all) }
    };
    let mut roots = RootCertStore::empty();
    for authority in chain(authorities)? {
        roots.add(authority).map_err(|error| wrong(authorities, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| wrong(authorities, &error))?;
    let key_bytes = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(certificate)?, key_bytes)
        .map_err(|error| wrong(certificate, &error))?;
    Ok(Arc::new(config))
}
