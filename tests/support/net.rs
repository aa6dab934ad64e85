//! The network between the nodes of a cluster, each link and each way of it on its own: a proxy before every node's peer
//! listener holds back what a cut does not let through.
//!
//! A cut is silent, as one in a network is: what was sent waits, the ends of connections too, and goes on when the cut is
//! healed, if both sides are still there. Whose connection it is the kernel says: the process that has its other end.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// From a node to a node.
type Way = (u64, u64);

/// Links between nodes; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Net(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cuts: watch::Sender<BTreeSet<Way>>,
    /// Nodes by the process that runs them.
    processes: Mutex<HashMap<u32, u64>>,
}

impl Net {
    /// Nothing is cut.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { cuts: watch::Sender::new(BTreeSet::new()), processes: Mutex::default() }))
    }

    /// The address at which other nodes reach `node`, which listens at `target` whenever it runs.
    pub(crate) async fn proxy(&self, node: u64, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let net = self.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, peer)) = listener.accept().await else { continue };
                let net = net.clone();
                tokio::spawn(async move {
                    // A caller that has ended already has nothing to say.
                    if let Some(from) = net.caller(peer, address).await {
                        net.connect(stream, target, (from, node)).await;
                    }
                });
            }
        });
        address
    }

    /// `node` is run by this process from now on.
    pub(crate) fn runs(&self, process: u32, node: u64) {
        self.0.processes.lock().unwrap().insert(process, node);
    }

    /// Nothing that `from` sends reaches `to`.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.0.cuts.send_modify(|cuts| {
            cuts.insert((from, to));
        });
    }

    /// Nothing passes between `node` and `others`.
    pub(crate) fn isolate(&self, node: u64, others: &[u64]) {
        for other in others {
            self.cut(node, *other);
            self.cut(*other, node);
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.0.cuts.send_modify(BTreeSet::clear);
    }

    /// The node whose process made the connection from `peer`.
    async fn caller(&self, peer: SocketAddr, proxy: SocketAddr) -> Option<u64> {
        let processes = self.0.processes.lock().unwrap().clone();
        let look = move || {
            let socket = format!("socket:[{}]", inode(peer.port(), proxy.port())?);
            processes.into_iter().find(|(process, _)| holds(*process, &socket)).map(|(_, node)| node)
        };
        tokio::task::spawn_blocking(look).await.unwrap()
    }

    async fn connect(&self, caller: TcpStream, target: SocketAddr, (from, to): Way) {
        let mut gate = self.0.cuts.subscribe();
        passes(&mut gate, (from, to)).await;
        passes(&mut gate, (to, from)).await;
        // A node that is down refuses: so does the end of the connection.
        let Ok(called) = TcpStream::connect(target).await else { return };
        for stream in [&caller, &called] {
            stream.set_nodelay(true).unwrap();
        }
        let (from_caller, to_caller) = caller.into_split();
        let (from_called, to_called) = called.into_split();
        tokio::join!(
            pipe(from_caller, to_called, gate.clone(), (from, to)),
            pipe(from_called, to_caller, gate.clone(), (to, from))
        );
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<BTreeSet<Way>>, way: Way) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        passes(&mut gate, way).await;
        match read {
            Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => break,
        }
    }
    let _ = to.shutdown().await;
}

/// Waits until `way` is not cut.
async fn passes(gate: &mut watch::Receiver<BTreeSet<Way>>, way: Way) {
    // The sender lives as long as a proxy does, or nobody is left to wait for.
    let _ = gate.wait_for(|cuts| !cuts.contains(&way)).await;
}

/// The inode of the socket on this machine's loopback that is bound to `local` and connected to `remote`.
fn inode(local: u16, remote: u16) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
        let same = port(fields.get(1)?) == Some(local) && port(fields.get(2)?) == Some(remote);
        if same { fields.get(9)?.parse().ok() } else { None }
    })
}

fn holds(process: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).any(|link| link.to_str() == Some(socket))
}

#[tokio::test]
async fn what_is_cut_waits_and_what_is_not_passes() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let net = Net::new();
    net.runs(std::process::id(), 1);
    let address = net.proxy(2, target.local_addr().unwrap()).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let (mut called, _) = target.accept().await.unwrap();
    let mut byte = [0];
    caller.write_all(b"a").await.unwrap();
    called.read_exact(&mut byte).await.unwrap();
    net.cut(1, 2);
    caller.write_all(b"b").await.unwrap();
    // The other way still passes.
    called.write_all(b"c").await.unwrap();
    caller.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"c");
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), called.read_exact(&mut byte)).await;
    assert!(waiting.is_err(), "it passed a cut");
    net.heal();
    called.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"b");
    // The end of a connection does not pass either.
    net.isolate(1, &[2]);
    drop(caller);
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), called.read(&mut byte)).await;
    assert!(waiting.is_err(), "the end passed a cut");
    net.heal();
    assert_eq!(called.read(&mut byte).await.unwrap(), 0);
}
