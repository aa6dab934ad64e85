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
}

impl History {
    /// A value is about to be sent.
    pub(crate) fn sending(&self, value: &str) {
        assert!(self.inner.lock().unwrap().sent.insert(value.to_owned()), "{value} was sent before");
    }

    /// An answer promised that the value is there.
    pub(crate) fn acknowledged(&self, partition: u64, offset: u64, value: &str) {
        let before = self.inner.lock().unwrap().acknowledged.insert((partition, offset), value.to_owned());
        assert!(before.as_deref().is_none_or(|before| before == value), "offset {offset} was promised twice");
    }

    /// The next value of a producer that waits for each answer, all to one partition.
    pub(crate) fn next_of(&self, producer: &str, value: &str) {
        self.inner.lock().unwrap().in_order.entry(producer.to_owned()).or_default().push(value.to_owned());
    }

    /// How many records were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.inner.lock().unwrap().acknowledged.len()
    }

    /// Reads everything and checks: each acknowledged record is at its offset with its value, once; offsets are dense; nothing is
    /// read that was not sent, nothing twice; each producer's order is kept.
    pub(crate) async fn check(&self, http: &Http, topic: &str) {
        let description = http.get(&format!("/v1/topics/{topic}")).await.expect(200);
        let mut found = HashMap::new();
        let mut places = HashMap::new();
        for partition in description["partitions"].as_array().unwrap() {
            let number = partition["partition"].as_u64().unwrap();
            let records = http.fetch_all(topic, u32::try_from(number).unwrap(), "&values=text").await;
            assert_eq!(partition["high_watermark"].as_u64().unwrap(), records.len() as u64, "partition {number}");
            for (place, record) in records.iter().enumerate() {
                assert_eq!(record["offset"].as_u64().unwrap(), place as u64, "partition {number} is not dense");
                let value = text(record);
                let before = places.insert(value.clone(), (number, place as u64));
                assert!(before.is_none(), "{value} is there twice: {before:?} and {:?}", (number, place));
                found.insert((number, place as u64), value);
            }
        }
        let inner = self.inner.lock().unwrap();
        for (place, value) in &inner.acknowledged {
            assert_eq!(found.get(place), Some(value), "acknowledged at {place:?}");
        }
        for value in found.values() {
            assert!(inner.sent.contains(value), "{value} was never sent");
        }
        for (producer, values) in &inner.in_order {
            let offsets: Vec<_> = values.iter().filter_map(|value| places.get(value)).collect();
            assert!(offsets.is_sorted(), "{producer} was reordered: {offsets:?}");
        }
    }
}

fn text(record: &Value) -> String {
    record["text"].as_str().unwrap_or_else(|| panic!("no text: {record}")).to_owned()
}
