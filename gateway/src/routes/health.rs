//! Whether the process serves, whether it should be given traffic, what it is doing.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidelog::metrics as names;
use tidelog::queue::BudgetStatus;
use tidelog_api::status::{Health, Status};
use tidelog_api::{ErrorBody, ErrorCode};
use utoipa::OpenApi as _;

use super::call::Call;
use super::{answer, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::negotiate::{Media, negotiate};
use crate::openapi::ApiDoc;

/// The process serves
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = Health)))]
pub(crate) async fn healthz() -> Result<Response> {
    json(StatusCode::OK, &Health { status: "ok".to_owned() })
}

/// The process should be given traffic: recovered, a leader of every shard reached once, not draining
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = Health), (status = 503, description = "Starting or draining", body = ErrorBody)))]
pub(crate) async fn readyz(State(app): State<App>) -> Result<Response> {
    let not_ready = |message: &str| Err(ApiError::new(ErrorCode::Unavailable, message));
    if app.lifecycle().is_draining() {
        return not_ready("draining");
    }
    if !app.queue().is_ready() {
        return not_ready("starting");
    }
    json(StatusCode::OK, &Health { status: "ok".to_owned() })
}

/// What the node is doing
#[utoipa::path(get, path = "/v1/status", tag = "operation",
    params(("state_hash" = Option<bool>, Query, description = "With the hash of each shard's state, which reads all of it")),
    responses((status = 200, body = Status), (status = "default", body = ErrorBody)))]
pub(crate) async fn status(mut call: Call) -> Result<Response> {
    let hashed = call.params.flag("state_hash")?;
    let app = call.finish()?;
    if !hashed {
        return json(StatusCode::OK, &with_bodies(&app, app.queue().status()));
    }
    let queue = app.queue().clone();
    let status = tidelog::blocking::spawn(move || queue.status_with_hash()).await;
    let status = status.map_err(|_| ApiError::new(ErrorCode::Internal, "hashing the state broke off"))?;
    json(StatusCode::OK, &with_bodies(&app, status))
}

/// With the budget that the gateway keeps itself.
fn with_bodies(app: &App, mut status: tidelog::queue::Status) -> tidelog::queue::Status {
    let (used_bytes, limit_bytes) = app.bodies().usage();
    status.budgets.push(BudgetStatus { name: "http.body_memory", used_bytes, limit_bytes });
    status
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    app.queue().observe();
    let (used, limit) = app.bodies().usage();
    metrics::gauge!(names::HTTP_BODY_MEMORY_BYTES).set(used as f64);
    metrics::gauge!(names::HTTP_BODY_MEMORY_BUDGET_BYTES).set(limit as f64);
    let mut response = answer(StatusCode::OK, Media::Text, Body::from(app.hooks().render_metrics()));
    // The version of the exposition format.
    let value = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn openapi(headers: HeaderMap) -> Result<Response> {
    negotiate(&headers, &[Media::Json])?;
    json(StatusCode::OK, &ApiDoc::openapi())
}
