//! An S3 server for trying and testing without one: s3s over TCP, its objects in a directory, signatures checked.
//!
//! It stands in for the one of minio/compose.yaml where there are no containers (minio/run-local.sh). There is one user,
//! who may do what the policy says and nothing else, so a right that Tidelog needs and the policy lacks is found here. The
//! bucket is made at the start. Nothing is synced: it is no home for data that matters.
//!
//!   s3-server --listen ADDR --dir DIR --bucket NAME --policy FILE    with ACCESS_KEY and SECRET_KEY in the environment

#![allow(clippy::unwrap_used)]

mod policy;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

use self::policy::Policy;

const USAGE: &str = "usage: s3-server --listen ADDR --dir DIR --bucket NAME --policy FILE";

/// What the command line says.
struct Args {
    listen: SocketAddr,
    dir: PathBuf,
    bucket: String,
    policy: PathBuf,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let (mut listen, mut dir, mut bucket, mut policy) = (None, None, None, None);
        while let Some(flag) = args.next() {
            let value = args.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
            match flag.as_str() {
                "--listen" => listen = Some(value.parse().with_context(|| format!("{value} is no address"))?),
                "--dir" => dir = Some(value.into()),
                "--bucket" => bucket = Some(value),
                "--policy" => policy = Some(value.into()),
                _ => bail!("{flag} is unknown\n{USAGE}"),
            }
        }
        match (listen, dir, bucket, policy) {
            (Some(listen), Some(dir), Some(bucket), Some(policy)) => Ok(Self { listen, dir, bucket, policy }),
            _ => bail!(USAGE),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse(std::env::args().skip(1))?;
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let (access_key, secret_key) = (variable("ACCESS_KEY")?, variable("SECRET_KEY")?);
    let policy = std::fs::read_to_string(&args.policy)
        .with_context(|| format!("cannot read {}", args.policy.display()))
        .and_then(|text| Policy::parse(&text))?;
    std::fs::create_dir_all(args.dir.join(&args.bucket))
        .with_context(|| format!("cannot create {}", args.dir.display()))?;

    let files =
        s3s_fs::FileSystem::new(&args.dir).map_err(|error| anyhow::anyhow!("cannot open the directory: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
    builder.set_access(policy);
    let service = builder.build();
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    eprintln!("s3-server: http://{} has the bucket {}", listener.local_addr()?, args.bucket);
    let http = Builder::new(TokioExecutor::new());
    loop {
        let (socket, _) = listener.accept().await.context("cannot accept")?;
        // An answer in two writes would wait 40 ms for the client's acknowledgement otherwise.
        socket.set_nodelay(true)?;
        let connection = http.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        // A client that goes away is no failure of the server.
        tokio::spawn(async move { drop(connection.await) });
    }
}
