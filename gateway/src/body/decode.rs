//! Decompression of request bodies, chunk by chunk, bounded by the room that is left.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header};
use tidelog_api::ErrorCode;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use crate::error::{ApiError, Result};

/// Output is gathered in steps of this size.
const STEP: usize = 64 << 10;
/// Windows above 2^24 bytes exceed any body.
const MAX_WINDOW_LOG: u32 = 24;

/// A decoder for one `Content-Encoding`.
pub(super) enum Decoder {
    Gzip(Box<MultiGzDecoder<Capped>>),
    Zstd { decoder: ZstdDecoder<'static>, frame_open: bool },
}

/// Keeps what is written, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Capped {
    out: Vec<u8>,
    room: usize,
    full: bool,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room {
            self.full = true;
            return Err(io::Error::other("the body is too large"));
        }
        self.room -= bytes.len();
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// The decoder for the request's `Content-Encoding`, if it has one.
    pub(super) fn for_encoding(headers: &HeaderMap) -> Result<Option<Self>> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match (text.as_str(), values.next()) {
            ("identity" | "", None) => Ok(None),
            ("gzip" | "x-gzip", None) => Ok(Some(Self::Gzip(Box::new(MultiGzDecoder::new(Capped::default()))))),
            ("zstd", None) => zstd_decoder()
                .map(Some)
                .map_err(|error| ApiError::new(ErrorCode::Internal, format!("zstd is not available: {error}"))),
            _ => Err(ApiError::new(
                ErrorCode::UnsupportedEncoding,
                format!("the content encoding {text:?} is not taken, send gzip or zstd"),
            )),
        }
    }

    /// Decompresses a chunk; `None` if it gives more than `room` bytes.
    pub(super) fn push(&mut self, chunk: &[u8], room: u64) -> Result<Option<Bytes>> {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        match self {
            Self::Gzip(decoder) => push_gzip(decoder, chunk, room),
            Self::Zstd { decoder, frame_open } => push_zstd(decoder, frame_open, chunk, room),
        }
    }

    /// The body is over: so must be what it compresses. Gives what was held back; `None` if that is more than `room`.
    pub(super) fn finish(&mut self, room: u64) -> Result<Option<Bytes>> {
        match self {
            Self::Zstd { frame_open: false, .. } => Ok(Some(Bytes::new())),
            Self::Zstd { .. } => Err(broken("it ends early")),
            Self::Gzip(decoder) => {
                decoder.get_mut().room = usize::try_from(room).unwrap_or(usize::MAX);
                // Checks the checksum at the end, and that there is one.
                let result = decoder.try_finish();
                take_gzip(decoder, result)
            }
        }
    }
}

fn broken(reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidBody, format!("the body cannot be decompressed: {reason}"))
}

fn push_gzip(decoder: &mut MultiGzDecoder<Capped>, chunk: &[u8], room: usize) -> Result<Option<Bytes>> {
    decoder.get_mut().room = room;
    let result = decoder.write_all(chunk);
    take_gzip(decoder, result)
}

fn take_gzip(decoder: &mut MultiGzDecoder<Capped>, result: io::Result<()>) -> Result<Option<Bytes>> {
    let capped = decoder.get_mut();
    match result {
        _ if capped.full => Ok(None),
        Ok(()) => Ok(Some(Bytes::from(std::mem::take(&mut capped.out)))),
        Err(error) => Err(broken(error)),
    }
}

fn push_zstd(
    decoder: &mut ZstdDecoder<'static>,
    frame_open: &mut bool,
    chunk: &[u8],
    room: usize,
) -> Result<Option<Bytes>> {
    let mut input = InBuffer::around(chunk);
    let mut out = Vec::new();
    loop {
        let before = out.len();
        // One byte beyond the room tells a body that fills it from one that exceeds it.
        let step = STEP.min(room + 1 - before);
        out.resize(before + step, 0);
        let mut output = OutBuffer::around(&mut out[before..]);
        let hint = decoder.run(&mut input, &mut output).map_err(broken)?;
        let written = output.pos();
        out.truncate(before + written);
        if out.len() > room {
            return Ok(None);
        }
        *frame_open = hint != 0;
        // All is read, and a buffer that was not filled says that nothing is held back.
        if input.pos() == chunk.len() && written < step {
            return Ok(Some(Bytes::from(out)));
        }
    }
}

fn zstd_decoder() -> io::Result<Decoder> {
    let mut decoder = ZstdDecoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(Decoder::Zstd { decoder, frame_open: true })
}
