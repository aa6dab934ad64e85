//! What can go wrong with a call to the bucket, sorted by what the caller does about it.

use std::sync::Arc;

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

/// Whether the same call may succeed later. What is not known to be final is: a bucket that is away has many faces.
pub(super) const fn is_transient(error: &object_store::Error) -> bool {
    use object_store::Error::{
        AlreadyExists, InvalidPath, NotFound, NotImplemented, NotModified, NotSupported, PermissionDenied,
        Precondition, Unauthenticated, UnknownConfigurationKey,
    };
    !matches!(
        error,
        AlreadyExists { .. }
            | InvalidPath { .. }
            | NotFound { .. }
            | NotImplemented { .. }
            | NotModified { .. }
            | NotSupported { .. }
            | PermissionDenied { .. }
            | Precondition { .. }
            | Unauthenticated { .. }
            | UnknownConfigurationKey { .. }
    )
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
