//! Request bodies: bounded in bytes (as sent and decompressed), in memory over all requests, in the time between two
//! chunks, and in the time for all of them.
//!
//! A body is charged for what has arrived, a step ahead: who announces much and sends little holds little. A compressed one
//! is decompressed step by step, each charged before there is anything of it: a few bytes may hold a whole body. A body that
//! needs more while there is none waits a moment, and is refused then, so that those that hold some never wait for each
//! other for long.

mod decode;
pub(crate) mod rest;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tidelog::metrics::HTTP_BODIES_REFUSED;
use tidelog_api::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::decode::{Decoder, Step};
use crate::error::{ApiError, Result};

/// The unit of the memory budget: a semaphore counts at most 2^29 or so permits.
const UNIT: u64 = 1_024;
/// What a body is charged ahead of what has arrived.
const STEP: u64 = 64 << 10;
/// How long a request waits for its share of the budget.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);
/// Bytes a second that a body must have on average, beyond the time that it may stall: else one byte now and then would keep
/// a body open for ever.
const LEAST_RATE: u64 = 16 << 10;

/// Bounds on bodies, shared by all requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BodyLimits {
    max_body: u64,
    idle: Duration,
    admission_wait: Duration,
    memory: Arc<Semaphore>,
    units: usize,
}

impl BodyLimits {
    /// Bodies of at most `max_body` bytes, `memory` bytes for all of them, `idle` between two chunks.
    pub(crate) fn new(max_body: u64, memory: u64, idle: Duration) -> Self {
        // A budget below one body would refuse every body.
        let units = usize::try_from(memory.max(max_body).div_ceil(UNIT)).unwrap_or(usize::MAX);
        let units = units.min(Semaphore::MAX_PERMITS);
        Self { max_body, idle, admission_wait: ADMISSION_WAIT, memory: Arc::new(Semaphore::new(units)), units }
    }

    /// Bytes that all bodies hold, and the budget.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let used = self.units.saturating_sub(self.memory.available_permits());
        (used as u64 * UNIT, self.units as u64 * UNIT)
    }

    /// Begins to read `body`.
    pub(crate) async fn read<B: Arriving>(&self, headers: &HeaderMap, body: B) -> Result<BodyReader<B>> {
        let decoder = Decoder::for_encoding(headers)?;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.max_body) {
            return Err(self.too_large());
        }
        let permit = self.acquire(length.unwrap_or(0).min(STEP).div_ceil(UNIT)).await?;
        let packed = decoder.map(|decoder| Packed { decoder, input: Input::Wanted });
        let waited = Duration::ZERO;
        Ok(BodyReader { limits: self.clone(), body, packed, permit, sent: 0, given: 0, length, waited })
    }

    async fn acquire(&self, units: u64) -> Result<OwnedSemaphorePermit> {
        let wait = Arc::clone(&self.memory).acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX));
        match tokio::time::timeout(self.admission_wait, wait).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                metrics::counter!(HTTP_BODIES_REFUSED).increment(1);
                Err(overloaded())
            }
        }
    }

    fn too_large(&self) -> ApiError {
        let message = format!("the body has more than {} bytes", self.max_body);
        ApiError::new(ErrorCode::BodyTooLarge, message).with("limit", self.max_body)
    }
}

fn overloaded() -> ApiError {
    ApiError::new(ErrorCode::Overloaded, "too many request bodies are being read")
}

/// Holds a body's share of the budget; keep it until the records are handed on and answered.
#[derive(Debug)]
pub(crate) struct Admitted {
    _permit: OwnedSemaphorePermit,
}

/// A body that is read here: axum's, or borrowed from the connection.
pub(crate) trait Arriving:
    http_body::Body<Data = Bytes, Error: std::fmt::Display + Send> + Send + Unpin
{
}

impl<B: http_body::Body<Data = Bytes, Error: std::fmt::Display + Send> + Send + Unpin> Arriving for B {}

/// A body as it arrives, decompressed.
pub(crate) struct BodyReader<B> {
    limits: BodyLimits,
    body: B,
    packed: Option<Packed>,
    permit: OwnedSemaphorePermit,
    /// Bytes as sent.
    sent: u64,
    /// Bytes decompressed.
    given: u64,
    length: Option<u64>,
    /// How long the client was waited for.
    waited: Duration,
}

/// A compressed body.
struct Packed {
    decoder: Decoder,
    input: Input,
}

/// What there is to decompress.
enum Input {
    /// Nothing before more of the body arrives.
    Wanted,
    /// What is left of a chunk; nothing of it if only the decoder holds something back.
    Chunk(Bytes),
    /// The body is over.
    End,
}

impl<B: Arriving> BodyReader<B> {
    /// The next chunk, decompressed; `None` at the end. Chunks may be empty.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(packed) = self.packed.take() {
            return self.unpack(packed).await.map(Some);
        }
        let Some(chunk) = self.arrive().await? else { return Ok(None) };
        let given = self.given + chunk.len() as u64;
        if given > self.charged() {
            // A step ahead, but not beyond what was announced, nor for a body that announced nothing.
            let announced = self.length.unwrap_or(0);
            self.charge((given + STEP).min(announced).max(given)).await?;
        }
        self.given = given;
        Ok(Some(chunk))
    }

    /// The next step of a compressed body, which is put back unless it is over.
    async fn unpack(&mut self, mut packed: Packed) -> Result<Bytes> {
        if matches!(packed.input, Input::Wanted) {
            match self.arrive().await? {
                None => packed.input = Input::End,
                // Trailers, or an empty frame, as the last one of HTTP/2 may be: a decoder between two frames would begin one.
                Some(chunk) if chunk.is_empty() => {
                    self.packed = Some(packed);
                    return Ok(chunk);
                }
                Some(chunk) => packed.input = Input::Chunk(chunk),
            }
        }
        let room = self.limits.max_body - self.given;
        self.charge(self.given + room.min(STEP)).await?;
        // One byte beyond the room tells a body that fills it from one that exceeds it.
        let limit = usize::try_from(STEP.min(room + 1)).unwrap_or(usize::MAX);
        let Packed { decoder, input } = &mut packed;
        let Step { out, more } = match input {
            Input::Chunk(chunk) => decoder.step(chunk, limit)?,
            Input::Wanted | Input::End => decoder.finish(limit)?,
        };
        self.given += out.len() as u64;
        if self.given > self.limits.max_body {
            return Err(self.limits.too_large());
        }
        match packed.input {
            Input::End if !more => return Ok(out),
            Input::Chunk(_) if !more => packed.input = Input::Wanted,
            _ => {}
        }
        self.packed = Some(packed);
        Ok(out)
    }

    /// The next chunk as it was sent; `None` at the end.
    async fn arrive(&mut self) -> Result<Option<Bytes>> {
        let begun = Instant::now();
        let frame = tokio::time::timeout(self.patience(), self.body.frame()).await;
        self.waited += begun.elapsed();
        let frame = match frame {
            Err(_) => {
                return Err(ApiError::new(ErrorCode::RequestTimeout, "the body did not arrive in time"));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(ApiError::new(ErrorCode::InvalidBody, format!("the body broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(chunk) = frame.into_data() else { return Ok(Some(Bytes::new())) };
        self.sent += chunk.len() as u64;
        if self.sent > self.limits.max_body {
            return Err(self.limits.too_large());
        }
        Ok(Some(chunk))
    }

    /// How long the next chunk is waited for.
    fn patience(&self) -> Duration {
        let all = self.limits.idle + Duration::from_secs(self.sent / LEAST_RATE);
        self.limits.idle.min(all.saturating_sub(self.waited))
    }

    /// Bytes that it may hold as of now.
    fn charged(&self) -> u64 {
        self.permit.num_permits() as u64 * UNIT
    }

    /// Has the budget stand for this many bytes.
    async fn charge(&mut self, bytes: u64) -> Result<()> {
        let missing = bytes.div_ceil(UNIT).saturating_sub(self.permit.num_permits() as u64);
        if missing > 0 {
            self.permit.merge(self.limits.acquire(missing).await?);
        }
        Ok(())
    }

    /// The whole body.
    pub(crate) async fn collect(mut self) -> Result<(Bytes, Admitted)> {
        let mut whole: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            if chunk.is_empty() {
                continue;
            }
            if joined.is_empty() {
                match whole.take() {
                    // A body of one chunk, as most are, is not copied.
                    None => whole = Some(chunk),
                    Some(first) => {
                        joined.reserve(self.capacity(first.len() + chunk.len()));
                        joined.extend_from_slice(&first);
                        joined.extend_from_slice(&chunk);
                    }
                }
            } else {
                joined.extend_from_slice(&chunk);
            }
        }
        let body = whole.unwrap_or_else(|| joined.freeze());
        Ok((body, self.into_admitted()))
    }

    /// The announced length of a plain body was checked against the limit; that of a compressed one says little.
    fn capacity(&self, known: usize) -> usize {
        let length = self.length.filter(|_| self.packed.is_none()).unwrap_or(0);
        usize::try_from(length).unwrap_or(0).max(known)
    }

    /// Keeps the share of a body whose chunks were used one by one, without what was charged ahead of it.
    pub(crate) fn into_admitted(mut self) -> Admitted {
        let ahead = (self.charged() / UNIT).saturating_sub(self.given.div_ceil(UNIT));
        drop(self.permit.split(usize::try_from(ahead).unwrap_or(0)));
        Admitted { _permit: self.permit }
    }
}

#[cfg(test)]
mod tests;
