//! The answer to a produce request: never a success that hides a failure.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json as value};
use tidelog::model::{Acks, Produced, RecordOutcome};
use tidelog_api::Outcome;
use tidelog_api::produce::{Durability, ProduceResponse, RecordPosition};

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
    let error = produced
        .flush_failure
        .map_or_else(|| ApiError::from(tidelog::error::Error::internal("no flush failure")), ApiError::from);
    error.with_outcome(Outcome::Written).with("topic_id", topic_id).with("records", records)
}

/// Some partitions failed: the worst failure speaks for the request.
fn failed(mut produced: Produced) -> ApiError {
    let failures: Vec<ApiError> = std::mem::take(&mut produced.failures).into_iter().map(ApiError::from).collect();
    let any_written = produced.records.iter().any(|record| matches!(record, RecordOutcome::Written { .. }));
    let outcome = overall(any_written, failures.iter().map(|failure| failure.outcome().unwrap_or(Outcome::NotWritten)));
    // One partition and nothing else: its own error says it all, and is not repeated for every record.
    let single = failures.len() == 1 && !any_written;
    let records = if single { Value::Null } else { results(&produced, &failures) };
    let topic_id = produced.topic_id.to_string();
    let worst = failures.into_iter().max_by_key(severity);
    let error = worst.unwrap_or_else(|| ApiError::from(tidelog::error::Error::internal("a failure without an error")));
    let error = error.with_outcome(outcome).with("topic_id", topic_id);
    if single { error } else { error.with("records", records) }
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
    let errors: Vec<Value> = failures
        .iter()
        .map(|error| {
            let outcome = error.outcome().unwrap_or(Outcome::NotWritten);
            value!({
                "code": error.code().as_str(),
                "message": error.message(),
                "retryable": error.code().retryable(),
                "outcome": outcome,
            })
        })
        .collect();
    let result = |record: &RecordOutcome| match *record {
        RecordOutcome::Written { partition, offset } => value!({ "partition": partition, "offset": offset }),
        RecordOutcome::Failed { partition, failure } => {
            value!({ "partition": partition, "error": errors.get(failure as usize) })
        }
    };
    produced.records.iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    use tidelog::error::{Error, ErrorKind, Outcome as Engine};
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
    fn a_late_flush_says_written_with_the_offsets() {
        let late = Error::new(ErrorKind::Unavailable, "flush_timeout", "late");
        let request = Produced { flush_failure: Some(late), ..produced(vec![WRITTEN], Vec::new()) };
        let Err(error) = respond(request, Acks::Object) else { panic!("a late flush is no success") };
        assert_eq!((error.status().as_u16(), error.outcome()), (504, Some(Outcome::Written)));
        assert_eq!(error.details()["records"][0]["offset"], 120);
    }
}
