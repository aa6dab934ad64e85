//! `tidelog serve`: settings, logging, then the whole server in this process.

mod compactor;
mod injected;
mod listen;
pub(super) mod logging;
mod process;
pub(super) mod signals;

use anyhow::{Context, Result};
use tidelog::config::{self, Config, Sources};

use crate::args::ServeArgs;
use crate::output;

/// Serves until a signal or an operator ends it.
pub(super) fn run(args: &ServeArgs) -> Result<()> {
    let config = load(args)?;
    if args.print_config {
        return output::line(config.to_toml().trim_end());
    }
    if args.check_config {
        return output::line("the settings are valid");
    }
    let filter = logging::start(&config.log)?;
    signals::end_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidelog")
        .build()
        .context("cannot start the async runtime")?;
    let start = process::Start { restore: args.restore, until_stdin_closes: args.until_stdin_closes };
    let result = runtime.block_on(process::serve(config, start, filter));
    // A blocking call to a dead disk or bucket must not keep a process that has done what it could.
    runtime.shutdown_background();
    result
}

/// The settings in force: file, environment, flags.
fn load(args: &ServeArgs) -> Result<Config> {
    let mut sources = Sources::from_process();
    if let Some(path) = &args.config {
        sources.file = Some(config::read_file(path)?);
    }
    let flags = [
        ("http.listen", "--listen", args.listen.map(|address| address.to_string())),
        ("admin.listen", "--admin-listen", args.admin_listen.clone()),
        ("http.insecure", "--insecure", args.insecure.then(|| "true".to_owned())),
        ("data_dir", "--data-dir", args.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned())),
        ("bucket", "--bucket", args.bucket.clone()),
        ("cluster.node_id", "--node-id", args.node_id.clone()),
        ("cluster.nodes", "--cluster", args.cluster.clone()),
        ("cluster.roles", "--roles", args.roles.clone()),
        ("peer.listen", "--peer-listen", args.peer_listen.map(|address| address.to_string())),
        ("log.format", "--log-format", args.log_format.map(|format| format.as_str().to_owned())),
    ];
    sources.flags = flags.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect();
    Ok(Config::load(&sources)?)
}
