//! Producers: registration, and where one stopped.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use tidelog::model::ProducerId;
use tidelog_api::ErrorBody;
use tidelog_api::producers::{ProducerPartition, ProducerRegistered, ProducerState, RegisterProducer};

use super::json;
use super::topics::small_body;
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::negotiate::{Media, negotiate};
use crate::params::{Params, parse_number, topic_name};

/// Register a producer; the same name again raises its epoch and fences the older holder
#[utoipa::path(post, path = "/v1/producers", tag = "producers", request_body = RegisterProducer,
    responses((status = 200, body = ProducerRegistered), (status = "default", body = ErrorBody)))]
pub(crate) async fn register(
    State(app): State<App>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    negotiate(&headers, &[Media::Json])?;
    params.finish()?;
    let request: RegisterProducer = small_body(&app, &headers, body).await?;
    let (id, epoch) = app.queue().register_producer(request.name).await?;
    json(StatusCode::OK, &ProducerRegistered { producer_id: id.0, epoch })
}

/// Find a named producer without raising its epoch
#[utoipa::path(get, path = "/v1/producers", tag = "producers", params(("name" = String, Query)),
    responses((status = 200, body = ProducerRegistered), (status = "default", body = ErrorBody)))]
pub(crate) async fn find(State(app): State<App>, mut params: Params, headers: HeaderMap) -> Result<Response> {
    negotiate(&headers, &[Media::Json])?;
    let name = params.text("name").ok_or_else(|| ApiError::parameter("name", "the parameter name is missing"))?;
    params.finish()?;
    let (id, epoch) = app.queue().find_producer(&name).await?;
    json(StatusCode::OK, &ProducerRegistered { producer_id: id.0, epoch })
}

/// Where a producer stopped in a topic
#[utoipa::path(get, path = "/v1/producers/{id}", tag = "producers",
    params(("id" = u64, Path), ("topic" = String, Query), ("topic_id" = Option<String>, Query)),
    responses((status = 200, body = ProducerState), (status = "default", body = ErrorBody)))]
pub(crate) async fn positions(
    State(app): State<App>,
    axum::extract::Path(id): axum::extract::Path<String>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    negotiate(&headers, &[Media::Json])?;
    let producer_id = parse_number("id", &id)?;
    let topic = params.text("topic").ok_or_else(|| ApiError::parameter("topic", "the parameter topic is missing"))?;
    let topic = topic_name(topic)?;
    let topic_id = params.topic_id()?;
    params.finish()?;
    let about = |error| ApiError::from(error).about_topic(&topic);
    // Ties the answer to one topic, whoever recreates it meanwhile.
    let id = app.queue().describe_topic(&topic, topic_id).await.map_err(about)?.topic.id;
    let positions = app.queue().producer_positions(ProducerId(producer_id), &topic, Some(id)).await.map_err(about)?;
    let partition = |position: tidelog::queue::ProducerPosition| ProducerPartition {
        partition: position.partition,
        epoch: position.epoch,
        last_sequence: position.last_sequence,
        last_offset: position.last_offset,
    };
    let partitions = positions.into_iter().map(partition).collect();
    json(StatusCode::OK, &ProducerState { producer_id, topic_id: id.0, partitions })
}
