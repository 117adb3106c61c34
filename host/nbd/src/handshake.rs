//! The handshake of a connection: fixed newstyle, until the client chooses an export.

use std::io;
use std::sync::Arc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::export::{Export, MAX_REQUEST_BYTES};
use crate::server::Exports;
use crate::stream::AnyStream;
use crate::transmission::{ALLOCATION_ID, Agreed, cut};
use crate::wire::{self, FIXED_NEWSTYLE, Fields, NO_ZEROES, info, option, option_reply, reply};

/// Most bytes of an option.
const MAX_OPTION_BYTES: u32 = 64 << 10;

/// The context that tells holes from bytes.
const ALLOCATION: &[u8] = b"base:allocation";

/// The result of a handshake.
pub(crate) enum Chosen {
    Export(Arc<Export>, Agreed),
    /// The client asks for TLS, and the server has said yes.
    Tls,
    /// The client has left.
    Nothing,
}

/// Whether the connection may be used as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    /// Nothing but TLS may be asked for.
    TlsRequired,
    Tls,
}

/// Greets a client.
pub(crate) async fn greet(stream: &mut AnyStream) -> io::Result<bool> {
    let mut greeting = Vec::new();
    greeting.extend(wire::NBD_MAGIC.to_be_bytes());
    greeting.extend(wire::OPTION_MAGIC.to_be_bytes());
    greeting.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags).await?;
    let flags = u32::from_be_bytes(flags);
    if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client has flags that are unknown"));
    }
    Ok(flags & u32::from(NO_ZEROES) != 0)
}

/// The exports that a client asks for.
struct Lookups<'e> {
    exports: &'e Exports,
    /// The last one: opening a name of a tree again for the next option could be slow.
    last: Option<(String, Arc<Export>)>,
}

impl Lookups<'_> {
    async fn find(&mut self, name: &str) -> Result<Arc<Export>, pactio::Error> {
        if let Some((last, export)) = &self.last
            && last == name
        {
            return Ok(export.clone());
        }
        let export = self.exports.find(name).await?;
        self.last = Some((name.to_owned(), export.clone()));
        Ok(export)
    }
}

/// Answers options until the client chooses.
pub(crate) async fn negotiate(
    stream: &mut AnyStream,
    exports: &Exports,
    security: Security,
    no_zeroes: bool,
) -> io::Result<Chosen> {
    let mut agreed = Agreed::default();
    // The export for which contexts were negotiated: they hold for it alone.
    let mut context_of: Option<String> = None;
    let mut exports = Lookups { exports, last: None };
    loop {
        let mut header = [0; 16];
        if let Err(error) = stream.read_exact(&mut header).await {
            return if error.kind() == io::ErrorKind::UnexpectedEof {
                Ok(Chosen::Nothing)
            } else {
                Err(error)
            };
        }
        let mut fields = Fields(&header);
        let (magic, kind, len) = (fields.u64(), fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
        if magic != Some(wire::OPTION_MAGIC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an option has another magic number"));
        }
        if len > MAX_OPTION_BYTES {
            send(stream, kind, reply::TOO_BIG, b"an option has at most 64 KiB").await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an option is larger than 64 KiB"));
        }
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data).await?;
        if security == Security::TlsRequired && !matches!(kind, option::STARTTLS | option::ABORT) {
            if kind == option::EXPORT_NAME {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the client does not use TLS"));
            }
            send(stream, kind, reply::TLS_REQUIRED, b"this server requires TLS").await?;
            continue;
        }
        match kind {
            option::EXPORT_NAME => {
                let name = String::from_utf8_lossy(&data).into_owned();
                let export = exports.find(&name).await.map_err(io::Error::other)?;
                let mut answer = export.size.to_be_bytes().to_vec();
                answer.extend(export.flags(agreed.is_structured).to_be_bytes());
                answer.resize(if no_zeroes { 10 } else { 134 }, 0);
                stream.write_all(&answer).await?;
                stream.flush().await?;
                agreed.has_allocation = context_of.as_ref() == Some(&name);
                return Ok(Chosen::Export(export, agreed));
            }
            option::ABORT => {
                send(stream, kind, reply::ACK, b"").await?;
                return Ok(Chosen::Nothing);
            }
            option::LIST | option::STARTTLS | option::STRUCTURED_REPLY if !data.is_empty() => {
                send(stream, kind, reply::INVALID, b"the option has no data").await?;
            }
            option::STARTTLS if security == Security::Tls => {
                send(stream, kind, reply::INVALID, b"the connection has TLS already").await?;
            }
            option::LIST => {
                for name in exports.exports.names().await {
                    let mut server = (name.len() as u32).to_be_bytes().to_vec();
                    server.extend(name.as_bytes());
                    send(stream, kind, reply::SERVER, &server).await?;
                }
                send(stream, kind, reply::ACK, b"").await?;
            }
            option::STARTTLS if security == Security::TlsRequired => {
                send(stream, kind, reply::ACK, b"").await?;
                return Ok(Chosen::Tls);
            }
            option::STRUCTURED_REPLY => {
                agreed.is_structured = true;
                send(stream, kind, reply::ACK, b"").await?;
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                let is_set = kind == option::SET_META_CONTEXT;
                if is_set {
                    // Also if this option fails.
                    context_of = None;
                }
                let Some((name, queries)) = contexts(&data).filter(|_| agreed.is_structured || !is_set)
                else {
                    send(
                        stream,
                        kind,
                        reply::INVALID,
                        b"the option is malformed, or comes before structured replies",
                    )
                    .await?;
                    continue;
                };
                if let Err(error) = exports.find(&name).await {
                    send(stream, kind, reply::UNKNOWN, cut(&error.to_string()).as_bytes()).await?;
                    continue;
                }
                let is_asked =
                    queries.iter().any(|query| *query == ALLOCATION || (!is_set && *query == b"base:"));
                let is_asked = is_asked || (queries.is_empty() && !is_set);
                if is_set {
                    context_of = is_asked.then(|| name.clone());
                }
                if is_asked {
                    let mut context = (if is_set { ALLOCATION_ID } else { 0 }).to_be_bytes().to_vec();
                    context.extend(ALLOCATION);
                    send(stream, kind, reply::META_CONTEXT, &context).await?;
                }
                send(stream, kind, reply::ACK, b"").await?;
            }
            option::INFO | option::GO => {
                let Some((name, wanted)) = chosen(&data) else {
                    send(stream, kind, reply::INVALID, b"the option is malformed").await?;
                    continue;
                };
                let export = match exports.find(&name).await {
                    Ok(export) => export,
                    Err(error) => {
                        send(stream, kind, reply::UNKNOWN, cut(&error.to_string()).as_bytes()).await?;
                        continue;
                    }
                };
                describe(stream, kind, agreed.is_structured, &name, &export, &wanted).await?;
                send(stream, kind, reply::ACK, b"").await?;
                if kind == option::GO {
                    agreed.has_allocation = context_of.as_ref() == Some(&name);
                    return Ok(Chosen::Export(export, agreed));
                }
            }
            _ => send(stream, kind, reply::UNSUPPORTED, b"the option is not supported").await?,
        }
    }
}

async fn send(stream: &mut AnyStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    stream.write_all(&option_reply(option, kind, data)).await?;
    stream.flush().await
}

/// The name and the information that a client asks for.
fn chosen(data: &[u8]) -> Option<(String, Vec<u16>)> {
    let mut fields = Fields(data);
    let len = fields.u32()? as usize;
    let name = String::from_utf8(fields.bytes(len)?.to_vec()).ok()?;
    let count = fields.u16()?;
    let wanted = (0..count).map(|_| fields.u16()).collect::<Option<Vec<_>>>()?;
    fields.0.is_empty().then_some((name, wanted))
}

/// The name and the contexts that a client asks for.
fn contexts(data: &[u8]) -> Option<(String, Vec<&[u8]>)> {
    let mut fields = Fields(data);
    let len = fields.u32()? as usize;
    let name = String::from_utf8(fields.bytes(len)?.to_vec()).ok()?;
    let count = fields.u32()?;
    let mut queries = Vec::new();
    for _ in 0..count {
        let len = fields.u32()? as usize;
        queries.push(fields.bytes(len)?);
    }
    fields.0.is_empty().then_some((name, queries))
}

async fn describe(
    stream: &mut AnyStream,
    kind: u32,
    is_structured: bool,
    name: &str,
    export: &Export,
    wanted: &[u16],
) -> io::Result<()> {
    let mut data = info::EXPORT.to_be_bytes().to_vec();
    data.extend(export.size.to_be_bytes());
    data.extend(export.flags(is_structured).to_be_bytes());
    send(stream, kind, reply::INFO, &data).await?;
    if wanted.contains(&info::NAME) {
        send(stream, kind, reply::INFO, &[&info::NAME.to_be_bytes(), name.as_bytes()].concat()).await?;
    }
    if wanted.contains(&info::DESCRIPTION) {
        // Without its secrets.
        let text = cut(export.device.url());
        send(stream, kind, reply::INFO, &[&info::DESCRIPTION.to_be_bytes(), text.as_bytes()].concat())
            .await?;
    }
    let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
    let preferred = export.min_block.max(4096);
    data.extend([export.min_block, preferred, MAX_REQUEST_BYTES].map(u32::to_be_bytes).concat());
    send(stream, kind, reply::INFO, &data).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_cut_off_or_too_long_are_malformed() {
        let whole = [&[0, 0, 0, 2][..], b"ab", &[0, 1, 0, 3]].concat();
        assert_eq!(chosen(&whole), Some(("ab".to_owned(), vec![3])));
        let context = [&[0, 0, 0, 1][..], b"x", &[0, 0, 0, 1, 0, 0, 0, 15], ALLOCATION].concat();
        assert_eq!(contexts(&context), Some(("x".to_owned(), vec![ALLOCATION])));
        for end in 0..whole.len() {
            assert_eq!(chosen(&whole[..end]), None, "{end}");
        }
        for end in 0..context.len() {
            assert_eq!(contexts(&context[..end]), None, "{end}");
        }
        assert_eq!(chosen(&[&whole[..], b"x"].concat()), None);
        assert_eq!(contexts(&[0xff; 40]), None);
    }
}
