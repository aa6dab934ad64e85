//! An S3 endpoint that is far away and fails now and then: a TCP proxy before any endpoint of plain HTTP/1.1, with a pause before
//! each call, a share of calls that fail, and a count of the calls by what they are and what they are about.
//!
//! It sees where a call begins, because the client speaks after the server has, and reads its first line; all else passes
//! unchanged, so signatures hold. Clients that send a call before they have the last one's answer are not understood.
//! [`Faults`](super::faults::Faults) are inside the S3 server of the tests, know more kinds of failures, and are in no other
//! server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Of what fails at random.
const SEED: u64 = 4711;
/// Bytes that are passed on at a time.
const BUFFER: usize = 256 << 10;

/// What happens to calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Injected {
    /// Before each of them.
    pub(crate) delay: Duration,
    /// The share that fails: refused as 503, the connection broken before it was passed on, or after, with its answer lost.
    pub(crate) errors: f64,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Does {
    /// PUT, and what begins and ends an upload in parts.
    Put,
    /// GET and HEAD.
    Get,
    List,
    Delete,
}

/// Calls by what they do and the kind of object that they name.
pub(crate) type Calls = BTreeMap<(Does, &'static str), u64>;

/// The proxy; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Far(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    target: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    injected: Injected,
    random: StdRng,
    calls: Calls,
    hurt: u64,
}

/// How one call goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Course {
    Well,
    Refused,
    Broken,
    AnswerLost,
}

impl Far {
    /// A proxy before `target` that injects nothing yet.
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (injected, random) = (Injected::default(), StdRng::seed_from_u64(SEED));
        let state = Mutex::new(State { injected, random, calls: Calls::new(), hurt: 0 });
        let far = Self(Arc::new(Shared { address: listener.local_addr().unwrap(), target, state }));
        let proxy = far.clone();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let proxy = proxy.clone();
                tokio::spawn(async move {
                    // An endpoint that is down refuses: so does the end of the connection.
                    let Ok(server) = TcpStream::connect(proxy.0.target).await else { return };
                    for stream in [&client, &server] {
                        stream.set_nodelay(true).unwrap();
                    }
                    // A side that breaks off ends the other.
                    let _ = proxy.carry(client, server).await;
                });
            }
        });
        far
    }

    /// `http://127.0.0.1:…`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// From now on.
    pub(crate) fn inject(&self, injected: Injected) {
        self.0.state.lock().unwrap().injected = injected;
    }

    /// All calls so far, and how many of them failed here.
    pub(crate) fn calls(&self) -> (Calls, u64) {
        let state = self.0.state.lock().unwrap();
        (state.calls.clone(), state.hurt)
    }

    async fn carry(&self, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
        let mut course = Course::Well;
        // What the client sends after the server has spoken begins a call.
        let mut answered = true;
        loop {
            tokio::select! {
                read = from_client.read(&mut up) => {
                    let sent = &up[..read?];
                    if sent.is_empty() {
                        return Ok(());
                    }
                    if answered && let Some(line) = first_line(sent) {
                        answered = false;
                        let delay;
                        (delay, course) = self.begins(line);
                        tokio::time::sleep(delay).await;
                    }
                    match course {
                        Course::Refused => return refuse(&mut from_client, &mut to_client).await,
                        Course::Broken => return Ok(()),
                        Course::Well | Course::AnswerLost => to_server.write_all(sent).await?,
                    }
                }
                read = from_server.read(&mut down) => {
                    let said = &down[..read?];
                    if said.is_empty() || course == Course::AnswerLost {
                        return Ok(());
                    }
                    answered = true;
                    to_client.write_all(said).await?;
                }
            }
        }
    }

    /// Counts a call and decides how it goes.
    fn begins(&self, line: &str) -> (Duration, Course) {
        let mut state = self.0.state.lock().unwrap();
        *state.calls.entry(call(line)).or_default() += 1;
        let Injected { delay, errors } = state.injected;
        if !state.random.random_bool(errors) {
            return (delay, Course::Well);
        }
        state.hurt += 1;
        let courses = [Course::Refused, Course::Broken, Course::AnswerLost];
        (delay, courses[state.random.random_range(0..courses.len())])
    }
}

/// The first line of a request, if this is the beginning of one.
fn first_line(sent: &[u8]) -> Option<&str> {
    let line = sent.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let line = std::str::from_utf8(line).ok()?;
    let methods = ["GET /", "HEAD /", "PUT /", "POST /", "DELETE /"];
    methods.iter().any(|method| line.starts_with(method)).then_some(line)
}

/// What a first line asks for.
fn call(line: &str) -> (Does, &'static str) {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let does = match method {
        "DELETE" => Does::Delete,
        "POST" if query.split('&').any(|part| part == "delete" || part == "delete=") => Does::Delete,
        "PUT" | "POST" => Does::Put,
        _ if query.contains("list-type=") => Does::List,
        _ => Does::Get,
    };
    let kinds =
        [("/segments/", "segment"), ("/index/", "index"), ("/checkpoints/", "checkpoint"), ("/archive/", "archive")];
    let kind = kinds.iter().find(|(part, _)| path.contains(part));
    (does, kind.map_or("other", |(_, kind)| kind))
}

async fn refuse(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let body = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>by the test</Message></Error>";
    let head = "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\nconnection: close\r\n";
    to.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    to.shutdown().await?;
    // What is still sent has to be read, or the end of the connection would overtake the answer.
    tokio::io::copy(from, &mut tokio::io::sink()).await?;
    Ok(())
}

#[test]
fn a_first_line_tells_what_a_call_does() {
    let seen = |line: &str| call(first_line(line.as_bytes()).unwrap());
    assert_eq!(seen("PUT /b/p/shards/00000/segments/x.seg HTTP/1.1\r\nhost: a"), (Does::Put, "segment"));
    assert_eq!(seen("POST /b/archive/default/t/x.parquet?uploads HTTP/1.1\r\n"), (Does::Put, "archive"));
    assert_eq!(seen("POST /b?delete HTTP/1.1\r\n"), (Does::Delete, "other"));
    assert_eq!(seen("GET /b?list-type=2&prefix=p HTTP/1.1\r\n"), (Does::List, "other"));
    assert_eq!(seen("HEAD /b/incarnations/0000000002.json HTTP/1.1\r\n"), (Does::Get, "other"));
    assert_eq!(first_line(b"a body that goes on\r\nPUT /"), None);
}

#[tokio::test]
async fn calls_pass_are_counted_and_fail_as_they_are_told_to() {
    let s3 = super::s3::S3::start().await;
    let far = Far::before(s3.address()).await;
    let http = super::http::Http::new(&far.url());
    let path = "/tidelog/some/prefix/shards/00000/segments/a.seg";
    // Unsigned, so the S3 server's own answer is that it is not allowed.
    for _ in 0..3 {
        assert_eq!(http.get(path).await.status, 403);
    }
    assert_eq!(far.calls(), (Calls::from([((Does::Get, "segment"), 3)]), 0));
    far.inject(Injected { delay: Duration::from_millis(1), errors: 1.0 });
    let mut refused = 0;
    for _ in 0..30 {
        let answer = http.try_get(path).await;
        refused += u64::from(answer.as_ref().is_some_and(|answer| answer.status == 503));
        assert!(answer.is_none_or(|answer| answer.status == 503));
    }
    let (calls, hurt) = far.calls();
    // A client may send a call again whose connection broke.
    assert!(hurt >= 30 && calls[&(Does::Get, "segment")] == hurt + 3, "{calls:?} {hurt}");
    assert!(refused > 0, "a part of them is refused");
}
