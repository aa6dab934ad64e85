//! Following a partition of a server that is one task of the test.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::stub::{self, Answer, ID};

/// Records up to `next_offset`.
fn page(lines: &str, next_offset: u64) -> Answer {
    let headers = format!("tidelog-next-offset: {next_offset}\r\ntidelog-high-watermark: {next_offset}\r\n");
    Answer { status: "200 OK", headers, body: lines.to_owned() }
}

/// A log that ends at `high_watermark`, before what was asked for.
fn out_of_range(high_watermark: u64) -> Answer {
    let details = json!({"log_start_offset": 0, "high_watermark": high_watermark});
    Answer::error("416 Range Not Satisfiable", "offset_out_of_range", &details)
}

/// What following from offset 5 prints, and the error with which it ends.
async fn followed(awaited: bool, answers: impl IntoIterator<Item = Answer>) -> (String, anyhow::Error) {
    let (_, topic, _) = stub::topic(answers).await;
    let (sender, mut pages) = mpsc::channel(16);
    let lane = Lane { partition: 0, start: FetchStart::Offset(5), end: None, awaited };
    let error = read_lane(&topic, lane, &sender).await.unwrap_err();
    drop(sender);
    let mut printed = String::new();
    while let Some(page) = pages.recv().await {
        printed.push_str(std::str::from_utf8(&page.unwrap().lines).unwrap());
    }
    (printed, error)
}

#[tokio::test]
async fn a_follower_whose_log_got_shorter_ends_instead_of_leaving_records_out() {
    for awaited in [true, false] {
        let (printed, error) = followed(awaited, [page("{\"offset\":5}\n", 6), out_of_range(3)]).await;
        assert_eq!(printed, "{\"offset\":5}\n");
        let error = error.to_string();
        assert!(error.contains("offset 6,") && error.contains("high watermark 3."), "{error}");
    }
}

#[tokio::test]
async fn a_log_that_got_shorter_before_the_first_page_is_told_unless_the_offset_was_asked_for() {
    let (_, error) = followed(false, [out_of_range(3)]).await;
    assert!(error.to_string().contains("the log got shorter: offset 5,"), "{error}");
    let reached = Answer::ok(&json!({"topic_id": ID, "records": [], "next_offset": 5, "log_start_offset": 0,
        "flushed_offset": 0, "high_watermark": 5, "last_stable_offset": 5}));
    let (printed, _) = followed(true, [out_of_range(3), reached, page("{\"offset\":5}\n", 6)]).await;
    assert_eq!(printed, "{\"offset\":5}\n", "it is waited for");
}
