//! A TCP proxy between peers that can be cut and stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Pass,
    /// Connections stay open and nothing gets through.
    Stall,
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    mode: watch::Sender<Mode>,
    cut: watch::Sender<CancellationToken>,
    connections: Arc<AtomicU64>,
}

impl Proxy {
    pub(super) async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            mode: watch::Sender::new(Mode::Pass),
            cut: watch::Sender::new(CancellationToken::new()),
            connections: Arc::default(),
        };
        let (mode, cut, connections) = (proxy.mode.clone(), proxy.cut.clone(), Arc::clone(&proxy.connections));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let Ok(far) = TcpStream::connect(&to).await else { continue };
                let cut = cut.borrow().clone();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                    let (mode, cut) = (mode.subscribe(), cut.clone());
                    tokio::spawn(async move { cut.run_until_cancelled(copy(from, to, mode)).await });
                }
            }
        });
        proxy
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Ends every connection as it is; later ones pass.
    pub(super) fn cut(&self) {
        self.cut.send_replace(CancellationToken::new()).cancel();
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes) = from.read(&mut buffer).await {
        if mode.wait_for(|mode| *mode == Mode::Pass).await.is_err() || bytes == 0 {
            return;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
