//! What a test injects into a server from outside: fail points, and a wrong wall clock.
//!
//! Each is a text, or `@FILE`: a file that is read again and again, so that another process arms, disarms and sets while
//! the server runs. Everything is logged, and a server with any of it refuses to listen beyond loopback.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tidelog::clock::Clock;
use tidelog::config::Config;
use tidelog::failpoint;

/// Milliseconds by which wall time is wrong, such as `-3600000`.
const WALL_SHIFT: &str = "TIDELOG_WALL_SHIFT";
/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(10);

/// Applies what the environment injects; gives the clock of the process.
///
/// # Errors
/// A text that is not understood, a file that cannot be read, or an address beyond loopback.
pub(super) fn start(config: &Config) -> Result<Clock> {
    let clock = Clock::system();
    let shifted = clock.clone();
    let set_clock = move |text: &str| {
        let millis: i64 = text.trim().parse().map_err(|_| format!("{text:?} is not a number of milliseconds"))?;
        tracing::warn!(millis, "the wall clock is shifted");
        shifted.shift_wall(millis);
        Ok(())
    };
    let injected = [inject(failpoint::ENVIRONMENT, failpoint::replace)?, inject(WALL_SHIFT, set_clock)?];
    let mut listeners = [Some(config.http.listen), config.admin.listen, config.peer.listen].into_iter().flatten();
    if injected.contains(&true)
        && let Some(listener) = listeners.find(|address| !address.ip().is_loopback())
    {
        bail!("a test injects faults: refusing to listen beyond loopback, on {listener}");
    }
    Ok(clock)
}

/// Applies the variable `name`, now and whenever the file that it names changes; whether it is set.
fn inject(name: &'static str, apply: impl Fn(&str) -> Result<(), String> + Send + 'static) -> Result<bool> {
    let Ok(text) = std::env::var(name) else { return Ok(false) };
    let Some(path) = text.strip_prefix('@').map(PathBuf::from) else {
        apply(&text).map_err(|error| anyhow!("{name}: {error}"))?;
        return Ok(true);
    };
    let read =
        move || std::fs::read_to_string(&path).with_context(|| format!("{name}: cannot read {}", path.display()));
    let mut applied = read()?;
    apply(&applied).map_err(|error| anyhow!("{name}: {error}"))?;
    std::thread::Builder::new().name("injected".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(POLL);
            // A file that is being replaced is there again at the next look.
            let Ok(text) = read() else { continue };
            if text == applied {
                continue;
            }
            if let Err(error) = apply(&text) {
                tracing::error!(name, error, "what was injected is not understood");
            }
            applied = text;
        }
    })?;
    Ok(true)
}
