//! One suite over memory, a local directory and S3 (a real server in this process, over TCP).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use tokio_rustls::TlsAcceptor;

use self::s3::{Script, serve, tide};
use super::open::believing;
use super::{Bucket, Created, StoreError};
use crate::config;
use crate::metrics::cost::{self, BucketJob};

mod faults;
mod s3;

#[tokio::test]
async fn what_fills_its_share_of_calls_keeps_nobody_else_from_the_bucket() {
    let settings = config::Store { concurrency: 1, ..config::Store::default() };
    let bucket = Bucket::decorated(Arc::new(object_store::memory::InMemory::new()), "memory://", &settings);
    let [fetch, flush] = [BucketJob::Fetch, BucketJob::Flush].map(|job| bucket.on_behalf_of(job));
    bucket.put("a", vec![Bytes::from_static(b"1")]).await.unwrap();
    // A listing that is not read to its end is a call that goes on.
    let mut listing = fetch.object_store().list(None);
    assert!(listing.next().await.unwrap().is_ok());
    let before = cost::used().jobs[BucketJob::Flush as usize];
    flush.put("b", vec![Bytes::from_static(b"22")]).await.unwrap();
    assert!(futures::poll!(Box::pin(fetch.get("b", 9))).is_pending(), "its own limit is used up");
    drop(listing);
    assert_eq!(fetch.get("b", 9).await.unwrap(), "22");
    let after = cost::used().jobs[BucketJob::Flush as usize];
    // Other tests of this process count too.
    assert!(after.calls[0] > before.calls[0] && after.written >= before.written + 2, "{before:?} {after:?}");
}

/// Everything the engine relies on.
async fn suite(bucket: &Bucket) {
    whole_objects(bucket).await;
    ranges(bucket).await;
    conditional_puts(bucket).await;
    uploads(bucket).await;
    listings(bucket).await;
    deletions(bucket).await;
}

async fn whole_objects(bucket: &Bucket) {
    let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cd")];
    bucket.put("whole/a.seg", parts).await.unwrap();
    assert_eq!(bucket.get("whole/a.seg", 4).await.unwrap(), "abcd");
    assert_eq!(bucket.head("whole/a.seg").await.unwrap(), 4);
    assert!(bucket.exists("whole/a.seg").await.unwrap() && !bucket.exists("whole/b").await.unwrap());
    assert!(matches!(bucket.get("whole/a.seg", 3).await, Err(StoreError::Unexpected { .. })));
    assert!(bucket.get("whole/b", 9).await.unwrap_err().is_not_found());

    bucket.put("whole/a.seg", vec![Bytes::from_static(b"again")]).await.unwrap();
    assert_eq!(bucket.get("whole/a.seg", 9).await.unwrap(), "again");
    bucket.put("whole/empty", Vec::new()).await.unwrap();
    assert_eq!(bucket.get("whole/empty", 9).await.unwrap(), "");
    let odd = "archive/default/A.b_c-9/dt=2024-02-29/00000-x.parquet";
    bucket.put(odd, vec![Bytes::from_static(b"x")]).await.unwrap();
    assert_eq!(bucket.get(odd, 9).await.unwrap(), "x");
}

async fn ranges(bucket: &Bucket) {
    bucket.put("ranges/a", vec![Bytes::from_static(b"0123456789")]).await.unwrap();
    assert_eq!(bucket.get_range("ranges/a", 2..5).await.unwrap(), "234");
    assert_eq!(bucket.get_range("ranges/a", 9..10).await.unwrap(), "9");
    assert!(matches!(bucket.get_range("ranges/a", 8..11).await, Err(StoreError::Unexpected { .. })));
    assert!(bucket.get_range("ranges/b", 0..1).await.unwrap_err().is_not_found());
    assert_eq!(bucket.get_suffix("ranges/a", 3).await.unwrap(), "789");
    assert_eq!(bucket.get_suffix("ranges/a", 99).await.unwrap(), "0123456789");
}

async fn conditional_puts(bucket: &Bucket) {
    let (mine, yours) = (Bytes::from_static(b"mine"), Bytes::from_static(b"yours"));
    assert_eq!(bucket.put_if_absent("incarnations/0000000001.json", mine.clone()).await.unwrap(), Created::New);
    assert_eq!(bucket.put_if_absent("incarnations/0000000001.json", yours).await.unwrap(), Created::Exists);
    // A retry of one whose answer was lost.
    assert_eq!(bucket.put_if_absent("incarnations/0000000001.json", mine).await.unwrap(), Created::New);
    assert_eq!(bucket.get("incarnations/0000000001.json", 9).await.unwrap(), "mine");
}

/// What the S3 server of the tests cannot do although S3 can: it looks at the condition and writes in two steps, and
/// fails at a key that is one of its directories.
async fn beyond_the_test_server(bucket: &Bucket) {
    assert!(bucket.head("whole").await.unwrap_err().is_not_found(), "a prefix is no object");
    let racers = (0..8).map(|racer| {
        let bucket = bucket.clone();
        tokio::spawn(async move { bucket.put_if_absent("incarnations/race", format!("racer {racer}").into()).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += usize::from(racer.await.unwrap().unwrap() == Created::New);
    }
    assert_eq!(won, 1);
}

async fn uploads(bucket: &Bucket) {
    let piece = Bytes::from(vec![7u8; 3 << 20]);
    // Three parts (two pieces, two pieces, the rest), and one call.
    for (key, part) in [("uploads/parts", 5 << 20), ("uploads/one", 64 << 20)] {
        let mut upload = bucket.upload_in(key, part).unwrap();
        for _ in 0..5 {
            upload.write(piece.clone()).await.unwrap();
            assert!(upload.buffered() < part);
        }
        assert!(!bucket.exists(key).await.unwrap(), "an object appears whole");
        upload.finish().await.unwrap();
        assert_eq!(bucket.head(key).await.unwrap(), 15 << 20);
        assert_eq!(bucket.get_range(key, (15 << 20) - 1..15 << 20).await.unwrap(), [7u8].as_slice());
    }
    bucket.upload("uploads/empty").await.unwrap().finish().await.unwrap();
    assert_eq!(bucket.head("uploads/empty").await.unwrap(), 0);

    for part in [3 << 20, 64 << 20] {
        let mut upload = bucket.upload_in("uploads/b", part).unwrap();
        upload.write(piece.clone()).await.unwrap();
        upload.abort().await.unwrap();
        assert!(!bucket.exists("uploads/b").await.unwrap());
    }
}

async fn keys(bucket: &Bucket, prefix: &str) -> BTreeSet<String> {
    bucket.list(prefix).map_ok(|listed| listed.key).try_collect().await.unwrap()
}

async fn listings(bucket: &Bucket) {
    for index in 0..5 {
        bucket.put(&format!("listings/{}/{index}", index % 2), vec![Bytes::from_static(b"xy")]).await.unwrap();
    }
    assert_eq!(keys(bucket, "listings").await.len(), 5);
    assert_eq!(keys(bucket, "listings/1").await, BTreeSet::from(["listings/1/1", "listings/1/3"].map(String::from)));
    assert!(keys(bucket, "listings/nothing").await.is_empty());
    assert!(keys(bucket, "list").await.is_empty(), "a prefix is whole path segments");
    let sizes: Vec<_> = bucket.list("listings").map_ok(|listed| listed.bytes).try_collect().await.unwrap();
    assert_eq!(sizes, [2; 5]);
    assert!(keys(bucket, "").await.len() > 5);
}

async fn deletions(bucket: &Bucket) {
    for index in 0..3 {
        bucket.put(&format!("deletions/{index}"), vec![Bytes::from_static(b"x")]).await.unwrap();
    }
    let gone = ["deletions/0", "deletions/nothing", "deletions/2"].map(String::from);
    assert_eq!(bucket.delete(gone.to_vec()).await.unwrap(), 3, "what is gone already counts as deleted");
    assert_eq!(keys(bucket, "deletions").await, BTreeSet::from(["deletions/1".to_owned()]));
    assert_eq!(bucket.delete(Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn memory_conforms() {
    suite(&Bucket::memory()).await;
    let shared = Bucket::open("memory:///conformance", &config::Store::default()).unwrap();
    suite(&shared).await;
    beyond_the_test_server(&shared).await;
    let again = Bucket::open("memory:///conformance", &config::Store::default()).unwrap();
    assert!(again.exists("whole/a.seg").await.unwrap(), "named memory is shared within the process");
    assert_eq!(again.url_of("a/b"), "memory:///conformance/a/b");
}

#[tokio::test]
async fn a_local_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap().join("a b").join("bucket");
    let url = format!("file://{}", root.to_str().unwrap().replace(' ', "%20"));
    let bucket = Bucket::open(&url, &config::Store::default()).unwrap();
    suite(&bucket).await;
    beyond_the_test_server(&bucket).await;
    assert_eq!(bucket.url(), url);
    let file = bucket.url_of("whole/a.seg").replace("%20", " ");
    assert_eq!(std::fs::read(file.strip_prefix("file://").unwrap()).unwrap(), b"again");

    // What a crash in the middle of a write leaves is not an object, and is swept.
    std::fs::write(root.join("whole/torn.seg#77"), b"torn").unwrap();
    assert!(!keys(&bucket, "whole").await.iter().any(|key| key.contains("torn")));
    assert_eq!(bucket.remove_stale_uploads(Duration::from_secs(3_600)).await.unwrap(), 0, "it is young");
    assert_eq!(bucket.remove_stale_uploads(Duration::ZERO).await.unwrap(), 1);
    suite(&Bucket::open(&format!("{url}/second"), &config::Store::default()).unwrap()).await;
}

#[tokio::test]
async fn a_local_directory_that_is_removed_under_us_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display());
    let bucket = Bucket::open(&url, &config::Store::default()).unwrap();
    bucket.put("a/b/c", vec![Bytes::from_static(b"1")]).await.unwrap();
    std::fs::remove_dir_all(directory.path().join("a")).unwrap();
    bucket.put("a/b/c", vec![Bytes::from_static(b"2")]).await.unwrap();
    assert_eq!(bucket.get("a/b/c", 9).await.unwrap(), "2");
}

#[tokio::test]
async fn a_store_whose_certificate_is_ones_own_is_believed_once_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("tide")).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let bundle = directory.path().join("ca.pem");
    std::fs::write(&bundle, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let endpoint = serve(directory.path(), Some(TlsAcceptor::from(Arc::new(tls))), Script::default()).await;

    let location = object_store::path::Path::from("a");
    let put = async |client: AmazonS3Builder| client.build().unwrap().put(&location, "1".into()).await;
    let error = put(tide(&endpoint)).await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    put(tide(&endpoint).with_client_options(believing(&bundle).unwrap())).await.unwrap();
    for (name, content) in
        [("none.pem", None), ("empty.pem", Some("")), ("wrong.pem", Some("-----BEGIN CERTIFICATE-----"))]
    {
        let path = directory.path().join(name);
        content.into_iter().for_each(|content| std::fs::write(&path, content).unwrap());
        let error = believing(&path).unwrap_err();
        assert!(error.message().contains("AWS_CA_BUNDLE") && error.message().contains(name), "{error}");
    }
}

/// Any URL that [`Bucket::open`] takes, with what it needs from the environment; `tests/azure.sh` names one.
#[tokio::test]
async fn the_bucket_that_the_environment_names_conforms() {
    let Ok(url) = std::env::var("TIDELOG_TEST_BUCKET") else { return };
    let url = format!("{url}/{}", uuid::Uuid::new_v4());
    let bucket = Bucket::open(&url, &config::Store::default()).unwrap();
    suite(&bucket).await;
    beyond_the_test_server(&bucket).await;
    bucket.probe().await.unwrap();
}
