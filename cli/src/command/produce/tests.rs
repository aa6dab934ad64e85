//! How a run begins, at a server that is one task of the test.
#![allow(clippy::unwrap_used)]

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::args::{Cli, Command};
use crate::stub::{self, Answer, ID};

fn args(more: &[&str]) -> ProduceArgs {
    let typed = ["tidelog", "produce", "t", "--producer", "p"];
    match Cli::try_parse_from(typed.iter().chain(more)).unwrap().command {
        Command::Produce(args) => *args,
        _ => unreachable!(),
    }
}

fn state(partitions: &Value) -> Answer {
    Answer::ok(&json!({"producer_id": 7, "topic_id": ID, "partitions": partitions}))
}

fn registered(epoch: u16) -> Answer {
    Answer::ok(&json!({"producer_id": 7, "epoch": epoch}))
}

/// A run that begins at a server with these answers; and what it asked for.
async fn begun(more: &[&str], answers: impl IntoIterator<Item = Answer>) -> (Result<Sender>, Vec<String>) {
    let (client, topic, requests) = stub::topic(answers).await;
    let sender = open_sender(&client, &args(more), topic, Some("p")).await;
    let requests = requests.lock().unwrap().split_off(1);
    (sender, requests)
}

#[tokio::test]
async fn a_run_that_a_later_one_superseded_is_not_said_to_have_written_nothing() {
    let older = json!([{"partition": 0, "epoch": 0, "last_sequence": 1_199, "last_offset": 5_000},
        {"partition": 2, "epoch": 0, "last_sequence": 33, "last_offset": 40}]);
    let (sender, _) = begun(&["--resume"], [registered(1), state(&older), state(&older)]).await;
    let error = sender.err().unwrap().to_string();
    assert!(error.contains("an earlier run wrote 1,234 records to t"), "{error}");
    assert!(error.contains("superseded by a later run"), "{error}");
    let (sender, _) = begun(&["--resume"], [registered(1), state(&json!([])), state(&json!([]))]).await;
    assert!(sender.err().unwrap().to_string().starts_with("there is nothing to resume"));
}

#[tokio::test]
async fn whether_an_earlier_run_is_there_is_asked_before_it_is_superseded() {
    let (sender, requests) = begun(&[], [registered(0), registered(1)]).await;
    assert_eq!(sender.unwrap().producer(), Some((7, 1)));
    let begins = ["GET /v1/producers?name=p ", "POST /v1/producers "];
    assert_eq!(requests.len(), begins.len(), "{requests:?}");
    assert!(requests.iter().zip(begins).all(|(request, begin)| request.starts_with(begin)), "{requests:?}");
}
