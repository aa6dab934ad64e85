//! What was sent and what was acknowledged, and the checker over a final scan.
//!
//! Every value is unique, so a record that is read tells which send it came from.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use serde_json::Value;

use super::http::Http;

/// Sends of a test, from any number of tasks.
#[derive(Debug, Default)]
pub(crate) struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Everything that was sent, whatever became of it.
    sent: HashSet<String>,
    /// Partition and offset that an answer promised, and the value there.
    acknowledged: HashMap<(u64, u64), String>,
    /// Values of each producer in the order in which they were sent one after the other.
    in_order: HashMap<String, Vec<String>>,
    /// Promises that contradict each other.
    broken: Vec<String>,
}

impl History {
    /// A value is about to be sent.
    pub(crate) fn sending(&self, value: &str) {
        assert!(self.inner.lock().unwrap().sent.insert(value.to_owned()), "{value} was sent before");
    }

    /// An answer promised that the value is there. Promises that contradict each other are for the check to report.
    pub(crate) fn acknowledged(&self, partition: u64, offset: u64, value: &str) {
        let mut inner = self.inner.lock().unwrap();
        let before = inner.acknowledged.insert((partition, offset), value.to_owned());
        if let Some(before) = before.filter(|before| before != value) {
            inner
                .broken
                .push(format!("offset {offset} of partition {partition} was promised to {before} and to {value}"));
        }
    }

    /// The next value of a producer that waits for each answer, all to one partition.
    pub(crate) fn next_of(&self, producer: &str, value: &str) {
        self.inner.lock().unwrap().in_order.entry(producer.to_owned()).or_default().push(value.to_owned());
    }

    /// How many records were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.inner.lock().unwrap().acknowledged.len()
    }

    /// How many records were sent.
    pub(crate) fn sent(&self) -> usize {
        self.inner.lock().unwrap().sent.len()
    }

    /// Reads everything and checks: each acknowledged record is at its offset with its value, once; offsets are dense; nothing is
    /// read that was not sent, nothing twice; each producer's order is kept.
    pub(crate) async fn check(&self, http: &Http, topic: &str) {
        if let Err(broken) = self.examine(http, topic).await {
            panic!("{broken}");
        }
    }

    /// The same as an answer, for a test that expects a broken promise.
    pub(crate) async fn examine(&self, http: &Http, topic: &str) -> Result<(), String> {
        let answer = http.get(&format!("/v1/topics/{topic}")).await;
        ensure(answer.status == 200, || format!("no topic {topic}: {}", String::from_utf8_lossy(&answer.body)))?;
        let mut found = HashMap::new();
        let mut places = HashMap::new();
        for partition in answer.json()["partitions"].as_array().unwrap() {
            let number = partition["partition"].as_u64().unwrap();
            let records = http.try_fetch_all(topic, u32::try_from(number).unwrap(), "&values=text").await?;
            let (end, count) = (partition["high_watermark"].as_u64().unwrap(), records.len());
            ensure(end == count as u64, || format!("partition {number} ends at {end} and has {count} records"))?;
            for (place, record) in records.iter().enumerate() {
                let offset = record["offset"].as_u64().unwrap();
                ensure(offset == place as u64, || format!("partition {number} has {offset} at place {place}"))?;
                let value = text(record);
                let before = places.insert(value.clone(), (number, offset));
                ensure(before.is_none(), || format!("{value} is there twice: {before:?}, {:?}", (number, offset)))?;
                found.insert((number, offset), value);
            }
        }
        let inner = self.inner.lock().unwrap();
        inner.broken.first().map_or(Ok(()), |broken| Err(broken.clone()))?;
        for (place, value) in &inner.acknowledged {
            let there = found.get(place);
            ensure(there == Some(value), || format!("acknowledged at {place:?}: {value}, found: {there:?}"))?;
        }
        for value in found.values() {
            ensure(inner.sent.contains(value), || format!("{value} was never sent"))?;
        }
        for (producer, values) in &inner.in_order {
            let offsets: Vec<_> = values.iter().filter_map(|value| places.get(value)).collect();
            ensure(offsets.is_sorted(), || format!("{producer} was reordered: {offsets:?}"))?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

fn text(record: &Value) -> String {
    record["text"].as_str().unwrap_or_else(|| panic!("no text: {record}")).to_owned()
}
