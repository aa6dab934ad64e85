//! The one public error of the engine.
//!
//! An [`ErrorKind`] says what the caller should do, an [`Outcome`] what was written, `code` is the stable name that
//! clients branch on, and the message (lowercase, no full stop) is for people. Richer private enums stay below where code branches.

use std::fmt;

/// Result with the engine's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named thing does not exist: create it or correct the name.
    NotFound,
    /// It exists already and differs.
    AlreadyExists,
    /// The request is wrong in itself: correct it.
    Invalid,
    /// An offset outside the readable range: look at the bounds in `details`.
    OutOfRange,
    /// The request disagrees with the current state: read it and decide.
    Conflict,
    /// Another node leads: retry there.
    NotLeader,
    /// A budget is used up: retry after a pause.
    Overloaded,
    /// A dependency is away: retry later.
    Unavailable,
    /// Stored bytes failed a checksum: an operator must look.
    Corrupt,
    /// A defect of this program.
    Internal,
}

/// What a failed request wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// Nothing was written: a retry is safe.
    #[default]
    NotWritten,
    /// It was written although the request failed.
    Written,
    /// Some partitions took their records, others did not.
    Partial,
    /// It may or may not have been written: a retry is safe only under a producer triple or an idempotency key.
    Unknown,
}

/// A machine-readable detail of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// A number: an offset, a limit, a count.
    Number(u64),
    /// A name or a cursor.
    Text(String),
}

/// The engine's error. Cheap to move: everything is boxed behind one pointer.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    outcome: Outcome,
    details: Vec<(&'static str, Detail)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` under the stable `code`; the outcome starts as [`Outcome::NotWritten`].
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code,
            message: message.into(),
            outcome: Outcome::NotWritten,
            details: Vec::new(),
            source: None,
        }))
    }

    /// [`ErrorKind::Invalid`] under `code`.
    #[must_use]
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, code, message)
    }

    /// [`ErrorKind::Corrupt`] under the code `corrupt`.
    #[must_use]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, "corrupt", message)
    }

    /// [`ErrorKind::Unavailable`] under the code `unavailable`.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, "unavailable", message)
    }

    /// [`ErrorKind::Overloaded`] under the code `overloaded`.
    #[must_use]
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Overloaded, "overloaded", message)
    }

    /// [`ErrorKind::Internal`] under the code `internal`.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "internal", message)
    }

    /// The same error for another one of those who waited for the same thing; without its causes, which have one owner.
    #[must_use]
    pub fn again(&self) -> Self {
        let (kind, code, message) = (self.0.kind, self.0.code, self.0.message.clone());
        let (outcome, details) = (self.0.outcome, self.0.details.clone());
        Self(Box::new(Inner { kind, code, message, outcome, details, source: None }))
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// States what was written.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// The same error of a step that came after one which wrote something: that nothing was written is not so for all of it.
    #[must_use]
    pub fn in_part(mut self) -> Self {
        if self.0.outcome == Outcome::NotWritten {
            self.0.outcome = Outcome::Partial;
        }
        self
    }

    /// Adds a number that a program may read.
    #[must_use]
    pub fn with_number(mut self, name: &'static str, value: u64) -> Self {
        self.0.details.push((name, Detail::Number(value)));
        self
    }

    /// Adds a text that a program may read.
    #[must_use]
    pub fn with_text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.details.push((name, Detail::Text(value.into())));
        self
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable `snake_case` name of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What was written.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// What a program may read, in the order in which it was added.
    #[must_use]
    pub fn details(&self) -> &[(&'static str, Detail)] {
        &self.0.details
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({}): {} [{:?}]", self.0.kind, self.0.code, self.0.message, self.0.outcome)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
