//! Readers: one follows a partition from its beginning, looks back now and then, and asks for bounds; the final scan.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Desk, pause};
use crate::bucket::rest_of;
use crate::history::{Bounds, Look, Page, Part, PartScan, Record, Scan, Stamp};
use crate::random::Rng;
use crate::web::{Ask, Reply};

/// Follows a partition until it is told to stop.
pub async fn reader(desk: Desk, mut rng: Rng, part: Part) {
    let mut next = 0;
    let mut node = desk.any(&mut rng);
    while !desk.is_stopped() {
        match rng.below(10) {
            0 => look(&desk, node, &part.0).await,
            1 if next > 0 => {
                let from = rng.below(next);
                // Where something was just trimmed the bounds are worth a look.
                if let Got::LogStart(_) = page(&desk, node, &part, (from, 0)).await {
                    look(&desk, node, &part.0).await;
                }
            }
            _ => match page(&desk, node, &part, (next, 300)).await {
                Got::Next(after) => next = after,
                Got::LogStart(start) => next = start.max(next),
                // After a start from the bucket that lost something.
                Got::Beyond(end) => next = end.min(next),
                Got::Nothing => node = desk.any(&mut rng),
            },
        }
        if rng.chance(100) {
            node = desk.any(&mut rng);
        }
        pause(&mut rng, 30).await;
    }
}

/// What came of asking for a page.
enum Got {
    /// A page; the next one begins here.
    Next(u64),
    /// It was trimmed: the log begins here.
    LogStart(u64),
    /// There is nothing so high.
    Beyond(u64),
    /// No page.
    Nothing,
}

async fn page(desk: &Desk, node: u64, part: &Part, (from, wait): (u64, u64)) -> Got {
    let path = format!(
        "/v1/topics/{}/partitions/{}/records?offset={from}&max_records=40&wait_ms={wait}&values=text",
        part.0, part.1
    );
    let begun = desk.history().stamp();
    let reply = desk.web.send(node, &Ask::get(path, 3_000)).await;
    let Reply::Answer(status, body) = reply else { return Got::Nothing };
    let details = &body["error"]["details"];
    match status {
        200 => {}
        410 => return details["log_start_offset"].as_u64().map_or(Got::Nothing, Got::LogStart),
        416 => {
            // A linearizable answer about the bounds.
            let Some(bounds) = bounds(details) else { return Got::Nothing };
            note(desk, part, begun, bounds);
            return Got::Beyond(bounds.high_watermark);
        }
        _ => return Got::Nothing,
    }
    let (Some(bounds), Some(next)) = (bounds(&body), body["next_offset"].as_u64()) else { return Got::Nothing };
    let records = records(&body["records"]);
    let mut history = desk.history();
    let ended = history.stamp();
    // A page that waited for its first record was linearized before that one came: it has nothing more to say of the end.
    let to_the_end = next == bounds.high_watermark && wait == 0;
    history.pages.push(Page { part: part.clone(), from, begun, ended, records, next, to_the_end, bounds });
    Got::Next(next)
}

fn bounds(body: &Value) -> Option<Bounds> {
    let number = |name: &str| body[name].as_u64();
    Some(Bounds { log_start: number("log_start_offset")?, high_watermark: number("high_watermark")? })
}

fn note(desk: &Desk, part: &Part, begun: Stamp, bounds: Bounds) {
    desk.trace.note("look", format_args!("{}/{} [{}, {})", part.0, part.1, bounds.log_start, bounds.high_watermark));
    let mut history = desk.history();
    let ended = history.stamp();
    history.looks.push(Look { part: part.clone(), begun, ended, bounds });
}

/// Asks for the bounds of all partitions of a topic.
async fn look(desk: &Desk, node: u64, topic: &str) {
    let begun = desk.history().stamp();
    let Reply::Answer(200, body) = desk.web.send(node, &Ask::get(format!("/v1/topics/{topic}"), 3_000)).await else {
        return;
    };
    for (part, bounds) in described(topic, &body) {
        note(desk, &part, begun, bounds);
    }
}

fn described(topic: &str, body: &Value) -> BTreeMap<Part, Bounds> {
    let partitions = body["partitions"].as_array().cloned().unwrap_or_default();
    let of = |partition: &Value| {
        let number = u32::try_from(partition["partition"].as_u64()?).ok()?;
        Some(((topic.to_owned(), number), bounds(partition)?))
    };
    partitions.iter().filter_map(of).collect()
}

fn records(body: &Value) -> Vec<(u64, Record)> {
    let records = body.as_array().cloned().unwrap_or_default();
    records.iter().map(|record| (record["offset"].as_u64().unwrap_or(u64::MAX), of_json(record))).collect()
}

fn of_json(record: &Value) -> Record {
    let headers = record["headers"].as_array().cloned().unwrap_or_default();
    let header = |pair: &Value| {
        let value = pair[1].as_str().map(|value| value.as_bytes().to_vec());
        (pair[0].as_str().unwrap_or("").to_owned(), value)
    };
    let headers: Vec<_> = headers.iter().map(header).collect();
    let key = record["key"].as_str().map(str::as_bytes);
    let rest = rest_of(key, &headers, record["timestamp"].as_i64().unwrap_or(i64::MIN));
    Record { value: record["text"].as_str().unwrap_or("").to_owned(), rest }
}

/// Reads everything in the end, each page from another node.
pub async fn scan(desk: &Desk, rng: &mut Rng) -> Scan {
    let mut scan = Scan { source: "http".to_owned(), ..Scan::default() };
    let Some((200, body)) = desk.insist(rng, &Ask::get("/v1/topics?limit=1000".to_owned(), 5_000), 100).await else {
        scan.problems.push("topics cannot be listed".to_owned());
        return scan;
    };
    let topics = body["topics"].as_array().cloned().unwrap_or_default();
    for name in topics.iter().filter_map(|topic| topic["name"].as_str()) {
        let ask = Ask::get(format!("/v1/topics/{name}"), 5_000);
        let Some((200, body)) = desk.insist(rng, &ask, 100).await else {
            scan.problems.push(format!("topic {name} cannot be described"));
            continue;
        };
        for (part, bounds) in described(name, &body) {
            match partition(desk, rng, &part, bounds).await {
                Ok(found) => drop(scan.parts.insert(part, found)),
                Err(problem) => scan.problems.push(format!("{}/{}: {problem}", part.0, part.1)),
            }
        }
    }
    scan
}

/// Everything of a partition up to the high watermark; what is trimmed meanwhile is left out.
async fn partition(desk: &Desk, rng: &mut Rng, part: &Part, bounds: Bounds) -> Result<PartScan, String> {
    let mut found = PartScan { start: bounds.log_start, end: bounds.high_watermark, records: Vec::new() };
    let mut next = bounds.log_start;
    while next < bounds.high_watermark {
        let path =
            format!("/v1/topics/{}/partitions/{}/records?offset={next}&max_records=200&values=text", part.0, part.1);
        match desk.insist(rng, &Ask::get(path, 10_000), 100).await {
            Some((200, body)) => {
                let page = records(&body["records"]);
                let after = body["next_offset"].as_u64().unwrap_or(next);
                if after <= next {
                    return Err(format!(
                        "the page from {next} is empty, the high watermark is {}",
                        bounds.high_watermark
                    ));
                }
                found.records.extend(page.into_iter().filter(|(offset, _)| *offset < bounds.high_watermark));
                next = after;
            }
            Some((410, body)) => {
                let start = body["error"]["details"]["log_start_offset"].as_u64().unwrap_or(next + 1);
                (found.start, next) = (start, start);
                found.records.clear();
            }
            other => return Err(format!("the page from {next} cannot be had: {other:?}")),
        }
    }
    found.end = found.end.max(found.start);
    Ok(found)
}
