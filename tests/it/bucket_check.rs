//! `tidelog bucket check`: over a directory and a real S3 server; each thing that may be wrong is told in one sentence.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::binary::{command, ran, run, text};
use crate::support::eventually;
use crate::support::faults::Fault;
use crate::support::s3::S3;
use crate::support::server::files_under;

#[tokio::test]
async fn a_bucket_that_can_be_used_is_timed_and_left_as_it_was() {
    let s3 = S3::start().await;
    let said = s3.run(&["bucket", "check", "--bucket", &s3.url(), "--json"], &[]).await.ok();
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["bucket"], &report["usable"]), (&Value::from(s3.url()), &Value::from(true)));
    let sizes: Vec<_> =
        report["timings"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [4 << 10, 1 << 20, 16 << 20]);
    assert!(report["timings"].as_array().unwrap().iter().all(|row| row["put_p99_ms"].as_f64().unwrap() > 0.0));
    let left = files_under(&s3.objects());
    assert!(left.is_empty(), "{left:?}");

    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", text(&dir.path().join("bucket")));
    let table = run("", &["bucket", "check", "--bucket", &url]).ok();
    assert!(table.contains("can be written, read, listed and deleted") && table.contains("16 MiB"), "{table}");
}

/// Arguments, what differs in the environment, and what is told.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_told_in_one_sentence() {
    let s3 = S3::start().await;
    let url = s3.url();
    let check = ["bucket", "check", "--bucket", url.as_str()];
    let cases: [Case<'_>; 4] = [
        (&["bucket", "check", "--bucket", "s3://not-there/x"], &[], "there is no such bucket"),
        (&check, &[("AWS_SECRET_ACCESS_KEY", "another")], "the secret key does not belong to the access key"),
        (&check, &[("AWS_ACCESS_KEY_ID", "nobody")], "does not know the access key"),
        // Nobody listens at the discard port.
        (&check, &[("AWS_ENDPOINT", "http://127.0.0.1:9")], "the endpoint cannot be reached"),
    ];
    for (args, environment, told) in cases {
        let said = s3.run(args, environment).await.failed(1);
        assert!(said.contains(told), "{environment:?}: {said}");
    }
    assert!(files_under(&s3.objects()).is_empty());
}

#[tokio::test]
async fn a_bucket_that_is_not_there_yet_is_waited_for() {
    let s3 = S3::start().await;
    s3.faults().set(Fault::NoBucket);
    let url = s3.url();
    let quick = ["bucket", "check", "--quick", "--bucket", url.as_str()];
    let said = s3.run(&quick, &[]).await.failed(1);
    assert!(said.contains("there is no such bucket"), "{said}");

    let (asked, waiting) = (s3.faults().counts().0, [&quick[..], &["--wait", "5m"]].concat());
    let (said, ()) = tokio::join!(s3.run(&waiting, &[]), async {
        // Until a probe has failed and the next one came: it is the wait that finds the bucket.
        eventually("two probes", || async { (s3.faults().counts().0 >= asked + 2).then_some(()) }).await;
        s3.faults().set(Fault::None);
    });
    let said = said.ok();
    assert!(said.contains("can be written") && !said.contains("MiB"), "{said}");
}

#[tokio::test]
async fn a_store_that_is_asked_too_much_is_left_alone_for_as_long_as_it_asks() {
    let s3 = S3::start().await;
    let url = s3.url();
    let quick = ["bucket", "check", "--quick", "--bucket", url.as_str()];
    s3.faults().set(Fault::Throttle(2, 1));
    s3.run(&quick, &[]).await.ok();
    let came = s3.faults().throttled();
    assert!(came.len() > 4, "{came:?}");
    for pair in came[..3].windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(1), "{came:?}");
    }

    // Longer than the check's patience: it ends, and does not ask again before it may.
    s3.faults().set(Fault::Throttle(9, 20));
    let said = s3.run(&quick, &[]).await.failed(1);
    assert!(said.contains("it is asked too much"), "{said}");
    assert_eq!(s3.faults().throttled().len(), came.len() + 1);
}

#[test]
fn an_environment_that_is_not_utf8_does_not_keep_a_bucket_of_ones_own_authority_from_being_opened() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&bundle, made.cert.pem()).unwrap();
    let mut check = command(&["bucket", "check", "--bucket", "s3://tidelog"]);
    check.env("AWS_CA_BUNDLE", &bundle).env("ODD", OsStr::from_bytes(b"\xff")).stdin(Stdio::null());
    check.env("AWS_ENDPOINT", "https://127.0.0.1:9").env("AWS_REGION", "us-east-1");
    check.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    let said = ran(&check.output().unwrap()).failed(1);
    assert!(said.contains("the endpoint cannot be reached"), "{said}");
}
