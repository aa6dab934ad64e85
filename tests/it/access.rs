//! Who reaches a server: TLS and tokens on both listeners, connections that end by age, reads that need no leader.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::{Ran, command, ran, run, text};
use crate::support::cluster::Cluster;
use crate::support::http::{Http, send};
use crate::support::server::{Server, Settings, copy_lines, fixed_address};
use crate::support::{eventually, operators};

/// A server with TLS and tokens on both listeners.
struct Secured {
    child: Child,
    dir: TempDir,
    clients: String,
    operators: String,
    log: Arc<Mutex<String>>,
}

impl Drop for Secured {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Secured {
    /// Starts one that takes the tokens of these lines.
    fn start(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        certificate(&file("cert.pem"), &file("key.pem"));
        std::fs::write(file("tokens"), lines).unwrap();
        let (clients, operators) = (fixed_address(), fixed_address());
        let mut serve = command(&["serve", "--listen", &clients, "--admin-listen", &operators, "--data-dir"]);
        serve.arg(file("data")).env("TIDELOG__AUTH__TOKENS_FILE", file("tokens")).env("TIDELOG__LOG__SAMPLE", "1");
        for section in ["HTTP", "ADMIN"] {
            serve.env(format!("TIDELOG__{section}__TLS__CERT"), file("cert.pem"));
            serve.env(format!("TIDELOG__{section}__TLS__KEY"), file("key.pem"));
        }
        let mut child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, log) = (child.stderr.take().unwrap(), Arc::<Mutex<String>>::default());
        let copied = Arc::clone(&log);
        std::thread::spawn(move || copy_lines(stderr, &copied));
        Self { child, dir, clients: format!("https://{clients}"), operators: format!("https://{operators}"), log }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command for it, without anything that lets it in.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("TIDELOG_SERVER", &self.clients).env("TIDELOG_ADMIN_SERVER", &self.operators);
        command.stdin(Stdio::null());
        command
    }

    /// Calls `tidelog` with the certificate that is to be believed, and a token.
    fn run(&self, token: &str, args: &[&str]) -> Ran {
        let ca = self.file("cert.pem");
        ran(&self.command(args).args(["--ca", text(&ca)]).env("TIDELOG_TOKEN", token).output().unwrap())
    }
}

/// A certificate of this machine that is its own authority.
fn certificate(cert: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(cert, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
}

/// A new token, and its line.
fn token(role: &str) -> (String, String) {
    let made = run("", &["token", "new", "--role", role, "--name", &format!("a-{role}"), "--json"]).ok();
    let made: Value = serde_json::from_str(&made).unwrap();
    (made["token"].as_str().unwrap().to_owned(), made["line"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_tokens_let_in_who_has_both() {
    let [(reader, read), (writer, write), (owner, admin)] = ["read", "write", "admin"].map(token);
    let secured = Secured::start(&format!("{read}\n{write}\n{admin}\n"));
    eventually("a topic by TLS", || async {
        tokio::task::block_in_place(|| secured.run(&writer, &["topic", "create", "t"]).code == 0).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| {
        let file = secured.file("lines");
        std::fs::write(&file, "one\ntwo\n").unwrap();
        let produce = ["produce", "t", "--file", text(&file)];
        secured.run(&writer, &produce).ok();
        let consume = ["consume", "t", "--output", "value"];
        assert_eq!(secured.run(&reader, &consume).ok(), "one\ntwo\n");
        assert!(secured.run(&owner, &["admin", "status"]).ok().contains("SHARD"));
        // Until when the certificates are good, which rcgen has far away; nobody is a peer here.
        let bundle: Value = serde_json::from_str(&secured.run(&owner, &["admin", "support-bundle"]).ok()).unwrap();
        let metrics = bundle["metrics"].as_str().unwrap();
        for (listener, is_known) in [("clients", true), ("operators", true), ("peers", false)] {
            let series = format!("tidelog_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}} ");
            let end = metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap();
            assert_eq!(end.parse::<f64>().unwrap() > 2e9, is_known, "{listener}: {end}");
        }
        // A token out of a file.
        std::fs::write(secured.file("token"), format!("{owner}\n")).unwrap();
        let (ca, kept) = (secured.file("cert.pem"), secured.file("token"));
        let from_file = ["topic", "delete", "t", "--ca", text(&ca), "--token-file", text(&kept)];
        for (who, args) in
            [(&reader, &produce[..]), (&writer, &["topic", "delete", "t"]), (&writer, &["admin", "stop"])]
        {
            let refused = secured.run(who, args).failed(1);
            assert!(refused.contains("forbidden"), "{refused}");
        }
        for wrong in ["", "nobody's"] {
            let refused = secured.run(wrong, &consume).failed(1);
            assert!(refused.contains("unauthorized"), "{refused}");
        }
        // Nobody speaks with a server whose certificate is not believed.
        let unbelieved = ran(&secured.command(&consume).env("TIDELOG_TOKEN", &reader).output().unwrap());
        unbelieved.failed(1);
        ran(&secured.command(&from_file).output().unwrap()).ok();
    });
    // What is taken out of the file is taken no more, without a restart.
    std::fs::write(secured.file("tokens"), format!("{write}\n{admin}\n")).unwrap();
    eventually("the end of a token", || async {
        let ran = tokio::task::block_in_place(|| secured.run(&reader, &["topic", "list"]));
        (ran.code == 1 && ran.stderr.contains("unauthorized")).then_some(())
    })
    .await;
    let log = secured.log.lock().unwrap().clone();
    for secret in [&reader, &writer, &owner] {
        assert!(!log.contains(secret.as_str()), "a token is in the log");
    }
    assert!(log.contains("a-write") && log.contains("a-read"), "requests name whose token they have:\n{log}");
}

#[test]
fn a_listener_that_others_reach_is_refused_without_protection() {
    let serve = |args: &[&str]| run("", &[&["serve", "--check-config"], args].concat());
    for args in [&["--listen", "0.0.0.0:0"][..], &["--admin-listen", "[::]:0"]] {
        let refused = serve(args).failed(1);
        assert!(refused.contains("beyond loopback") && refused.contains("auth.tokens_file"), "{refused}");
        serve(&[args, &["--insecure"]].concat()).ok();
    }
    serve(&["--listen", "127.0.0.1:0", "--admin-listen", "none"]).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_and_busy_ports_are_told_at_the_start() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let taken = operators::of(server.url());
    let taken = taken.trim_start_matches("http://");
    let data = dir.path().join("data");
    let free = ["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data), "--admin-listen"];
    let busy = run("", &[&free[..], &[taken]].concat()).failed(1);
    assert!(busy.contains(&format!("in use by process {}", server.id())) && busy.contains("--admin-listen"), "{busy}");
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "somebody read nothing\n").unwrap();
    let mut serve = command(&[&free[..], &["none"]].concat());
    let refused = ran(&serve.env("TIDELOG__AUTH__TOKENS_FILE", &tokens).stdin(Stdio::null()).output().unwrap());
    let refused = refused.failed(1);
    assert!(refused.contains("line 1") && refused.contains(text(&tokens)), "{refused}");
    assert!(!data.exists(), "nothing was opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_connections_end_between_requests() {
    let server = Server::start_with(Settings::default().set("http.max_connection_age", "1ms")).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    // Each of these comes on a connection that is old by then: it is answered, and the last on it.
    eventually("an answer that closes its connection", || async {
        let answer = http.produce("t", &json!([{"text": "x"}])).await;
        answer.expect(200);
        (answer.header("connection") == Some("close")).then_some(())
    })
    .await;
    let follow = http.request(Method::GET, "/v1/topics/t/records?from=latest").header("accept", "text/event-stream");
    let followed = send(follow).await;
    assert_eq!((followed.status, followed.header("connection")), (200, Some("close")));
    let events = String::from_utf8(followed.body).unwrap();
    assert!(events.contains("event: reconnect"), "{events}");
    // HTTP/2 says so with a frame; no request of many is lost.
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for _ in 0..50 {
        let answer = client.get(format!("{}/v1/topics/t", server.url())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let kept = Server::start_with(Settings::default().set("http.max_connection_age", "0s")).await;
    let answer = Http::new(kept.url()).get("/healthz").await;
    assert_eq!(answer.header("connection"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_left_alone_answers_what_it_knows_if_asked_for_that() {
    let mut cluster = Cluster::start().await;
    let http = cluster.http();
    http.create_topic("t", &json!({})).await;
    http.produce("t", &json!([{"text": "one"}, {"text": "two"}])).await.expect(200);
    cluster.converge().await;
    let left = cluster.follower().await;
    for other in cluster.others(left) {
        cluster.kill(other);
    }
    let alone = cluster.http_of(left);
    for path in ["/v1/topics/t?", "/v1/topics?", "/v1/topics/t/partitions/0/records?", "/v1/topics/t/records?"] {
        alone.get(&format!("{path}consistency=any")).await.expect(200);
        let newest = alone.try_get(path).await;
        assert!(newest.is_none_or(|answer| answer.status == 503), "{path} needs a leader");
    }
    let page = alone.get("/v1/topics/t/partitions/0/records?consistency=any").await.expect(200);
    assert_eq!((page["records"].as_array().unwrap().len(), &page["high_watermark"]), (2, &json!(2)));
    // What is not there is never said by a node that may be behind.
    for absent in ["/v1/topics/none?", "/v1/topics/t/partitions/0/records?offset=9&"] {
        let answer = alone.try_get(&format!("{absent}consistency=any")).await;
        assert!(answer.is_none_or(|answer| answer.status == 503), "{absent}");
    }
    alone.get("/v1/topics?consistency=some").await.error(400, "invalid_parameter");
}
