//! `tidelog dev-cluster`: a cluster by one command, gone with it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::binary::{command, run, run_with, text};
use crate::support::eventually;
use crate::support::operators;
use crate::support::server::{copy_lines, fixed_ports};

/// A running dev-cluster and what it said.
struct Dev {
    child: Child,
    urls: Vec<String>,
    nodes: Vec<Pid>,
    data: PathBuf,
    complaints: Arc<Mutex<String>>,
}

impl Dev {
    /// Starts one with these flags.
    fn start(flags: &[&str]) -> Self {
        let mut child = command(&["dev-cluster"])
            .args(flags)
            .env("TIDELOG__RAFT__ELECTION_MIN", "1s")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let complaints = Arc::<Mutex<String>>::default();
        let (stderr, copy) = (child.stderr.take().unwrap(), Arc::clone(&complaints));
        std::thread::spawn(move || copy_lines(stderr, &copy));
        let mut dev = Self { child, urls: Vec::new(), nodes: Vec::new(), data: PathBuf::new(), complaints };
        let stdout = BufReader::new(dev.child.stdout.take().unwrap());
        for line in stdout.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[0] {
                "node" | "gateway" => {
                    dev.urls.push(words[2].to_owned());
                    operators::remember(words[2], words[6].trim_end_matches(','));
                    dev.nodes.push(Pid::from_raw(words[4].trim_end_matches(',').parse().unwrap()).unwrap());
                }
                "data" => dev.data = PathBuf::from(words[1]),
                "Ctrl-C" => break,
                _ => {}
            }
        }
        assert!(dev.urls.len() >= 3, "{}", dev.complaints.lock().unwrap());
        dev
    }

    fn servers(&self) -> String {
        self.urls.join(",")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn ended(&mut self) -> Option<i32> {
        let child = Mutex::new(&mut self.child);
        eventually("the end", || async { child.lock().unwrap().try_wait().unwrap() }).await.code()
    }

    async fn nodes_ended(&self) {
        let gone = || self.nodes.iter().all(|node| test_kill_process(*node).is_err());
        eventually("the end of the nodes", || async { gone().then_some(()) }).await;
    }
}

/// A port that the ports of three nodes follow, ten for each.
fn base_port() -> String {
    fixed_ports(30).to_string()
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The nodes end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_by_one_command_goes_on_without_a_node_and_leaves_nothing() {
    let mut dev = tokio::task::block_in_place(|| Dev::start(&["--nodes", "3", "--base-port", &base_port()]));
    let servers = dev.servers();
    run_with(&servers, &["produce", "greetings", "--create"], b"hello\n").ok();
    for url in &dev.urls {
        assert_eq!(run(url, &["consume", "greetings", "--output", "value"]).ok(), "hello\n");
    }
    assert!(dev.data.exists());
    kill_process(dev.nodes[0], Signal::KILL).unwrap();
    eventually("a report", || async { dev.complaints.lock().unwrap().contains("node 1 has ended").then_some(()) })
        .await;
    run_with(&servers, &["produce", "greetings"], b"again\n").ok();
    assert_eq!(run(&servers, &["consume", "greetings", "--output", "value"]).ok(), "hello\nagain\n");
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0), "{}", dev.complaints.lock().unwrap());
    dev.nodes_ended().await;
    assert!(!dev.data.exists(), "a throw-away directory stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_kept_is_started_again_whatever_ended_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let port = base_port();
    let first = ["--data-dir", text(&home), "--nodes", "3", "--base-port", &port];
    let mut dev = tokio::task::block_in_place(|| Dev::start(&first));
    run_with(&dev.servers(), &["produce", "greetings", "--create"], b"hello\n").ok();
    // Nobody is there to tell the nodes: they notice.
    dev.signal(Signal::KILL);
    assert_eq!(dev.ended().await, None);
    dev.nodes_ended().await;
    // The directory knows its nodes and their ports, and has no others.
    let other = run("", &["dev-cluster", "--data-dir", text(&home), "--nodes", "5"]).failed(2);
    assert!(other.contains("3 nodes"), "{other}");
    let again = ["--data-dir", text(&home), "--gateways", "1"];
    let mut dev = tokio::task::block_in_place(|| Dev::start(&again));
    assert_eq!(dev.urls.len(), 4);
    for servers in [&dev.servers(), &dev.urls[3]] {
        assert_eq!(run(servers, &["consume", "greetings", "--output", "value"]).ok(), "hello\n");
    }
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().await, Some(0), "{}", dev.complaints.lock().unwrap());
    assert!(home.join("bucket").exists());
}
