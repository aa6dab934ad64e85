//! Whoever creates and deletes topics and asks for flushes, as operators and scripts do.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{Desk, pause, settings};
use crate::random::Rng;
use crate::web::Ask;

/// Creates topics, deletes some, and has things flushed and archived, until it is told to stop.
pub async fn operator(desk: Desk, mut rng: Rng, (topics, rest): (Vec<String>, u64)) {
    let (mut count, mut created) = (0, Vec::new());
    while !desk.is_stopped() {
        match rng.below(10) {
            0 => {
                count += 1;
                let name = format!("x-{count}");
                if desk.create(&mut rng, &name, settings(1 + count % 4, (None, None)), 3).await {
                    created.push(name);
                }
            }
            1 if !created.is_empty() => {
                let name = created.swap_remove(rng.below(created.len() as u64) as usize);
                delete(&desk, &mut rng, &name).await;
            }
            action => {
                let topic = rng.pick(&topics).clone();
                let archive = action < 5;
                let path = format!("/v1/topics/{topic}:flush?archive={archive}&wait_ms={}", rng.below(500));
                let ask = Ask::with(Method::POST, path, json!({}), 3_000);
                let ask = Ask { body: None, ..ask };
                desk.insist(&mut rng, &ask, 1).await;
            }
        }
        pause(&mut rng, rest).await;
    }
}

async fn delete(desk: &Desk, rng: &mut Rng, name: &str) {
    {
        let mut history = desk.history();
        let now = history.stamp();
        if let Some(topic) = history.topics.get_mut(name) {
            topic.deleting = Some(now);
        }
    }
    let ask = Ask { method: Method::DELETE, ..Ask::get(format!("/v1/topics/{name}"), 5_000) };
    let answer = desk.insist(rng, &ask, 3).await;
    // One that is not found was deleted by an attempt whose answer was lost.
    if matches!(answer, Some((202 | 404, _))) {
        let mut history = desk.history();
        let now = history.stamp();
        if let Some(topic) = history.topics.get_mut(name) {
            topic.deleted = Some(now);
        }
    }
}

/// Has all topics flushed, and archived if asked for, and says whether that was done in time.
pub async fn flush_all(desk: &Desk, rng: &mut Rng, topics: &[String], archive: bool) -> bool {
    for topic in topics {
        let path = format!("/v1/topics/{topic}:flush?archive={archive}&wait_ms=5000");
        let ask = Ask { method: Method::POST, ..Ask::get(path, 10_000) };
        let mut done = false;
        for _ in 0..12 {
            done = matches!(desk.insist(rng, &ask, 20).await, Some((200, _)));
            if done {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        if !done {
            return false;
        }
    }
    true
}
