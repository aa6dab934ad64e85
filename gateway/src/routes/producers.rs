//! Producers: registration, and where one stopped.

use axum::response::Response;
use http::StatusCode;
use tidelog::model::ProducerId;
use tidelog_api::ErrorBody;
use tidelog_api::producers::{ProducerPartition, ProducerRegistered, ProducerState, RegisterProducer};

use super::call::Call;
use super::json;
use crate::error::{ApiError, Result};
use crate::params::{parse_number, topic_name};

/// Register a producer; the same name again raises its epoch and fences the older holder
#[utoipa::path(post, path = "/v1/producers", tag = "producers", request_body = RegisterProducer,
    responses((status = 200, body = ProducerRegistered), (status = "default", body = ErrorBody)))]
pub(crate) async fn register(call: Call) -> Result<Response> {
    let (app, request) = call.json::<RegisterProducer>().await?;
    let (id, epoch) = app.queue().register_producer(request.name).await?;
    json(StatusCode::OK, &ProducerRegistered { producer_id: id.0, epoch })
}

/// Find a named producer without raising its epoch
#[utoipa::path(get, path = "/v1/producers", tag = "producers", params(("name" = String, Query)),
    responses((status = 200, body = ProducerRegistered), (status = "default", body = ErrorBody)))]
pub(crate) async fn find(mut call: Call) -> Result<Response> {
    let name = call.params.text("name").ok_or_else(|| ApiError::parameter("name", "the parameter name is missing"))?;
    let app = call.finish()?;
    let (id, epoch) = app.queue().find_producer(&name).await?;
    json(StatusCode::OK, &ProducerRegistered { producer_id: id.0, epoch })
}

/// Where a producer stopped in a topic
#[utoipa::path(get, path = "/v1/producers/{id}", tag = "producers",
    params(("id" = u64, Path), ("topic" = String, Query), ("topic_id" = Option<String>, Query)),
    responses((status = 200, body = ProducerState), (status = "default", body = ErrorBody)))]
pub(crate) async fn positions(
    axum::extract::Path(id): axum::extract::Path<String>,
    mut call: Call,
) -> Result<Response> {
    let producer_id = parse_number("id", &id)?;
    let topic = call.params.text("topic");
    let topic = topic.ok_or_else(|| ApiError::parameter("topic", "the parameter topic is missing"))?;
    let topic = topic_name(topic)?;
    let topic_id = call.params.topic_id()?;
    let app = call.finish()?;
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
