//! Archive jobs for a compactor that is another process: claim, extend, complete, abandon. The bodies are the engine's own
//! types; both sides are of one version.

use axum::response::Response;
use http::StatusCode;
use tidelog::queue::{CompletedJob, JobRef};
use tidelog_api::ErrorBody;
use tidelog_api::jobs::{Abandon, Claim};

use super::call::Call;
use super::json;
use crate::error::Result;

/// Claim the next archive job; null if nothing is due
#[utoipa::path(post, path = "/v1/archive-jobs:claim", tag = "archive", request_body = Claim,
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn claim(call: Call) -> Result<Response> {
    let (app, request) = call.json::<Claim>().await?;
    let job = app.queue().archive_jobs().claim(&request.worker).await?;
    json(StatusCode::OK, &job)
}

/// Move the deadline of a claim on
#[utoipa::path(post, path = "/v1/archive-jobs:extend", tag = "archive", request_body = Object,
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn extend(call: Call) -> Result<Response> {
    let (app, job) = call.json::<JobRef>().await?;
    app.queue().archive_jobs().extend(job).await?;
    json(StatusCode::OK, &())
}

/// Put the files of a job in the place of its segments
#[utoipa::path(post, path = "/v1/archive-jobs:complete", tag = "archive", request_body = Object,
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn complete(call: Call) -> Result<Response> {
    let (app, done) = call.json::<CompletedJob>().await?;
    app.queue().archive_jobs().complete(done).await?;
    json(StatusCode::OK, &())
}

/// Give a job back
#[utoipa::path(post, path = "/v1/archive-jobs:abandon", tag = "archive", request_body = Object,
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn abandon(call: Call) -> Result<Response> {
    let (app, request) = call.json::<Abandon<JobRef>>().await?;
    app.queue().archive_jobs().abandon(request.job, &request.reason).await?;
    json(StatusCode::OK, &())
}
