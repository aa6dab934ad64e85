//! The engine's error as bytes and back: kind, code, message, outcome, details and the text of its sources.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Detail, Error, ErrorKind, Outcome};

/// Bounds that keep a failure well below the largest head of an answer.
const MAX_MESSAGE: usize = 4 << 10;
const MAX_SOURCE: usize = 2 << 10;
const MAX_DETAILS: usize = 16;
const MAX_DETAIL: usize = 512;
const MAX_NAME: usize = 64;
/// Names of other builds that this process remembers; far more than there are.
const MAX_NAMES: usize = 1_024;
/// What stands for a name that cannot be remembered.
const UNNAMED: &str = "unnamed";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    kind: u8,
    outcome: u8,
    code: String,
    message: String,
    details: Vec<(String, Value)>,
    /// The texts of the sources, outermost first.
    source: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Value {
    Number(u64),
    Text(String),
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let details = error.details().iter().take(MAX_DETAILS).map(|(name, detail)| {
            let value = match detail {
                Detail::Number(number) => Value::Number(*number),
                Detail::Text(text) => Value::Text(cut(text, MAX_DETAIL).to_owned()),
            };
            (cut(name, MAX_NAME).to_owned(), value)
        });
        Self {
            kind: kind_number(error.kind()),
            outcome: outcome_number(error.outcome()),
            code: cut(error.code(), MAX_NAME).to_owned(),
            message: cut(error.message(), MAX_MESSAGE).to_owned(),
            details: details.collect(),
            source: sources(error),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let code = remembered(&failure.code);
        let error = Self::new(kind(failure.kind), code, failure.message).with_outcome(outcome(failure.outcome));
        let error = failure.details.into_iter().take(MAX_DETAILS).fold(error, |error, (name, value)| match value {
            Value::Number(number) => error.with_number(remembered(&name), number),
            Value::Text(text) => error.with_text(remembered(&name), text),
        });
        match failure.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

fn sources(error: &Error) -> Option<String> {
    let mut texts = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    (!texts.is_empty()).then(|| cut(&texts.join(": "), MAX_SOURCE).to_owned())
}

/// The text's first bytes, at most `most`, without half a character.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// The same name for the life of the process. Names are codes and details of errors, of which there are few; a peer that
/// invents more than a bounded number of them gets its errors under another name.
fn remembered(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return UNNAMED;
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    if names.len() >= MAX_NAMES {
        return UNNAMED;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    name
}

const fn kind_number(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => 0,
        ErrorKind::AlreadyExists => 1,
        ErrorKind::Invalid => 2,
        ErrorKind::OutOfRange => 3,
        ErrorKind::Conflict => 4,
        ErrorKind::NotLeader => 5,
        ErrorKind::Overloaded => 6,
        ErrorKind::Unavailable => 7,
        ErrorKind::Corrupt => 8,
        ErrorKind::Internal => 9,
    }
}

const fn kind(number: u8) -> ErrorKind {
    match number {
        0 => ErrorKind::NotFound,
        1 => ErrorKind::AlreadyExists,
        2 => ErrorKind::Invalid,
        3 => ErrorKind::OutOfRange,
        4 => ErrorKind::Conflict,
        5 => ErrorKind::NotLeader,
        6 => ErrorKind::Overloaded,
        7 => ErrorKind::Unavailable,
        8 => ErrorKind::Corrupt,
        // One that this build does not know.
        _ => ErrorKind::Internal,
    }
}

const fn outcome_number(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::NotWritten => 0,
        Outcome::Written => 1,
        Outcome::Partial => 2,
        Outcome::Unknown => 3,
    }
}

const fn outcome(number: u8) -> Outcome {
    match number {
        0 => Outcome::NotWritten,
        1 => Outcome::Written,
        2 => Outcome::Partial,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::peer::head::{AnswerHead, BodyHead, MAX_ANSWER_HEAD, encode};

    const KINDS: [ErrorKind; 10] = [
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Invalid,
        ErrorKind::OutOfRange,
        ErrorKind::Conflict,
        ErrorKind::NotLeader,
        ErrorKind::Overloaded,
        ErrorKind::Unavailable,
        ErrorKind::Corrupt,
        ErrorKind::Internal,
    ];

    #[test]
    fn errors_come_back_as_they_were() {
        for kind in KINDS {
            for outcome in [Outcome::NotWritten, Outcome::Written, Outcome::Partial, Outcome::Unknown] {
                let cause = Error::internal("the outer cause").with_source("the inner cause");
                let error = Error::new(kind, "some_code", "what went wrong")
                    .with_outcome(outcome)
                    .with_number("leader", 3)
                    .with_text("address", "a:1")
                    .with_source(cause);
                let back = Error::from(Failure::from(&error));
                assert_eq!(format!("{back:?}"), format!("{error:?}"));
                assert_eq!((back.kind(), back.code(), back.outcome()), (kind, "some_code", outcome));
                assert_eq!(back.details(), error.details());
            }
        }
    }

    #[test]
    fn an_error_of_any_size_fits_an_answer() {
        let long = "é".repeat(100_000);
        let mut error = Error::internal(long.clone()).with_source(long.clone());
        for _ in 0..100 {
            error = error.with_text("a_detail_with_a_name_that_is_as_long_as_the_longest_one_may_be_a", long.clone());
        }
        let failure = Some(Failure::from(&error));
        let head = AnswerHead { refused: false, failure, body: BodyHead::of(&[]) };
        assert!(encode(&head, MAX_ANSWER_HEAD).is_some());
    }

    #[test]
    fn what_another_build_says_is_kept_within_bounds() {
        let failure = Failure { kind: 200, outcome: 200, ..Failure::from(&Error::internal("x")) };
        let error = Error::from(Failure { code: "Not A Name".to_owned(), ..failure.clone() });
        assert_eq!((error.kind(), error.outcome(), error.code()), (ErrorKind::Internal, Outcome::Unknown, UNNAMED));
        let first = Error::from(Failure { code: "of_another_build".to_owned(), ..failure.clone() });
        let again = Error::from(Failure { code: "of_another_build".to_owned(), ..failure });
        assert!(std::ptr::eq(first.code(), again.code()), "a name is remembered once");
    }
}
