//! Faults of the bucket, between the server under test and the S3 server: switched by a test while both run.
//!
//! They happen where real ones do, in HTTP: a call that is refused or cut off before it was done, one that was done and
//! whose answer is lost, an answer that breaks off in the middle, one that is late or never comes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use s3s::service::S3Service;

use super::s3::BUCKET;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What the bucket does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It works.
    None,
    /// Every call fails before it is done: 503 SlowDown, 500, or the connection breaks.
    Fail,
    /// Nobody answers; connections stay open.
    Hang,
    /// This share of the calls fails, half of them before they are done, half of them after.
    Some(f64),
    /// Every change is done, and answered with an error or not at all.
    LoseAnswers,
    /// This share of the changes is done, and answered with an error or not at all.
    LoseSomeAnswers(f64),
    /// Every call takes this long.
    Slow(Duration),
    /// There is no such bucket.
    NoBucket,
    /// Calls of this method are denied.
    Deny(&'static str),
    /// So many calls more are told to slow down and to come again after so many seconds.
    Throttle(u32, u64),
    /// Every answer with a body breaks off in the middle, with this probability.
    CutBodies(f64),
}

/// The switch; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    fault: Fault,
    random: StdRng,
    calls: u64,
    hurt: u64,
    /// When each call came while calls were told to slow down, and after.
    throttled: Vec<Instant>,
}

/// How one call goes.
enum Course {
    Well,
    Refused(StatusCode),
    Broken,
    Silent,
    Late(Duration),
    DoneAndRefused(StatusCode),
    DoneAndBroken,
    Cut,
    NoBucket,
    Denied,
    Throttled(u64),
}

impl Faults {
    /// A bucket that works; `seed` decides what fails at random.
    pub(crate) fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(State { fault: Fault::None, random, calls: 0, hurt: 0, throttled: Vec::new() })))
    }

    /// From now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// How many calls came, and how many of them did not go well.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap();
        (state.calls, state.hurt)
    }

    /// When each call came since calls were told to slow down.
    pub(crate) fn throttled(&self) -> Vec<Instant> {
        self.0.lock().unwrap().throttled.clone()
    }

    /// Serves one call of the bucket; an error closes the connection without an answer.
    pub(super) async fn call(self, s3: S3Service, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        match self.course(request.method()) {
            Course::Well => done(&s3, request).await,
            Course::Refused(status) => {
                // Read first, as most servers do; a broken connection is the other course.
                let _ = request.into_body().collect().await;
                Ok(refusal(status))
            }
            Course::NoBucket => no_bucket(request).await,
            Course::Denied => {
                let _ = request.into_body().collect().await;
                Ok(answer(StatusCode::FORBIDDEN, "AccessDenied"))
            }
            Course::Throttled(seconds) => {
                let _ = request.into_body().collect().await;
                let mut refusal = refusal(StatusCode::SERVICE_UNAVAILABLE);
                refusal.headers_mut().insert("retry-after", seconds.into());
                Ok(refusal)
            }
            Course::Broken => Err("the connection breaks".into()),
            Course::Silent => {
                let back = self.clone();
                back.while_silent().await;
                Err("nobody answered".into())
            }
            Course::Late(pause) => {
                tokio::time::sleep(pause).await;
                done(&s3, request).await
            }
            Course::DoneAndRefused(status) => match done(&s3, request).await? {
                done if done.status().is_success() => Ok(refusal(status)),
                // A change that was not done loses nothing.
                declined => Ok(declined),
            },
            Course::DoneAndBroken => match done(&s3, request).await? {
                done if done.status().is_success() => Err("its answer is lost".into()),
                declined => Ok(declined),
            },
            Course::Cut => cut(done(&s3, request).await?).await,
        }
    }

    fn course(&self, method: &Method) -> Course {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        let before = |random: &mut StdRng| match random.random_range(0..3) {
            0 => Course::Refused(StatusCode::SERVICE_UNAVAILABLE),
            1 => Course::Refused(StatusCode::INTERNAL_SERVER_ERROR),
            _ => Course::Broken,
        };
        let after = |random: &mut StdRng| match random.random_bool(0.5) {
            true => Course::DoneAndRefused(StatusCode::INTERNAL_SERVER_ERROR),
            false => Course::DoneAndBroken,
        };
        let fault = state.fault;
        if let Fault::Throttle(left, seconds) = fault {
            state.throttled.push(Instant::now());
            state.fault = Fault::Throttle(left.saturating_sub(1), seconds);
        }
        let random = &mut state.random;
        let course = match fault {
            Fault::Fail => before(random),
            Fault::Hang => Course::Silent,
            Fault::NoBucket => Course::NoBucket,
            Fault::Deny(denied) if method.as_str() == denied => Course::Denied,
            Fault::Throttle(left, seconds) if left > 0 => Course::Throttled(seconds),
            Fault::Some(share) if random.random_bool(share) => match random.random_bool(0.5) {
                true => before(random),
                false => after(random),
            },
            Fault::LoseAnswers if changes => after(random),
            Fault::LoseSomeAnswers(share) if changes && random.random_bool(share) => after(random),
            Fault::Slow(pause) => Course::Late(pause),
            Fault::CutBodies(share) if *method == Method::GET && random.random_bool(share) => Course::Cut,
            _ => Course::Well,
        };
        state.hurt += u64::from(!matches!(course, Course::Well));
        course
    }

    /// A client that gave up is gone with its connection; what waits here then ends when the bucket answers again.
    async fn while_silent(&self) {
        while self.0.lock().unwrap().fault == Fault::Hang {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn done(s3: &S3Service, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    // The file system behind it would make a bucket of any name, which no store does.
    if request.uri().path().split('/').nth(1) != Some(BUCKET) {
        return no_bucket(request).await;
    }
    let response = s3.call(request.map(s3s::Body::from)).await.map_err(|error| format!("{error:?}"))?;
    Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
}

async fn no_bucket(request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let _ = request.into_body().collect().await;
    Ok(answer(StatusCode::NOT_FOUND, "NoSuchBucket"))
}

fn refusal(status: StatusCode) -> Response<Body> {
    answer(status, if status == StatusCode::SERVICE_UNAVAILABLE { "SlowDown" } else { "InternalError" })
}

fn answer(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the test</Message></Error>");
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/xml").body(body).unwrap()
}

/// The head as it was, half of the body, and the end of the connection.
async fn cut(response: Response<Body>) -> Result<Response<Body>, BoxError> {
    let (parts, body) = response.into_parts();
    let whole = body.collect().await?.to_bytes();
    let half = whole.slice(..whole.len() / 2);
    let broken = async { Err(BoxError::from("the body breaks off")) }.into_stream();
    let frames = stream::iter([Ok(Frame::data(half))]).chain(broken);
    Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
}
