//! Decompression of request bodies in steps, each bounded by what its caller has room for.

use std::io::{self, Write as _};

use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header};
use tidelog_api::ErrorCode;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use crate::error::{ApiError, Result};

/// Windows above 2^24 bytes exceed any body.
const MAX_WINDOW_LOG: u32 = 24;

/// A decoder for one `Content-Encoding`.
pub(super) enum Decoder {
    Gzip(Box<MultiGzDecoder<Capped>>),
    Zstd { decoder: ZstdDecoder<'static>, frame_open: bool },
}

/// What a step gave.
pub(super) struct Step {
    pub(super) out: Bytes,
    /// There may be more without further input.
    pub(super) more: bool,
}

impl Step {
    fn new(mut out: Vec<u8>, more: bool) -> Self {
        // It is accounted for by its length.
        out.shrink_to_fit();
        Self { out: Bytes::from(out), more }
    }
}

/// Keeps what is written, up to a limit; what is beyond it has to be written again.
#[derive(Debug, Default)]
pub(super) struct Capped {
    out: Vec<u8>,
    limit: usize,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.limit - self.out.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.out.extend_from_slice(&bytes[..taken]);
        Ok(taken)
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

    /// Takes of `input` what gives at most `limit` bytes, and at least one if there is one.
    pub(super) fn step(&mut self, input: &mut Bytes, limit: usize) -> Result<Step> {
        match self {
            Self::Gzip(decoder) => step_gzip(decoder, limit, |decoder| write_all(decoder, input)),
            Self::Zstd { decoder, frame_open } => step_zstd(decoder, frame_open, input, limit),
        }
    }

    /// The body is over: so must be what it compresses. Gives what was held back, at most `limit` bytes of it.
    pub(super) fn finish(&mut self, limit: usize) -> Result<Step> {
        match self {
            Self::Zstd { frame_open: false, .. } => Ok(Step::new(Vec::new(), false)),
            Self::Zstd { .. } => Err(broken("it ends early")),
            // Checks the checksum at the end, and that there is one.
            Self::Gzip(decoder) => step_gzip(decoder, limit, MultiGzDecoder::try_finish),
        }
    }
}

fn broken(reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidBody, format!("the body cannot be decompressed: {reason}"))
}

/// The decoder keeps what its writer does not take, and has taken no input then.
fn step_gzip(
    decoder: &mut MultiGzDecoder<Capped>,
    limit: usize,
    work: impl FnOnce(&mut MultiGzDecoder<Capped>) -> io::Result<()>,
) -> Result<Step> {
    decoder.get_mut().limit = limit;
    let more = match work(decoder) {
        Ok(()) => false,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Err(error) => return Err(broken(error)),
    };
    Ok(Step::new(std::mem::take(&mut decoder.get_mut().out), more))
}

fn write_all(decoder: &mut MultiGzDecoder<Capped>, input: &mut Bytes) -> io::Result<()> {
    while !input.is_empty() {
        match decoder.write(input)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            used => input.advance(used),
        }
    }
    Ok(())
}

fn step_zstd(
    decoder: &mut ZstdDecoder<'static>,
    frame_open: &mut bool,
    input: &mut Bytes,
    limit: usize,
) -> Result<Step> {
    let mut out = vec![0; limit];
    let mut written = 0;
    loop {
        let mut from = InBuffer::around(input.as_ref());
        let mut to = OutBuffer::around(&mut out[written..]);
        let hint = decoder.run(&mut from, &mut to).map_err(broken)?;
        let used = from.pos();
        written += to.pos();
        input.advance(used);
        *frame_open = hint != 0;
        if written == limit || input.is_empty() {
            out.truncate(written);
            // At the end of a frame, or with room in the buffer, nothing is held back.
            return Ok(Step::new(out, !input.is_empty() || (*frame_open && written == limit)));
        }
    }
}

fn zstd_decoder() -> io::Result<Decoder> {
    let mut decoder = ZstdDecoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(Decoder::Zstd { decoder, frame_open: true })
}
