//! What can go wrong with a call to the bucket, sorted by what the caller does about it.

use std::sync::Arc;

use super::http::{Answer, answer_in};
use crate::error::{Error, ErrorKind};

/// Code of an [`Error`] that says that an object is not there.
pub const OBJECT_MISSING: &str = "object_missing";

/// A call to the bucket failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {key} does not exist")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// An object of that key exists.
    #[error("object {key} exists already")]
    AlreadyExists {
        /// Its key.
        key: String,
    },
    /// The object is there but is not what was asked for: too long, or shorter than the range.
    #[error("object {key} {what}")]
    Unexpected {
        /// Its key.
        key: String,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// The bucket refuses the call and will refuse it again: credentials, permissions, an unsupported call.
    #[error("the bucket refuses {operation} of {key}: {source}")]
    Refused {
        /// Key or prefix.
        key: String,
        /// What was called.
        operation: &'static str,
        /// The store's own error.
        source: Arc<object_store::Error>,
    },
    /// It could not be done within the deadline; a write may have been done nevertheless.
    #[error("the bucket is not available for {operation} of {key}: {source}")]
    Unavailable {
        /// Key or prefix.
        key: String,
        /// What was called.
        operation: &'static str,
        /// The error of the last attempt.
        source: Arc<object_store::Error>,
    },
}

impl StoreError {
    /// Sorts an error of `operation` on `key`.
    pub(super) fn new(operation: &'static str, key: &str, error: object_store::Error) -> Self {
        let key = key.to_owned();
        match error {
            // What is in a bucket that is gone was not removed by anybody who knew of it.
            object_store::Error::NotFound { .. } if said_by(&error).contains(NO_BUCKET) => {
                Self::Refused { key, operation, source: Arc::new(error) }
            }
            object_store::Error::NotFound { .. } => Self::NotFound { key },
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                Self::AlreadyExists { key }
            }
            error if !is_transient(&error) => Self::Refused { key, operation, source: Arc::new(error) },
            error => Self::Unavailable { key, operation, source: Arc::new(error) },
        }
    }

    /// Whether the object does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// The code of S3 for a bucket that does not exist.
pub(super) const NO_BUCKET: &str = "NoSuchBucket";

/// All that an error and its causes say.
pub(super) fn said_by(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(": ");
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    said
}

/// What a call to delete many objects says of each that it may not delete.
const MAY_NOT_DELETE: &str = "(code: AccessDenied)";

/// Whether the same call may succeed later. What is not known to be final is: a bucket that is away has many faces.
pub(super) fn is_transient(error: &object_store::Error) -> bool {
    use object_store::Error::{
        AlreadyExists, Generic, InvalidPath, NotFound, NotImplemented, NotModified, NotSupported, PermissionDenied,
        Precondition, Unauthenticated, UnknownConfigurationKey,
    };
    match error {
        Generic { source, .. } => {
            !answer_in(error).is_some_and(Answer::is_final) && !source.to_string().ends_with(MAY_NOT_DELETE)
        }
        AlreadyExists { .. }
        | InvalidPath { .. }
        | NotFound { .. }
        | NotImplemented { .. }
        | NotModified { .. }
        | NotSupported { .. }
        | PermissionDenied { .. }
        | Precondition { .. }
        | Unauthenticated { .. }
        | UnknownConfigurationKey { .. } => false,
        _ => true,
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            // The state names it, so it has to be there and to be whole. A reader whose plan was older than the garbage
            // collection that removed it knows it by the code, and makes its plan again.
            StoreError::NotFound { .. } => Self::new(ErrorKind::Corrupt, OBJECT_MISSING, message),
            StoreError::Unexpected { .. } => Self::corrupt(message),
            StoreError::AlreadyExists { .. } => Self::internal(message),
            StoreError::Refused { .. } | StoreError::Unavailable { .. } => Self::unavailable(message),
        }
        .with_source(error)
    }
}
