//! Control commands are proposed again as long as they were certainly not written, by members and by gateways alike.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::error::ProposeError;
use crate::error::{Error, Result};
use crate::format::command;
use crate::model::{Answer, Command, Control, LogIndex, LogTime, LoggedCommand};

/// How long a command that was certainly not written is proposed again.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two such attempts; up to half as much longer.
const PROPOSE_PAUSE: Duration = Duration::from_millis(20);
/// How long an answered command waits for this process to apply it too.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What proposes a command once.
pub(super) trait Proposes {
    /// Log time now, as far as this process knows it.
    fn log_time(&self) -> LogTime;

    /// See [`super::Leader::propose`].
    fn propose(&self, entry: Bytes) -> impl Future<Output = Result<(LogIndex, Answer), ProposeError>> + Send;

    /// Returns once this process has applied entry `index`, or `within` is over.
    fn catch_up(&self, index: LogIndex, within: Duration) -> impl Future<Output = ()> + Send;
}

/// See [`super::Leader::control`].
pub(super) async fn control(by: &(impl Proposes + Sync), control: Control) -> Result<(LogIndex, Answer)> {
    let deadline = Instant::now() + PROPOSE_DEADLINE;
    loop {
        let logged = LoggedCommand { log_time: by.log_time(), command: Command::Control(control.clone()) };
        match by.propose(command::encode(&logged)?).await {
            Ok((index, answer)) => {
                by.catch_up(index, CATCH_UP).await;
                return match answer {
                    Answer::Rejected(rejection) => Err(Error::from(rejection)),
                    answer => Ok((index, answer)),
                };
            }
            // Certainly not written: a fresh leader that waits for its first quorum says this too.
            Err(ProposeError::NotWritten { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(PROPOSE_PAUSE.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
