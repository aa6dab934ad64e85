//! One file on its way into the bucket.

use std::sync::Arc;

use bytes::Bytes;
use tidelog::error::{Error, Result};
use tidelog::store::{Bucket, PART_BYTES, Upload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Row groups waiting to be uploaded.
const QUEUE: usize = 2;
/// Bytes of all files of a job that are in memory until they are sent: two files can be open, each with less than a part that
/// waits for more, and a row group has to fit beside them.
const ROOM: usize = 3 * PART_BYTES;
/// Bytes of a permit of the room.
const UNIT: usize = 1 << 10;

/// What an upload is told.
#[derive(Debug)]
pub(crate) enum Part {
    /// The file's next bytes, and the room that they take.
    Bytes(Bytes, OwnedSemaphorePermit),
    /// There are no more. Without this the file never appears.
    End,
}

/// The room for the bytes of a job's files.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / UNIT)))
    }

    /// Waits until there is room for `bytes`.
    pub(crate) async fn take(&self, bytes: Bytes) -> Result<Part> {
        // A row group that is larger than a part takes the room of one, or it might wait for ever.
        let units = u32::try_from(bytes.len().min(PART_BYTES).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0).acquire_many_owned(units).await;
        let permit = permit.map_err(|error| Error::internal("the room of the uploads is closed").with_source(error))?;
        Ok(Part::Bytes(bytes, permit))
    }
}

/// Begins to upload to `key` on a thread of its own, since the checksums of a part take a while; the channel takes the parts,
/// and closes early if the upload failed.
pub(crate) fn start(bucket: Bucket, key: String) -> (mpsc::Sender<Part>, tokio::task::JoinHandle<Result<()>>) {
    let (sender, parts) = mpsc::channel(QUEUE);
    (sender, tidelog::blocking::spawn_future(run(bucket, key, parts)))
}

async fn run(bucket: Bucket, key: String, parts: mpsc::Receiver<Part>) -> Result<()> {
    let mut upload = bucket.upload(&key).await?;
    match write(&mut upload, &key, parts).await {
        Ok(_room) => Ok(upload.finish().await?),
        Err(error) => {
            if let Err(left) = upload.abort().await {
                tracing::warn!(key, error = %left, "the parts of an upload are left to the bucket's lifecycle rule");
            }
            Err(error)
        }
    }
}

/// Writes all parts; answers the room of those that wait for the end.
async fn write(upload: &mut Upload, key: &str, mut parts: mpsc::Receiver<Part>) -> Result<Vec<OwnedSemaphorePermit>> {
    let mut room = Vec::new();
    loop {
        match parts.recv().await {
            Some(Part::Bytes(part, permit)) => {
                room.push(permit);
                upload.write(part).await?;
                if upload.buffered() == 0 {
                    room.clear();
                }
            }
            Some(Part::End) => return Ok(room),
            None => return Err(Error::unavailable(format!("the upload of {key} was given up"))),
        }
    }
}
