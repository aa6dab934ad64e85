//! S3: a real server over TCP with signature checks, a script of what goes wrong between it and us, or any other endpoint.
//!
//! `TIDELOG_TEST_S3_ENDPOINT` names one, with the credentials and the region of the environment, and `TIDELOG_TEST_S3_BUCKET` a
//! bucket on it (`tidelog`); the suite uses a prefix of its own there and leaves nothing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::suite;
use crate::config;
use crate::metrics::cost::BucketJob;
use crate::store::open::fitted;
use crate::store::{Bucket, Created, StoreError, Usage};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What happens to one call.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// It is done.
    Well,
    /// It is not done, and answered so, with `Retry-After` in seconds if that is not 0.
    Refused(u16, &'static str, u64),
    /// It is not done, and the connection breaks.
    Reset,
    /// It is done, and answered with an error.
    DoneAndRefused,
    /// It is done, and the connection breaks.
    DoneAndReset,
    /// It is done, and half of the answer comes.
    Cut,
    /// Nothing is listed.
    Stale,
}

/// The courses of the calls to come, and which calls came. What is not in it goes well.
#[derive(Debug, Clone, Default)]
pub(super) struct Script(Arc<Mutex<(VecDeque<Course>, Vec<String>)>>);

impl Script {
    fn play(&self, courses: &[Course]) {
        *self.0.lock().unwrap() = (courses.iter().copied().collect(), Vec::new());
    }

    /// The calls since then: the method, the checksum if there is one, and the storage class if there is one.
    fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().1.clone()
    }

    fn next(&self, request: &Request<Incoming>) -> Course {
        let sum = if request.headers().contains_key("x-amz-checksum-sha256") { " sha256" } else { "" };
        let class = request.headers().get("x-amz-storage-class").map_or("", |class| class.to_str().unwrap());
        let mut state = self.0.lock().unwrap();
        state.1.push(format!("{}{sum} {class}", request.method()).trim_end().to_owned());
        state.0.pop_front().unwrap_or(Course::Well)
    }

    async fn call(self, s3: S3Service, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        match self.next(&request) {
            Course::Well => done(&s3, request).await,
            Course::Refused(status, code, after) => {
                let _ = request.into_body().collect().await;
                Ok(refusal(status, code, after))
            }
            Course::Reset => Err("the connection breaks".into()),
            Course::DoneAndRefused => done(&s3, request).await.map(|_| refusal(500, "InternalError", 0)),
            Course::DoneAndReset => {
                done(&s3, request).await?;
                Err("the answer is lost".into())
            }
            Course::Cut => {
                let (parts, body) = done(&s3, request).await?.into_parts();
                let whole = body.collect().await?.to_bytes();
                let half = Frame::data(whole.slice(..whole.len() / 2));
                let broken = async { Err(BoxError::from("the body breaks off")) }.into_stream();
                let frames = futures::stream::iter([Ok(half)]).chain(broken);
                Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
            }
            Course::Stale => {
                let name =
                    "<Name>tide</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>";
                Ok(text(200, format!("<ListBucketResult>{name}</ListBucketResult>"), 0))
            }
        }
    }
}

async fn done(s3: &S3Service, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    // The file system behind it would make a bucket of any name, which no store does.
    if request.uri().path().split('/').nth(1) != Some("tide") {
        let _ = request.into_body().collect().await;
        return Ok(refusal(404, "NoSuchBucket", 0));
    }
    let response = s3.call(request.map(s3s::Body::from)).await.map_err(|error| format!("{error:?}"))?;
    Ok(response.map(|body| BodyExt::map_err(body, BoxError::from).boxed_unsync()))
}

fn refusal(status: u16, code: &str, after: u64) -> Response<Body> {
    text(status, format!("<Error><Code>{code}</Code><Message>by the test</Message></Error>"), after)
}

fn text(status: u16, text: String, after: u64) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
    let answer = if after == 0 { answer } else { answer.header("retry-after", after) };
    answer.body(body).unwrap()
}

/// An S3 server over `root` on a free port, with TLS if there is an acceptor; ends with the runtime.
pub(super) async fn serve(root: &Path, tls: Option<TlsAcceptor>, script: Script) -> String {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (service, script, tls) = (service.clone(), script.clone(), tls.clone());
            let call = service_fn(move |request| script.clone().call(service.clone(), request));
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = match tls {
                    None => server.serve_connection(TokioIo::new(socket), call).await,
                    Some(tls) => match tls.accept(socket).await {
                        Ok(socket) => server.serve_connection(TokioIo::new(socket), call).await,
                        Err(error) => Err(error.into()),
                    },
                };
            });
        }
    });
    endpoint
}

/// The client for the bucket `tide` of [`serve`].
pub(super) fn tide(endpoint: &str) -> AmazonS3Builder {
    let builder = AmazonS3Builder::new().with_bucket_name("tide").with_region("us-east-1").with_endpoint(endpoint);
    let builder = builder.with_access_key_id("access").with_secret_access_key("secret").with_allow_http(true);
    fitted(builder, &config::Store::default())
}

fn bucket_of(builder: AmazonS3Builder, settings: &config::Store) -> Bucket {
    let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(builder.build().unwrap(), "one/cluster"));
    Bucket::decorated(store, "s3://tide/one/cluster", settings)
}

/// A server, its script and a bucket on it.
async fn started() -> (TempDir, Script, Bucket) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("tide")).unwrap();
    let script = Script::default();
    let endpoint = serve(directory.path(), None, script.clone()).await;
    (directory, script, bucket_of(tide(&endpoint), &config::Store::default()))
}

#[tokio::test]
async fn s3_conforms() {
    let (_directory, _, bucket) = started().await;
    suite(&bucket).await;
    assert_eq!(bucket.url_of("archive/a=b/x"), "s3://tide/one/cluster/archive/a=b/x");
    for usage in [Usage::Everything, Usage::Converts, Usage::Reads] {
        bucket.probe_for(usage).await.unwrap();
    }
    assert!(bucket.health().failing.is_none());
}

#[tokio::test]
async fn any_endpoint_conforms() {
    let Ok(endpoint) = std::env::var("TIDELOG_TEST_S3_ENDPOINT") else { return };
    let name = std::env::var("TIDELOG_TEST_S3_BUCKET").unwrap_or_else(|_| "tidelog".to_owned());
    let builder = AmazonS3Builder::from_env().with_bucket_name(name).with_endpoint(&endpoint).with_allow_http(true);
    let s3 = fitted(builder, &config::Store::default()).build().unwrap();
    let prefix = format!("conformance/{}", uuid::Uuid::new_v4());
    let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(s3, prefix.clone()));
    let bucket = Bucket::decorated(store, &format!("{endpoint}/{prefix}"), &config::Store::default());
    suite(&bucket).await;
    bucket.probe().await.unwrap();
    let left: Vec<String> = bucket.list("").map_ok(|listed| listed.key).try_collect().await.unwrap();
    bucket.delete(left).await.unwrap();
    assert_eq!(bucket.list("").count().await, 0);
}

#[tokio::test]
async fn what_goes_wrong_once_or_twice_is_ridden_out() {
    let (_directory, script, bucket) = started().await;
    let faults: [&[Course]; 6] = [
        &[Course::Refused(500, "InternalError", 0), Course::Refused(503, "SlowDown", 0)],
        &[Course::Refused(429, "TooManyRequests", 0)],
        &[Course::Reset, Course::Reset],
        &[Course::DoneAndRefused],
        &[Course::DoneAndReset],
        &[Course::Refused(400, "RequestTimeout", 0)],
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let key = format!("ridden/{number}");
        script.play(fault);
        bucket.put(&key, vec![Bytes::from_static(b"content")]).await.unwrap();
        script.play(fault);
        assert_eq!(bucket.get(&key, 9).await.unwrap(), "content", "{fault:?}");
        script.play(fault);
        assert_eq!(bucket.get_range(&key, 1..3).await.unwrap(), "on", "{fault:?}");
        script.play(fault);
        assert_eq!(bucket.list("ridden").try_collect::<Vec<_>>().await.unwrap().len(), 1, "{fault:?}");
        script.play(fault);
        let created = bucket.put_if_absent(&format!("once/{number}"), Bytes::from_static(b"mine")).await.unwrap();
        assert_eq!(created, Created::New, "{fault:?}");
        script.play(fault);
        assert_eq!(bucket.delete(vec![key.clone()]).await.unwrap(), 1, "{fault:?}");
        script.play(&[]);
        assert!(!bucket.exists(&key).await.unwrap());
    }
    // The client goes on where a body broke off.
    bucket.put("cut", vec![Bytes::from(vec![3; 1 << 20])]).await.unwrap();
    script.play(&[Course::Cut, Course::Cut]);
    assert_eq!(bucket.get("cut", 1 << 20).await.unwrap(), vec![3; 1 << 20]);
}

#[tokio::test]
async fn each_call_of_an_upload_in_parts_is_tried_again() {
    let (_directory, script, bucket) = started().await;
    let piece = Bytes::from(vec![9u8; 5 << 20]);
    for fault in [
        Course::Refused(503, "SlowDown", 1),
        Course::Refused(500, "InternalError", 0),
        Course::Refused(200, "InternalError", 0),
        Course::Reset,
        Course::DoneAndRefused,
        Course::DoneAndReset,
    ] {
        // Begin, two parts, end: each of them fails once.
        for failing in 0..4 {
            if failing < 3 && matches!(fault, Course::Refused(200, ..)) {
                // Only the end is answered like that.
                continue;
            }
            let mut courses = vec![Course::Well; failing];
            courses.push(fault);
            script.play(&courses);
            let key = format!("parts/{failing}");
            let mut upload = bucket.upload_in(&key, 5 << 20).unwrap();
            upload.write(piece.clone()).await.unwrap();
            upload.write(piece.clone()).await.unwrap();
            upload.finish().await.unwrap_or_else(|error| panic!("{fault:?} of call {failing}: {error}"));
            assert!(script.calls().len() > 4, "{fault:?} of call {failing}: {:?}", script.calls());
            assert_eq!(bucket.head(&key).await.unwrap(), 10 << 20);
            bucket.delete(vec![key]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_will_be_the_same_the_next_time_is_told_at_once() {
    let (directory, script, bucket) = started().await;
    for refusal in [
        Course::Refused(301, "PermanentRedirect", 0),
        Course::Refused(400, "AuthorizationHeaderMalformed", 0),
        Course::Refused(403, "AccessDenied", 0),
        Course::Refused(404, "NoSuchBucket", 0),
    ] {
        let refused = |done: Result<(), StoreError>| {
            assert!(matches!(done, Err(StoreError::Refused { .. })), "{refusal:?}: {done:?}");
            assert_eq!(script.calls().len(), 1, "{refusal:?}");
        };
        script.play(&[refusal]);
        refused(bucket.put("a", Vec::new()).await);
        script.play(&[refusal]);
        refused(bucket.get("a", 9).await.map(|_| ()));
        script.play(&[refusal]);
        refused(bucket.list("").try_collect::<Vec<_>>().await.map(|_| ()));
        script.play(&[refusal]);
        refused(bucket.delete(vec!["a".to_owned()]).await.map(|_| ()));
        script.play(&[refusal]);
        let unusable = bucket.probe().await.unwrap_err();
        assert!(unusable.refused, "{unusable}");
    }
    let endpoint = serve(directory.path(), None, script.clone()).await;
    for (client, told) in [
        (tide(&endpoint).with_access_key_id("nobody"), "does not know the access key"),
        (tide(&endpoint).with_secret_access_key("wrong"), "the secret key does not belong"),
        (tide(&endpoint).with_bucket_name("other"), "there is no such bucket"),
    ] {
        let bucket = bucket_of(client, &config::Store::default());
        let unusable = bucket.probe().await.unwrap_err();
        assert!(unusable.refused && unusable.message.contains(told), "{unusable}");
        assert!(matches!(bucket.put("a", Vec::new()).await, Err(StoreError::Refused { .. })), "{told}");
    }
}

#[tokio::test]
async fn a_store_is_left_alone_for_as_long_as_it_asks_or_the_call_ends() {
    let (_directory, script, bucket) = started().await;
    let begun = std::time::Instant::now();
    script.play(&[Course::Refused(503, "SlowDown", 1), Course::Refused(429, "", 1)]);
    bucket.put("a", Vec::new()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(script.calls().len(), 3);
    assert!(bucket.health().slowed.is_some());

    let endpoint_of = tempfile::tempdir().unwrap();
    std::fs::create_dir(endpoint_of.path().join("tide")).unwrap();
    let endpoint = serve(endpoint_of.path(), None, script.clone()).await;
    let hasty = config::Store { deadline: Duration::from_secs(10), ..config::Store::default() };
    let bucket = bucket_of(tide(&endpoint), &hasty);
    script.play(&[Course::Refused(503, "SlowDown", 20), Course::Refused(503, "SlowDown", 20)]);
    let error = bucket.put("a", Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(script.calls().len(), 1, "asking sooner than it may be would make it worse");
}

#[tokio::test]
async fn a_stale_listing_is_what_it_is_and_the_probe_tells() {
    let (_directory, script, bucket) = started().await;
    bucket.put("a", vec![Bytes::from_static(b"1")]).await.unwrap();
    script.play(&[Course::Stale]);
    assert_eq!(bucket.list("").count().await, 0);
    assert_eq!(bucket.list("").count().await, 1);
    // What a listing still has although it was deleted counts as deleted.
    assert_eq!(bucket.delete(vec!["a".to_owned()]).await.unwrap(), 1);
    assert_eq!(bucket.delete(vec!["a".to_owned()]).await.unwrap(), 1);
    script.play(&[Course::Well, Course::Well, Course::Stale]);
    let unusable = bucket.probe().await.unwrap_err();
    assert!(unusable.refused && unusable.message.contains("does not list"), "{unusable}");
}

#[tokio::test]
async fn archive_files_alone_are_of_the_class_that_is_set() {
    let (directory, script, _) = started().await;
    let endpoint = serve(directory.path(), None, script.clone()).await;
    let settings = config::Store { archive_class: "REDUCED_REDUNDANCY".to_owned(), ..config::Store::default() };
    let bucket = bucket_of(tide(&endpoint), &settings);
    for (job, class) in [(BucketJob::Archive, " REDUCED_REDUNDANCY"), (BucketJob::Flush, "")] {
        script.play(&[]);
        let bucket = bucket.on_behalf_of(job);
        bucket.upload("one").await.unwrap().finish().await.unwrap();
        let mut upload = bucket.upload_in("parts", 5 << 20).unwrap();
        upload.write(Bytes::from(vec![1; 5 << 20])).await.unwrap();
        upload.finish().await.unwrap();
        let calls = ["PUT sha256", "POST", "PUT sha256", "POST"].map(str::to_owned);
        let [one, begin, part, end] = calls;
        assert_eq!(script.calls(), [one + class, begin + class, part, end]);
    }
}

#[tokio::test]
async fn objects_are_written_with_a_checksum_unless_that_is_switched_off() {
    let (directory, script, _) = started().await;
    let endpoint = serve(directory.path(), None, script.clone()).await;
    let sums = |checksums| {
        let settings = config::Store { checksums, ..config::Store::default() };
        let builder = AmazonS3Builder::new().with_bucket_name("tide").with_region("us-east-1").with_endpoint(&endpoint);
        let builder = builder.with_access_key_id("access").with_secret_access_key("secret").with_allow_http(true);
        bucket_of(fitted(builder, &settings), &settings)
    };
    for (checksums, key) in [(true, "with"), (false, "without")] {
        let bucket = sums(checksums);
        script.play(&[]);
        bucket.put(key, vec![Bytes::from_static(b"content")]).await.unwrap();
        let mut upload = bucket.upload_in(&format!("{key}-parts"), 5 << 20).unwrap();
        upload.write(Bytes::from(vec![1; 5 << 20])).await.unwrap();
        upload.finish().await.unwrap();
        let put = if checksums { "PUT sha256" } else { "PUT" };
        // The object, and the begin, the part and the end of the other one.
        assert_eq!(script.calls(), [put, "POST", put, "POST"]);
        assert_eq!(bucket.head(&format!("{key}-parts")).await.unwrap(), 5 << 20);
    }
}
