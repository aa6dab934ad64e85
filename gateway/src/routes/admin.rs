//! What operators do: pause and resume background jobs, change the log's filter, stop the cluster cleanly.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tidelog::error::{Error, Outcome};
use tidelog::model::BackgroundJob;
use tidelog_api::status::{JobPaused, LogLevel, Stopped};
use tidelog_api::{ErrorBody, ErrorCode};

use super::call::Call;
use super::json;
use crate::app::App;
use crate::context::VerbRoute;
use crate::error::{ApiError, Result};

/// `POST /v1/admin/jobs/{job}:{verb}`
pub(crate) async fn job(axum::extract::Path(path): axum::extract::Path<String>, call: Call) -> Result<Response> {
    let app = call.finish()?;
    let (name, verb) = path.split_once(':').unwrap_or((&path, ""));
    let job = match name {
        "flush" => BackgroundJob::Flush,
        "archive" => BackgroundJob::Archive,
        "gc" => BackgroundJob::Gc,
        _ => return Err(ApiError::new(ErrorCode::RouteNotFound, "the jobs are flush, archive and gc")),
    };
    let (route, response) = match verb {
        "pause" => ("/v1/admin/jobs/{job}:pause", pause(&app, job, name)),
        "resume" => ("/v1/admin/jobs/{job}:resume", resume(&app, job, name)),
        _ => return Err(ApiError::new(ErrorCode::RouteNotFound, "the verbs of a job are pause and resume")),
    };
    let mut response = response.into_response();
    response.extensions_mut().insert(VerbRoute(route));
    Ok(response)
}

/// Pause a background job
#[utoipa::path(post, path = "/v1/admin/jobs/{job}:pause", tag = "operation",
    params(("job" = String, Path, description = "flush, archive or gc")),
    responses((status = 200, body = JobPaused), (status = "default", body = ErrorBody)))]
fn pause(app: &App, job: BackgroundJob, name: &str) -> Result<Response> {
    set_paused(app, job, name, true)
}

/// Resume a background job
#[utoipa::path(post, path = "/v1/admin/jobs/{job}:resume", tag = "operation",
    params(("job" = String, Path, description = "flush, archive or gc")),
    responses((status = 200, body = JobPaused), (status = "default", body = ErrorBody)))]
fn resume(app: &App, job: BackgroundJob, name: &str) -> Result<Response> {
    set_paused(app, job, name, false)
}

fn set_paused(app: &App, job: BackgroundJob, name: &str, paused: bool) -> Result<Response> {
    app.queue().set_paused(job, paused);
    tracing::info!(job = name, paused, "an operator set a background job");
    json(StatusCode::OK, &JobPaused { job: name.to_owned(), paused })
}

/// The settings in force, without secrets
#[utoipa::path(get, path = "/v1/admin/settings", tag = "operation",
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn settings(call: Call) -> Result<Response> {
    let app = call.finish()?;
    json(StatusCode::OK, &app.config().without_secrets())
}

/// Change the filter of the log
#[utoipa::path(put, path = "/v1/admin/log-level", tag = "operation", request_body = LogLevel,
    responses((status = 200, body = LogLevel), (status = "default", body = ErrorBody)))]
pub(crate) async fn log_level(call: Call) -> Result<Response> {
    let (app, level) = call.json::<LogLevel>().await?;
    app.hooks()
        .set_log_filter(&level.filter)
        .map_err(|reason| ApiError::new(ErrorCode::InvalidRequest, format!("not a log filter: {reason}")))?;
    tracing::info!(filter = level.filter, "an operator changed the log's filter");
    json(StatusCode::OK, &level)
}

/// Close the cluster for appends, write a clean checkpoint, end the process
#[utoipa::path(post, path = "/v1/admin/stop", tag = "operation",
    responses((status = 200, body = Stopped), (status = "default", body = ErrorBody)))]
pub(crate) async fn stop(call: Call) -> Result<Response> {
    let app = call.finish()?;
    // A client that goes away leaves no cluster that is closed and yet runs on.
    let stopped = tokio::spawn(async move {
        app.queue().close().await?;
        tracing::info!("an operator stopped the cluster");
        app.hooks().stop();
        Ok::<_, Error>(())
    });
    stopped.await.map_err(|error| {
        Error::internal("stopping the cluster failed").with_source(error).with_outcome(Outcome::Unknown)
    })??;
    json(StatusCode::OK, &Stopped { clean: true })
}
