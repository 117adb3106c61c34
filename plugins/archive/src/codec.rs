//! Decompresses: a whole file in one call, or a long one step by step.

use std::cell::RefCell;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use pactio_sdk::{Code, IoError};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// The compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Deflate,
    Zstd,
}

/// The compressed bytes are invalid, or do not match the recorded size or check sum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// The decompressors of a thread, made once.
struct Contexts {
    deflate: libdeflater::Decompressor,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> =
        RefCell::new(Contexts { deflate: libdeflater::Decompressor::new(), zstd: None });
}

impl Codec {
    /// Decompresses all of a file into `out`, which has its size, and checks it.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`], or the code [`CORRUPT`](Code::CORRUPT).
    pub(crate) fn whole(self, packed: &[u8], out: &mut [u8], crc: u32) -> Result<(), IoError> {
        let len = CONTEXTS.with_borrow_mut(|contexts| match self {
            Self::Deflate => Ok::<_, IoError>(contexts.deflate.deflate_decompress(packed, out).ok()),
            Self::Zstd => {
                let context = match &mut contexts.zstd {
                    Some(context) => context,
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| IoError::OUT_OF_MEMORY)?),
                };
                Ok(context.decompress_to_buffer(packed, out).ok())
            }
        })?;
        let is_right = len == Some(out.len()) && crc32fast::hash(out) == crc;
        is_right.then_some(()).ok_or(IoError::from_code(Code::CORRUPT))
    }
}

/// Decompresses a long file from front to back.
pub(crate) enum Steps {
    Deflate(Box<InflateState>),
    Zstd(ZstdDecoder<'static>),
}

/// The result of a step.
pub(crate) struct Step {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
    /// The stream, or a frame of zstd, has ended.
    pub(crate) ended: bool,
}

impl Steps {
    /// A decompressor at the front of a file.
    pub(crate) fn new(codec: Codec) -> Result<Self, Corrupt> {
        Ok(match codec {
            Codec::Deflate => Self::Deflate(InflateState::new_boxed(DataFormat::Raw)),
            Codec::Zstd => Self::Zstd(ZstdDecoder::new().map_err(|_| Corrupt)?),
        })
    }

    /// A copy of the state, if the codec can make one.
    pub(crate) fn fork(&self) -> Option<Self> {
        match self {
            Self::Deflate(state) => Some(Self::Deflate(state.clone())),
            Self::Zstd(_) => None,
        }
    }

    /// Decompresses bytes from `packed` into `out`, and tells how far the step came in both. A step may move no bytes.
    pub(crate) fn step(&mut self, packed: &[u8], out: &mut [u8]) -> Result<Step, Corrupt> {
        match self {
            Self::Deflate(state) => {
                let result = inflate(state, packed, out, MZFlush::None);
                let ended = match result.status {
                    Ok(MZStatus::StreamEnd) => true,
                    // `Buf` is a step without progress. The caller decides whether more input can follow.
                    Ok(_) | Err(miniz_oxide::MZError::Buf) => false,
                    Err(_) => return Err(Corrupt),
                };
                Ok(Step { consumed: result.bytes_consumed, produced: result.bytes_written, ended })
            }
            Self::Zstd(decoder) => {
                let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(out));
                // The hint is 0 when a frame is decompressed and all its bytes are in `output`.
                let hint = decoder.run(&mut input, &mut output).map_err(|_| Corrupt)?;
                Ok(Step { consumed: input.pos(), produced: output.pos(), ended: hint == 0 })
            }
        }
    }
}
