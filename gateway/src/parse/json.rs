//! `{"records":[…]}`: the body of `application/json`.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tidelog_api::ErrorCode;
use tidelog_api::limits::MAX_RECORDS;
use tidelog_api::produce::RecordBody;

use super::object::{Object, fault};
use super::record::to_record;
use super::{Records, too_many_records};
use crate::error::{ApiError, Result};

/// Parses a whole body. `now` is the timestamp of records that have none.
pub(crate) fn parse(body: &Bytes, now: i64) -> Result<Records> {
    let progress = Progress { source: body, now, records: RefCell::default(), stopped: RefCell::default() };
    let mut from = serde_json::Deserializer::from_slice(body);
    let result = from.deserialize_map(Top(&progress)).and_then(|()| from.end());
    let records = progress.records.into_inner();
    if let Some(error) = progress.stopped.into_inner() {
        return Err(error);
    }
    match (result, records) {
        (Ok(()), Some(records)) => Ok(records),
        (Ok(()), None) => Err(ApiError::new(ErrorCode::InvalidRequest, "the member records is missing")),
        // Inside the list the record after the last good one is at fault.
        (Err(error), Some(records)) if error.is_data() => Err(ApiError::record(records.len(), error.to_string())),
        (Err(error), _) => Err(fault(&error, ErrorCode::InvalidRequest)),
    }
}

/// What the visitors share; they cannot return more than a message.
struct Progress<'a> {
    source: &'a Bytes,
    now: i64,
    records: RefCell<Option<Records>>,
    stopped: RefCell<Option<ApiError>>,
}

impl Progress<'_> {
    fn push<E: serde::de::Error>(&self, body: &RecordBody<'_>) -> Result<(), E> {
        let mut records = self.records.borrow_mut();
        let records = records.get_or_insert_default();
        let error = if records.len() == MAX_RECORDS {
            too_many_records()
        } else {
            match to_record(body, self.source, self.now) {
                Ok(record) => {
                    records.push(record);
                    return Ok(());
                }
                Err(message) => ApiError::record(records.len(), message),
            }
        };
        *self.stopped.borrow_mut() = Some(error);
        Err(E::custom("stopped"))
    }
}

struct Top<'p, 'a>(&'p Progress<'a>);

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the member records")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name != "records" || self.0.records.borrow().is_some() {
                let message = match name.as_str() {
                    "records" => "the member records is given twice".to_owned(),
                    _ => format!("unknown member {name:?}, expected records"),
                };
                *self.0.stopped.borrow_mut() = Some(ApiError::new(ErrorCode::InvalidRequest, message));
                map.next_value::<IgnoredAny>()?;
                return Err(M::Error::custom("stopped"));
            }
            map.next_value_seed(List(self.0))?;
        }
        Ok(())
    }
}

struct List<'p, 'a>(&'p Progress<'a>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        self.0.records.borrow_mut().get_or_insert_default();
        while let Some(Object(body)) = seq.next_element::<Object<RecordBody<'de>>>()? {
            self.0.push(&body)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
