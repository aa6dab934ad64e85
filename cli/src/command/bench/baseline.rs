//! `tidelog bench baseline`: what the figures of a server are held against, measured by the same generator in the same
//! minute: a handler that does nothing in a process of its own, the bare disk, and the bare bucket if one is named.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use hyper::Uri;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::args::{BaselineBench, Load};
use super::body::Bodies;
use super::bucket::{self, BucketFigures};
use super::disk::{self, DiskFigures};
use super::observe::Observer;
use super::produce::send;
use super::report::{Figures, parameters};
use super::wire::Target;
use crate::output::{self, Table};

/// Beside one connection, this many are measured unless another number was asked for.
const MANY: u32 = 64;
const DISK_SIZES: [usize; 2] = [4 << 10, 1 << 20];

#[derive(Debug, Serialize)]
struct Baseline {
    bench: &'static str,
    version: &'static str,
    parameters: Value,
    no_op: Vec<NoOp>,
    disk: Vec<DiskFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<BucketFigures>,
}

#[derive(Debug, Serialize)]
struct NoOp {
    connections: u32,
    #[serde(flatten)]
    figures: Figures,
}

/// Measures and prints.
pub(super) fn run(args: &BaselineBench) -> Result<()> {
    let bodies = Bodies::new(&args.load)?;
    let server = NoOpServer::start()?;
    let target = Target::parse(&server.url)?;
    let many = if args.load.connections > 1 { args.load.connections } else { MANY };
    let no_op: Vec<NoOp> =
        [1, many].into_iter().map(|connections| no_op(&target, args, &bodies, connections)).collect::<Result<_>>()?;
    drop(server);
    let disk: Vec<DiskFigures> = DISK_SIZES
        .into_iter()
        .map(|size| disk::measure(&args.data_dir, size, args.disk_duration))
        .collect::<Result<_>>()?;
    let bucket = args.bucket.as_deref().map(|url| bucket::measure(url, args.disk_duration)).transpose()?;
    let mut parameters = parameters(&args.load, &bodies);
    parameters["connections"] = json!([1, many]);
    parameters["disk_seconds"] = json!(args.disk_duration.as_secs_f64());
    let version = env!("CARGO_PKG_VERSION");
    let baseline = Baseline { bench: "baseline", version, parameters, no_op, disk, bucket };
    if args.json { output::json(&baseline) } else { baseline.print() }
}

fn no_op(target: &Target, args: &BaselineBench, bodies: &Bodies, connections: u32) -> Result<NoOp> {
    let load = Load { connections, ..args.load.clone() };
    let uris: [Uri; 1] = ["/v1/topics/bench/partitions/0/records?acks=quorum".parse()?];
    let mut observer = Observer::none();
    let tally = send(target, &load, bodies, &uris, &mut observer)?;
    if !tally.errors.is_empty() {
        bail!("the handler that does nothing failed: {:?}", tally.errors);
    }
    let figures = Figures::new(&tally, load.warm_up, (bodies.records, bodies.value_bytes), &observer);
    Ok(NoOp { connections, figures })
}

impl Baseline {
    fn print(&self) -> Result<()> {
        let mut table = Table::new(&["baseline", ""]);
        for no_op in &self.no_op {
            table.row([&format!("no-op handler, {} connections", no_op.connections), ""]);
            no_op.figures.rows(&mut table);
        }
        for disk in &self.disk {
            let latency = super::report::percentiles(&disk.latency);
            table.row([&format!("write + fdatasync of {} KiB", disk.size >> 10), ""]);
            table.row(["per second", &format!("{:.0}, {:.1} MB/s", disk.syncs_per_second, disk.mb_per_second)]);
            table.row(["latency", &latency]);
        }
        if let Some(bucket) = &self.bucket {
            let latency = super::report::percentiles(&bucket.latency);
            table.row([&format!("PUTs of {} MiB, {} at a time", bucket.size >> 20, bucket.parallel), ""]);
            table.row(["rate", &format!("{:.1} MB/s", bucket.mb_per_second)]);
            table.row(["latency", &latency]);
        }
        table.print()
    }
}

/// The child process that serves the handler; it ends when it is dropped, or when this process does.
struct NoOpServer {
    child: Child,
    url: String,
}

impl NoOpServer {
    fn start() -> Result<Self> {
        let binary = std::env::current_exe().context("the path of this program is not known")?;
        let mut child = Command::new(binary)
            .args(["bench", "baseline-server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the handler that does nothing")?;
        let mut url = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut url)?;
        }
        let server = Self { child, url: url.trim().to_owned() };
        if server.url.is_empty() {
            bail!("the handler that does nothing did not start");
        }
        Ok(server)
    }
}

impl Drop for NoOpServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tidelog bench baseline-server`: serves until standard input is closed. The runtime is as the server's.
pub(super) fn serve() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")?;
    let serving = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        output::line(&format!("http://{}", listener.local_addr()?))?;
        tidelog_gateway::baseline::serve(listener).await.context("the handler that does nothing ended")
    };
    runtime.spawn_blocking(|| {
        let mut rest = Vec::new();
        // Closed or broken is the same: whoever started this is gone.
        let _ = std::io::stdin().take(1 << 20).read_to_end(&mut rest);
        std::process::exit(0);
    });
    runtime.block_on(serving)
}
