//! The encoders, with parameters that bound their memory.

use std::io::{self, Write};

use actix_web::web::Bytes;
use flate2::{Compression, write::GzEncoder};
use zstd::zstd_safe::CParameter;

use super::Coding;

/// Level of zstd for what is compressed while its client waits: its fastest ordinary one.
const ZSTD_LEVEL: i32 = 1;

/// How far back zstd looks, as a power of two: 64 KiB, so that its buffers are of that order too.
const ZSTD_WINDOW: u32 = 16;

/// An encoder in the middle of a body.
pub(super) enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// # Errors
    ///
    /// If zstd cannot have its memory.
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
                Self::Zstd(encoder)
            }
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
        })
    }

    /// Takes a piece of the body.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(piece),
            Self::Gzip(encoder) => encoder.write_all(piece),
        }
    }

    /// Brings out all that was written so far, for a client that would else wait for it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// Ends the encoding; what has not been taken yet is in the result.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
        .map(Bytes::from)
    }

    /// How many bytes wait to be taken.
    pub(super) fn ready(&self) -> usize {
        match self {
            Self::Zstd(encoder) => encoder.get_ref().len(),
            Self::Gzip(encoder) => encoder.get_ref().len(),
        }
    }

    /// Takes what has come out so far.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        })
        .into()
    }
}

/// A body compressed while its client waits; none if that would not make it smaller.
pub(super) fn at_once(coding: Coding, body: &[u8]) -> Option<Bytes> {
    smaller(
        match coding {
            Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Coding::Gzip => gzip(body, Compression::fast()),
        },
        body,
    )
}

/// A body compressed as well as is worth while for one that is sent again and again.
pub(super) fn thoroughly(coding: Coding, body: &[u8]) -> Option<Bytes> {
    smaller(
        match coding {
            Coding::Zstd => zstd::bulk::compress(body, 12),
            Coding::Gzip => gzip(body, Compression::best()),
        },
        body,
    )
}

fn gzip(body: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(body)?;
    encoder.finish()
}

/// The encoders write into memory, so none of them fails; if one did, the body would go as it is.
fn smaller(encoded: io::Result<Vec<u8>>, body: &[u8]) -> Option<Bytes> {
    let encoded = encoded.ok()?;
    (encoded.len() < body.len()).then(|| encoded.into())
}
