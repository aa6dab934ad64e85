//! The answer to a produce request: never a success that hides a failure.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tidelog::error::Error;
use tidelog::model::{Acks, Produced, RecordOutcome};
use tidelog_api::Outcome;
use tidelog_api::produce::{Durability, ProduceResponse, RecordError, RecordPosition, RecordResult};

use super::super::json;
use crate::error::{ApiError, Result};

/// Renders what became of a request.
pub(super) fn respond(produced: Produced, acks: Acks) -> Result<Response> {
    if !produced.failures.is_empty() {
        return Err(failed(produced));
    }
    if produced.flush_failure.is_some() {
        return Err(not_flushed(produced));
    }
    let durability = match acks {
        Acks::None => Durability::None,
        Acks::Quorum => Durability::Quorum,
        Acks::Object => Durability::Object,
    };
    let status = if acks == Acks::None { StatusCode::ACCEPTED } else { StatusCode::OK };
    let records = (acks != Acks::None).then(|| produced.records.iter().filter_map(position).collect());
    let topic_id = produced.topic_id.0;
    json(status, &ProduceResponse { topic_id, durability, records, duplicate: produced.duplicate })
}

fn position(record: &RecordOutcome) -> Option<RecordPosition> {
    match *record {
        RecordOutcome::Written { partition, offset } => Some(RecordPosition { partition, offset }),
        RecordOutcome::Failed { .. } => None,
    }
}

/// Written by a quorum, but not known to be in the bucket: the offsets, and no reason to send it again.
fn not_flushed(produced: Produced) -> ApiError {
    let records = results(&produced, &[]);
    let topic_id = produced.topic_id.to_string();
    let error =
        produced.flush_failure.map_or_else(|| ApiError::from(Error::internal("no flush failure")), ApiError::from);
    error.with_outcome(Outcome::Written).with("topic_id", topic_id).with("records", records)
}

/// Some partitions failed: the worst failure speaks for the request. That the others are not flushed is one too.
fn failed(mut produced: Produced) -> ApiError {
    let flush_failure = produced.flush_failure.take().map(unflushed_rest);
    let failures: Vec<ApiError> = std::mem::take(&mut produced.failures).into_iter().map(ApiError::from).collect();
    let any_written = produced.records.iter().any(|record| matches!(record, RecordOutcome::Written { .. }));
    let outcome = overall(any_written, failures.iter().map(|failure| failure.outcome().unwrap_or(Outcome::NotWritten)));
    // One partition and nothing else: its own error says it all, and is not repeated for every record.
    let single = failures.len() == 1 && !any_written;
    let records = if single { Value::Null } else { results(&produced, &failures) };
    let topic_id = produced.topic_id.to_string();
    let flush_detail = flush_failure.as_ref().map(|failure| json_of(record_error(failure)));
    let worst = failures.into_iter().chain(flush_failure).max_by_key(severity);
    let error = worst.unwrap_or_else(|| ApiError::from(Error::internal("a failure without an error")));
    let mut error = error.with_outcome(outcome).with("topic_id", topic_id);
    if let Some(detail) = flush_detail {
        error = error.with("flush_failure", detail);
    }
    if single { error } else { error.with("records", records) }
}

/// A failed flush where other records failed: its own message is about all records of a request.
fn unflushed_rest(failure: Error) -> ApiError {
    let error = ApiError::from(failure).with_outcome(Outcome::Written);
    error.with_message("some records failed, the others are written but perhaps not in the bucket: see details.records")
}

/// The higher status is worse; of equal ones the one that a retry does not mend.
fn severity(error: &ApiError) -> (u16, bool) {
    (error.code().status(), !error.code().retryable())
}

/// What the request as a whole wrote.
fn overall(any_written: bool, failures: impl Iterator<Item = Outcome>) -> Outcome {
    let mut outcomes: Vec<Outcome> = failures.collect();
    if any_written {
        outcomes.push(Outcome::Written);
    }
    let all = |outcome: Outcome| outcomes.iter().all(|other| *other == outcome);
    if all(Outcome::NotWritten) {
        Outcome::NotWritten
    } else if all(Outcome::Written) {
        Outcome::Written
    } else if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Written | Outcome::Partial)) {
        Outcome::Partial
    } else {
        Outcome::Unknown
    }
}

/// `details.records`, in request order.
fn results(produced: &Produced, failures: &[ApiError]) -> Value {
    let errors: Vec<RecordError> = failures.iter().map(record_error).collect();
    let result = |record: &RecordOutcome| match *record {
        RecordOutcome::Written { partition, offset } => RecordResult { partition, offset: Some(offset), error: None },
        RecordOutcome::Failed { partition, failure } => {
            RecordResult { partition, offset: None, error: errors.get(failure as usize).cloned() }
        }
    };
    produced.records.iter().map(|record| json_of(result(record))).collect()
}

fn record_error(error: &ApiError) -> RecordError {
    RecordError {
        code: error.code().as_str().to_owned(),
        message: error.message().to_owned(),
        retryable: error.code().retryable(),
        outcome: error.outcome().unwrap_or(Outcome::NotWritten),
    }
}

/// As JSON; members of these kinds cannot fail to be.
fn json_of(detail: impl Serialize) -> Value {
    serde_json::to_value(detail).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;
    use tidelog::error::{ErrorKind, Outcome as Engine};
    use tidelog::model::TopicId;
    use uuid::Uuid;

    use super::*;

    fn produced(records: Vec<RecordOutcome>, failures: Vec<Error>) -> Produced {
        Produced { topic_id: TopicId(Uuid::nil()), records, failures, duplicate: false, flush_failure: None }
    }

    const WRITTEN: RecordOutcome = RecordOutcome::Written { partition: 3, offset: 120 };
    const FAILED: RecordOutcome = RecordOutcome::Failed { partition: 1, failure: 0 };

    #[test]
    fn a_success_names_durability_and_offsets() {
        for (acks, status) in [(Acks::Quorum, 200), (Acks::Object, 200), (Acks::None, 202)] {
            let response = respond(produced(vec![WRITTEN], Vec::new()), acks);
            assert_eq!(response.map(|response| response.status().as_u16()).ok(), Some(status));
        }
    }

    #[test]
    fn a_partial_failure_has_the_worst_status_and_every_result() {
        let failures = vec![
            Error::overloaded("full"),
            Error::new(ErrorKind::Unavailable, "timeout", "late").with_outcome(Engine::Unknown),
        ];
        let records = vec![FAILED, WRITTEN, RecordOutcome::Failed { partition: 2, failure: 1 }];
        let error = failed(produced(records, failures));
        assert_eq!((error.status().as_u16(), error.outcome()), (504, Some(Outcome::Partial)));
        let results = &error.details()["records"];
        assert_eq!(results[0]["error"]["code"], "overloaded");
        assert_eq!(results[0]["error"]["outcome"], "not_written");
        assert_eq!(results[1], value!({ "partition": 3, "offset": 120 }));
        assert_eq!(results[2]["error"]["outcome"], "unknown");
    }

    #[test]
    fn a_single_failure_is_the_answer() {
        let gap = Error::new(ErrorKind::Conflict, "sequence_gap", "gap").with_number("expected_sequence", 4);
        let error = failed(produced(vec![FAILED, FAILED], vec![gap]));
        assert_eq!((error.code().as_str(), error.outcome()), ("sequence_gap", Some(Outcome::NotWritten)));
        assert_eq!(error.details()["expected_sequence"], 4);
        assert!(error.details().get("records").is_none());
    }

    #[test]
    fn the_outcome_of_all_is_never_better_than_that_of_one() {
        use Outcome::{NotWritten, Partial, Unknown, Written};
        let cases: [(bool, &[Outcome], Outcome); 7] = [
            (false, &[NotWritten, NotWritten], NotWritten),
            (false, &[NotWritten, Unknown], Unknown),
            (false, &[Unknown], Unknown),
            (false, &[Written], Written),
            (true, &[Written], Written),
            (true, &[NotWritten], Partial),
            (true, &[Unknown], Partial),
        ];
        for (any_written, failures, expected) in cases {
            assert_eq!(overall(any_written, failures.iter().copied()), expected, "{any_written} {failures:?}");
        }
    }

    #[test]
    fn a_late_flush_counts_where_other_partitions_failed() {
        let late = || Some(Error::new(ErrorKind::Unavailable, "flush_timeout", "late"));
        let partial = |failure| {
            let request = produced(vec![FAILED, WRITTEN], vec![failure]);
            let request = Produced { flush_failure: late(), ..request };
            respond(request, Acks::Object).expect_err("a failure is no success")
        };
        let error = partial(Error::new(ErrorKind::Conflict, "offset_mismatch", "another"));
        assert_eq!((error.status().as_u16(), error.code().as_str()), (504, "flush_timeout"));
        assert_eq!(error.outcome(), Some(Outcome::Partial));
        assert!(error.message().contains("some records failed"), "{error:?}");
        assert_eq!(error.details()["records"][0]["error"]["code"], "offset_mismatch");
        assert_eq!(error.details()["records"][1], value!({ "partition": 3, "offset": 120 }));
        let worse = partial(Error::new(ErrorKind::Unavailable, "timeout", "late").with_outcome(Engine::Unknown));
        assert_eq!((worse.status().as_u16(), worse.outcome()), (504, Some(Outcome::Partial)));
        for error in [error, worse] {
            let flush = &error.details()["flush_failure"];
            assert_eq!((&flush["code"], &flush["outcome"]), (&value!("flush_timeout"), &value!("written")));
        }
    }

    #[test]
    fn a_late_flush_says_written_with_the_offsets() {
        let late = Error::new(ErrorKind::Unavailable, "flush_timeout", "late");
        let request = Produced { flush_failure: Some(late), ..produced(vec![WRITTEN], Vec::new()) };
        let Err(error) = respond(request, Acks::Object) else { panic!("a late flush is no success") };
        assert_eq!((error.status().as_u16(), error.outcome()), (504, Some(Outcome::Written)));
        assert_eq!(error.details()["records"][0]["offset"], 120);
    }
}
