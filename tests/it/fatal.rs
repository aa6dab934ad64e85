//! A panic in apply, and a log that cannot be written or synced: the process ends and says why, nobody was told a success
//! that is not there afterwards, and a restart is the recovery.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::injected::Injected;
use crate::support::load::Load;
use crate::support::server::{Server, Settings, fixed_address};

/// Fail point with action, and what the process has to say at its end.
const FAULTS: &[(&str, &str)] = &[
    ("apply.entry=panic", "panic"),
    ("apply.entry=panic@7", "panic"),
    ("apply.entry=error", "the engine cannot go on"),
    ("wal.append=error", "the engine cannot go on"),
    ("wal.append=error@7", "the engine cannot go on"),
    ("wal.sync=error", "the engine cannot go on"),
    ("wal.sync=error@7", "the engine cannot go on"),
    ("wal.sync=panic", "panic"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_fault_ends_the_process_and_a_restart_recovers() {
    let injected = Injected::new();
    let settings = injected.followed_by(Settings::default()).listen(&fixed_address()).set("flush.interval", "100ms");
    let mut server = Server::start_with(settings.clone()).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({"partitions": 2})).await;
    http.create_topic("once", &json!({})).await;
    let mut load = Load::new(&http, "t", 2).await;
    let mut written = Vec::new();
    for (number, (fault, said)) in FAULTS.iter().enumerate() {
        // Others send once, without anything that would make a second attempt safe.
        let attempts: Vec<_> = (0..8)
            .map(|attempt| {
                let (http, value) = (http.clone(), format!("{number}-{attempt}"));
                tokio::spawn(async move { (value.clone(), attempt_until_it_fails(&http, value).await) })
            })
            .collect();
        load.once().await;
        injected.points(fault);
        server = load
            .during(async {
                let mut server = server;
                let status = eventually(fault, || {
                    let ended = server.try_ended();
                    async move { ended }
                })
                .await;
                assert_eq!(status.code(), Some(1), "{fault}: {status}");
                injected.points("");
                let log = server.log();
                assert!(log.contains(said), "{fault}:\n{log}");
                Server::start_in(server.ended().1, settings.clone()).await
            })
            .await;
        for attempt in attempts {
            let (value, answers) = attempt.await.unwrap();
            written.extend(answers.into_iter().map(|(nth, answer)| (format!("{value}-{nth}"), answer)));
        }
        load.repeat().await;
        load.check(&http, "t").await;
    }
    let found: Vec<String> =
        http.fetch_all("once", 0, "").await.iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect();
    for (value, answer) in &written {
        let count = found.iter().filter(|found| *found == value).count();
        match answer {
            Told::Written(offset) => assert_eq!(&found[*offset], value, "acknowledged"),
            Told::NotWritten => assert_eq!(count, 0, "{value} was said not to be written"),
            Told::Unknown => assert!(count <= 1, "{value} is there {count} times"),
        }
    }
    assert!(written.iter().any(|(_, told)| matches!(told, Told::Unknown)));
    assert!(found.iter().all(|found| written.iter().any(|(value, _)| value == found)));
}

/// What a producer knows of a record.
#[derive(Debug)]
enum Told {
    Written(usize),
    NotWritten,
    Unknown,
}

/// Sends records until one has no success.
async fn attempt_until_it_fails(http: &Http, value: String) -> Vec<(u64, Told)> {
    let mut told = Vec::new();
    for nth in 0.. {
        let request = http.request(Method::POST, "/v1/topics/once/partitions/0/records");
        let body = json!({"records": [{"text": format!("{value}-{nth}")}]}).to_string();
        let answer = match request.header("content-type", "application/json").body(body).send().await {
            Ok(response) => Some((response.status().as_u16(), response.bytes().await)),
            Err(_) => None,
        };
        let Some((status, Ok(body))) = answer else {
            told.push((nth, Told::Unknown));
            break;
        };
        let body: Value = serde_json::from_slice(&body).unwrap();
        if status == 200 {
            let offset = body["records"][0]["offset"].as_u64().unwrap();
            told.push((nth, Told::Written(usize::try_from(offset).unwrap())));
            continue;
        }
        assert_eq!(status, 503, "{body}");
        let unknown = body["error"]["outcome"] == "unknown";
        told.push((nth, if unknown { Told::Unknown } else { Told::NotWritten }));
        break;
    }
    told
}
