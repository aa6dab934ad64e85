//! Producers: one request after the other, each sent again as long as that is safe.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Desk, EPOCH, pause};
use crate::bucket::{self, rest_of};
use crate::history::{Attempt, Durability, Guard, ObjectPromise, Outcome, Record, Send};
use crate::random::Rng;
use crate::web::{Ask, Reply};

/// What makes a producer's retries safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A producer id, an epoch and sequences.
    Triple,
    /// A key for each request; the server chooses partitions.
    Key,
    /// Nothing: each request is sent once.
    Plain,
    /// The offset that it expects; sent once.
    Conditional,
    /// Nothing, and no promise wanted.
    Careless,
}

/// A producer of one topic.
pub struct Producer {
    desk: Desk,
    rng: Rng,
    me: u32,
    kind: Kind,
    topic: String,
    partitions: u32,
    /// Of a thousand requests, how many wait for the bucket.
    object: u64,
    /// The longest pause between requests, milliseconds.
    rest: u64,
    count: u64,
    node: u64,
    /// Producer id, epoch and next sequence.
    triple: Option<(u64, u16, u32)>,
    /// What the next conditional request expects.
    expects: u64,
}

impl Producer {
    /// One that has sent nothing.
    #[must_use]
    pub fn new(desk: Desk, mut rng: Rng, (me, kind): (u32, Kind), (topic, partitions): (&str, u32)) -> Self {
        let node = rng.within(1..4);
        let topic = topic.to_owned();
        let (object, rest, count, triple, expects) = (0, 60, 0, None, 0);
        Self { desk, rng, me, kind, topic, partitions, object, rest, count, node, triple, expects }
    }

    /// How often it waits for the bucket and how long it rests.
    #[must_use]
    pub fn with(mut self, object: u64, rest: u64) -> Self {
        (self.object, self.rest) = (object, rest);
        self
    }

    /// Produces until it is told to stop.
    pub async fn run(mut self) {
        while !self.desk.is_stopped() {
            if self.kind == Kind::Triple && self.triple.is_none() && !self.register().await {
                continue;
            }
            self.request().await;
            pause(&mut self.rng, self.rest).await;
        }
    }

    /// Produces one request that is sent until it is answered; whether it was acknowledged in time.
    pub async fn once(mut self, tries: usize) -> bool {
        for _ in 0..tries {
            self.request().await;
            let history = self.desk.history();
            let last = history.sends.iter().rev().find(|send| send.client == self.me);
            if last.is_some_and(|send| send.attempts.iter().any(|one| matches!(one.outcome, Outcome::Written(..)))) {
                return true;
            }
        }
        false
    }

    /// A fresh id, or the next epoch of its name.
    async fn register(&mut self) -> bool {
        let body = json!({ "name": format!("producer-{}", self.me) });
        let ask = Ask::with(Method::POST, "/v1/producers".to_owned(), body, 2_000);
        match self.desk.insist(&mut self.rng, &ask, 1).await {
            Some((200 | 201, body)) => {
                let id = body["producer_id"].as_u64().unwrap_or(0);
                let epoch = body["epoch"].as_u64().and_then(|epoch| u16::try_from(epoch).ok());
                self.triple = Some((id, epoch.unwrap_or(0), 0));
                true
            }
            _ => false,
        }
    }

    async fn request(&mut self) {
        let (records, bodies) = self.records();
        let partition = match self.kind {
            Kind::Key => None,
            _ => Some(self.me % self.partitions),
        };
        let guard = match (self.kind, self.triple) {
            (Kind::Triple, Some((id, epoch, sequence))) => Guard::Triple(id, epoch, sequence),
            (Kind::Key, _) => Guard::Key(format!("key-{}-{}", self.me, self.count)),
            _ => Guard::Plain,
        };
        let is_object = self.rng.chance(self.object) && self.kind != Kind::Careless;
        let ask = self.ask((partition, &guard), bodies, is_object);
        let expected = (self.kind == Kind::Conditional).then_some(self.expects);
        let at = {
            let mut history = self.desk.history();
            let (client, topic) = (self.me, self.topic.clone());
            history.sends.push(Send { client, topic, partition, records, guard, expected, attempts: Vec::new() });
            history.sends.len() - 1
        };
        loop {
            let outcome = self.attempt(at, &ask, is_object).await;
            let is_done = match &outcome {
                // Of a part that failed only a retry tells more.
                Outcome::Written(_, places) => self.kind != Kind::Key || places.iter().all(Option::is_some),
                Outcome::Accepted => true,
                Outcome::Unknown | Outcome::NotWritten => !matches!(self.kind, Kind::Triple | Kind::Key),
            };
            if matches!(outcome, Outcome::Unknown | Outcome::NotWritten) {
                self.node = self.desk.any(&mut self.rng);
                sleep(Duration::from_millis(20)).await;
            }
            if is_done || self.desk.is_stopped() || self.gave_up(at) {
                return;
            }
        }
    }

    /// Whether a triple is worth nothing any more, so that its request stays as it is.
    fn gave_up(&self, at: usize) -> bool {
        self.kind == Kind::Triple && self.triple.is_none() || self.desk.history().sends[at].attempts.len() > 400
    }

    fn records(&mut self) -> (Vec<Record>, Vec<Value>) {
        let count = 1 + self.rng.below(4);
        let (mut records, mut bodies) = (Vec::new(), Vec::new());
        for _ in 0..count {
            self.count += 1;
            let value = format!("v-{}-{}", self.me, self.count);
            let key = self.rng.chance(600).then(|| format!("k{}", self.rng.below(20)));
            let timestamp = (EPOCH + self.desk.trace.now()).cast_signed();
            let headers: Vec<(String, Option<Vec<u8>>)> = match self.rng.below(3) {
                0 => vec![("h".to_owned(), None), ("h".to_owned(), Some(b"x".to_vec()))],
                _ => Vec::new(),
            };
            let rest = rest_of(key.as_ref().map(String::as_bytes), &headers, timestamp);
            let headers: Vec<Value> =
                headers.iter().map(|(name, value)| json!([name, value.as_ref().map(|_| "x")])).collect();
            bodies.push(json!({ "text": value, "key": key, "headers": headers, "timestamp": timestamp }));
            records.push(Record { value, rest });
        }
        (records, bodies)
    }

    fn ask(&self, (partition, guard): (Option<u32>, &Guard), bodies: Vec<Value>, is_object: bool) -> Ask {
        let acks = match self.kind {
            Kind::Careless => "none",
            _ if is_object => "object",
            _ => "quorum",
        };
        let place = partition.map_or(String::new(), |partition| format!("/partitions/{partition}"));
        let path = format!("/v1/topics/{}{place}/records?acks={acks}&timeout_ms=4000", self.topic);
        let mut ask = Ask::with(Method::POST, path, json!({ "records": bodies }), 5_000);
        match guard {
            Guard::Triple(id, epoch, sequence) => {
                ask.headers.push(("producer-id", id.to_string()));
                ask.headers.push(("producer-epoch", epoch.to_string()));
                ask.headers.push(("producer-sequence", sequence.to_string()));
            }
            Guard::Key(key) => ask.headers.push(("idempotency-key", key.clone())),
            Guard::Plain => {}
        }
        if self.kind == Kind::Conditional {
            ask.headers.push(("expected-offset", self.expects.to_string()));
        }
        ask
    }

    async fn attempt(&mut self, at: usize, ask: &Ask, is_object: bool) -> Outcome {
        let begun = {
            let mut history = self.desk.history();
            let begun = history.stamp();
            let time = self.desk.trace.now();
            history.sends[at].attempts.push(Attempt { begun, ended: None, time, outcome: Outcome::Unknown });
            history.sends[at].attempts.len() - 1
        };
        let reply = self.desk.web.send(self.node, ask).await;
        let outcome = self.outcome(&reply);
        let count = {
            let mut history = self.desk.history();
            let ended = history.stamp();
            let attempt = &mut history.sends[at].attempts[begun];
            attempt.outcome = outcome.clone();
            attempt.ended = (reply != Reply::Lost).then_some(ended);
            history.sends[at].records.len() as u32
        };
        if let Outcome::Written(durability, places) = &outcome {
            if *durability == Durability::Object && is_object {
                self.note_objects(places);
            }
            if let Some((_, _, sequence)) = &mut self.triple {
                *sequence = (*sequence + count) & 0x7fff_ffff;
            }
            if let Some(Some((_, offset))) = places.last() {
                self.expects = offset + 1;
            }
        }
        outcome
    }

    /// What the bucket has at this moment of what was just said to be in it.
    fn note_objects(&self, places: &[Option<(u32, u64)>]) {
        let flushed = bucket::flushed(&self.desk.store.objects());
        for (partition, offset) in places.iter().flatten() {
            let part = (self.topic.clone(), *partition);
            let flushed = flushed.get(&part).copied().unwrap_or(0);
            self.desk.history().objects.push(ObjectPromise { place: (part, *offset), flushed });
        }
    }

    fn outcome(&mut self, reply: &Reply) -> Outcome {
        let (status, body) = match reply {
            Reply::Refused => return Outcome::NotWritten,
            Reply::Lost => return Outcome::Unknown,
            Reply::Answer(status, body) => (*status, body),
        };
        match status {
            200 => {
                let is_object = body["durability"] == "object";
                let durability = if is_object { Durability::Object } else { Durability::Quorum };
                Outcome::Written(durability, places(&body["records"]))
            }
            202 => Outcome::Accepted,
            _ => self.failure(&body["error"]),
        }
    }

    fn failure(&mut self, error: &Value) -> Outcome {
        let code = error["code"].as_str().unwrap_or("");
        match code {
            "producer_fenced" | "unknown_producer" | "sequence_gap" | "sequence_reused" | "duplicate_sequence" => {
                self.triple = None;
            }
            "offset_mismatch" => {
                self.expects = error["details"]["actual_offset"].as_u64().unwrap_or(self.expects);
            }
            _ => {}
        }
        match error["outcome"].as_str() {
            Some("not_written") => Outcome::NotWritten,
            Some("written" | "partial") => Outcome::Written(Durability::Quorum, places(&error["details"]["records"])),
            _ => Outcome::Unknown,
        }
    }
}

fn places(records: &Value) -> Vec<Option<(u32, u64)>> {
    let place = |record: &Value| {
        let partition = u32::try_from(record["partition"].as_u64()?).ok()?;
        Some((partition, record["offset"].as_u64()?))
    };
    records.as_array().map_or_else(Vec::new, |records| records.iter().map(place).collect())
}
