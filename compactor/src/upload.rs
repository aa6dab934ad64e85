//! One file on its way into the bucket.

use bytes::Bytes;
use tidelog::error::{Error, Result};
use tidelog::store::Bucket;
use tokio::sync::mpsc;

/// Files up to this size are written with one call.
const SINGLE_PUT_BYTES: usize = 8 << 20;
/// Row groups waiting to be uploaded.
const QUEUE: usize = 2;

/// What an upload is told.
#[derive(Debug)]
pub(crate) enum Part {
    /// The file's next bytes.
    Bytes(Bytes),
    /// There are no more. Without this the file never appears.
    End,
}

/// Begins to upload to `key` in a task of its own; the channel takes the parts, and closes early if the upload failed.
pub(crate) fn start(
    runtime: &tokio::runtime::Handle,
    bucket: Bucket,
    key: String,
) -> (mpsc::Sender<Part>, tokio::task::JoinHandle<Result<()>>) {
    let (sender, parts) = mpsc::channel(QUEUE);
    (sender, runtime.spawn(run(bucket, key, parts)))
}

async fn run(bucket: Bucket, key: String, mut parts: mpsc::Receiver<Part>) -> Result<()> {
    let mut first = Vec::new();
    let mut bytes = 0;
    while bytes <= SINGLE_PUT_BYTES {
        match parts.recv().await {
            Some(Part::Bytes(part)) => {
                bytes += part.len();
                first.push(part);
            }
            Some(Part::End) => return Ok(bucket.put(&key, first).await?),
            None => return Err(given_up(&key)),
        }
    }
    let mut upload = bucket.upload(&key).await?;
    let written: Result<()> = async {
        for part in first {
            upload.write(part).await?;
        }
        loop {
            match parts.recv().await {
                Some(Part::Bytes(part)) => upload.write(part).await?,
                Some(Part::End) => return Ok(()),
                None => return Err(given_up(&key)),
            }
        }
    }
    .await;
    match written {
        Ok(()) => Ok(upload.finish().await?),
        Err(error) => {
            if let Err(left) = upload.abort().await {
                tracing::warn!(key, error = %left, "the parts of an upload are left to the bucket's lifecycle rule");
            }
            Err(error)
        }
    }
}

fn given_up(key: &str) -> Error {
    Error::unavailable(format!("the upload of {key} was given up"))
}
