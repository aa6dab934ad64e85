//! Topics: create, describe, list, alter, delete, and the verbs `:flush` and `:undelete`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tidelog::model::{self, FlushProgress, NamedSettings, NodeId};
use tidelog::queue::SettingsPatch;
use tidelog_api::topics::{
    Compression, FlushReport, FlushedPartition, PartitionDescription, SettingsRequest, TopicDeleted, TopicDescription,
    TopicList, TopicSettings, TopicSummary, ValueFormat,
};
use tidelog_api::{ErrorBody, ErrorCode, limits};

use super::call::Call;
use super::json;
use crate::consistency::Consistency;
use crate::context::VerbRoute;
use crate::error::{ApiError, Result};
use crate::params::{TopicName, topic_name};

/// Create a topic, or agree with the one that exists
#[utoipa::path(put, path = "/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path, description = "1-249 of [A-Za-z0-9._-]")),
    request_body = SettingsRequest,
    responses(
        (status = 201, description = "Created", body = TopicDescription),
        (status = 200, description = "It exists and agrees in the settings that the body names", body = TopicDescription),
        (status = "default", description = "See the list of codes", body = ErrorBody)))]
pub(crate) async fn create(TopicName(name): TopicName, call: Call) -> Result<Response> {
    let (app, request) = call.json::<SettingsRequest>().await?;
    if request.rekey.is_some() {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "rekey goes with PATCH"));
    }
    let (settings, named) = named_settings(&request);
    let (topic, created) = app
        .queue()
        .create_topic(&name, settings, named)
        .await
        .map_err(|error| ApiError::from(error).with("topic", name))?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(status, &description(&topic))?;
    if created && let Ok(location) = HeaderValue::from_str(&format!("/v1/topics/{}", topic.topic.name)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Describe a topic
#[utoipa::path(get, path = "/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path), ("topic_id" = Option<String>, Query, description = "Refuse another topic of that name"),
        ("consistency" = Option<String>, Query, description = "linearizable or any")),
    responses((status = 200, body = TopicDescription), (status = "default", body = ErrorBody)))]
pub(crate) async fn describe(TopicName(name): TopicName, mut call: Call) -> Result<Response> {
    let topic_id = call.params.topic_id()?;
    let consistency = Consistency::take(&mut call.params)?;
    let app = call.finish()?;
    let topic = consistency.describe(app.queue(), &name, topic_id).await;
    let topic = topic.map_err(|error| ApiError::from(error).about_topic(&name))?;
    json(StatusCode::OK, &description(&topic))
}

/// Change settings; null resets one
#[utoipa::path(patch, path = "/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path), ("topic_id" = Option<String>, Query)),
    request_body = SettingsRequest,
    responses((status = 200, body = TopicDescription), (status = "default", body = ErrorBody)))]
pub(crate) async fn alter(TopicName(name): TopicName, mut call: Call) -> Result<Response> {
    let topic_id = call.params.topic_id()?;
    let (app, request) = call.json::<SettingsRequest>().await?;
    let about = |error| ApiError::from(error).about_topic(&name);
    if let Some(format) = request.value_format {
        // Fixed at creation: naming the same one is no change.
        let now = app.queue().describe_topic(&name, topic_id).await.map_err(about)?;
        if value_format(format.unwrap_or_default()) != now.topic.settings.value_format {
            return Err(ApiError::new(ErrorCode::InvalidSettings, "the value format is fixed at creation"));
        }
    }
    let topic = app.queue().alter_topic(&name, topic_id, patch_of(&request)).await.map_err(about)?;
    json(StatusCode::OK, &description(&topic))
}

/// Delete a topic; it can be undeleted for 24 hours
#[utoipa::path(delete, path = "/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path), ("topic_id" = Option<String>, Query)),
    responses((status = 202, body = TopicDeleted), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(TopicName(name): TopicName, mut call: Call) -> Result<Response> {
    let topic_id = call.params.topic_id()?;
    let app = call.finish()?;
    let id =
        app.queue().delete_topic(&name, topic_id).await.map_err(|error| ApiError::from(error).about_topic(&name))?;
    json(StatusCode::ACCEPTED, &TopicDeleted { topic_id: id.0, name })
}

/// List topics by name
#[utoipa::path(get, path = "/v1/topics", tag = "topics",
    params(("prefix" = Option<String>, Query), ("start_after" = Option<String>, Query), ("limit" = Option<usize>, Query),
        ("consistency" = Option<String>, Query, description = "linearizable or any")),
    responses((status = 200, body = TopicList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(mut call: Call) -> Result<Response> {
    let prefix = call.params.text("prefix").unwrap_or_default();
    let start_after = call.params.text("start_after").unwrap_or_default();
    let limit = call.params.at_most("limit", limits::DEFAULT_LIST_LIMIT, limits::MAX_LIST_LIMIT)?;
    let consistency = Consistency::take(&mut call.params)?;
    let app = call.finish()?;
    let (topics, has_more) = consistency.list(app.queue(), (&prefix, &start_after), limit).await?;
    let topics = topics.iter().map(|topic| summary(topic)).collect();
    json(StatusCode::OK, &TopicList { topics, has_more })
}

/// `POST /v1/topics/{topic}:{verb}`
pub(crate) async fn verb(axum::extract::Path(path): axum::extract::Path<String>, call: Call) -> Result<Response> {
    let Some((name, verb)) = path.rsplit_once(':') else {
        topic_name(path)?;
        let error =
            ApiError::new(ErrorCode::MethodNotAllowed, "a topic is created with PUT; POST needs a verb such as :flush");
        return Err(error.with_header(header::ALLOW, HeaderValue::from_static("GET,HEAD,PUT,PATCH,DELETE")));
    };
    let name = topic_name(name.to_owned())?;
    let (route, response) = match verb {
        "flush" => ("/v1/topics/{topic}:flush", flush(&name, call).await),
        "undelete" => ("/v1/topics/{topic}:undelete", undelete(&name, call).await),
        _ => return Err(ApiError::new(ErrorCode::RouteNotFound, format!("topics have no verb {verb:?}"))),
    };
    let mut response = response.into_response();
    response.extensions_mut().insert(VerbRoute(route));
    Ok(response)
}

/// Write all that is below the high watermarks now to the bucket
#[utoipa::path(post, path = "/v1/topics/{topic}:flush", tag = "topics",
    params(("topic" = String, Path), ("topic_id" = Option<String>, Query),
        ("archive" = Option<bool>, Query, description = "Archive it too"),
        ("wait_ms" = Option<u64>, Query, description = "At most 60,000; default 10,000")),
    responses(
        (status = 200, description = "Done", body = FlushReport),
        (status = 202, description = "Begun", body = FlushReport),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn flush(name: &str, mut call: Call) -> Result<Response> {
    let topic_id = call.params.topic_id()?;
    let archive = call.params.flag("archive")?;
    let wait = call.params.millis("wait_ms", limits::DEFAULT_FLUSH_WAIT_MS, limits::MAX_FLUSH_WAIT_MS)?;
    let app = call.finish()?;
    let about = |error| ApiError::from(error).about_topic(name);
    let progress = tokio::select! {
        biased;
        progress = app.queue().flush_topic(name, topic_id, archive, wait) => progress.map_err(about)?,
        // The flush goes on; what is asked for again is how far it is.
        () = app.lifecycle().waits_ended() => {
            app.queue().flush_topic(name, topic_id, archive, std::time::Duration::ZERO).await.map_err(about)?
        }
    };
    let status = if progress.done { StatusCode::OK } else { StatusCode::ACCEPTED };
    json(status, &report(&progress))
}

/// Bring back the newest deleted topic of that name
#[utoipa::path(post, path = "/v1/topics/{topic}:undelete", tag = "topics",
    params(("topic" = String, Path)),
    responses((status = 200, body = TopicDescription), (status = "default", body = ErrorBody)))]
pub(crate) async fn undelete(name: &str, call: Call) -> Result<Response> {
    let app = call.finish()?;
    let topic = app.queue().undelete_topic(name).await?;
    json(StatusCode::OK, &description(&topic))
}

fn named_settings(request: &SettingsRequest) -> (model::TopicSettings, NamedSettings) {
    let default = model::TopicSettings::default();
    let settings = model::TopicSettings {
        partitions: request.partitions.flatten().unwrap_or(default.partitions),
        value_format: request.value_format.flatten().map_or(default.value_format, value_format),
        retention_ms: request.retention_ms.flatten(),
        retention_bytes: request.retention_bytes.flatten(),
        archive_retention_ms: request.archive_retention_ms.flatten(),
        archive_after_ms: request.archive_after_ms.flatten().unwrap_or(default.archive_after_ms),
        compression: request.compression.flatten().map_or(default.compression, compression),
        timestamp_max_ahead_ms: request.timestamp_max_ahead_ms.flatten().unwrap_or(default.timestamp_max_ahead_ms),
    };
    let named = NamedSettings {
        partitions: request.partitions.is_some(),
        value_format: request.value_format.is_some(),
        retention_ms: request.retention_ms.is_some(),
        retention_bytes: request.retention_bytes.is_some(),
        archive_retention_ms: request.archive_retention_ms.is_some(),
        archive_after_ms: request.archive_after_ms.is_some(),
        compression: request.compression.is_some(),
        timestamp_max_ahead_ms: request.timestamp_max_ahead_ms.is_some(),
    };
    (settings, named)
}

fn patch_of(request: &SettingsRequest) -> SettingsPatch {
    let default = model::TopicSettings::default();
    SettingsPatch {
        partitions: request.partitions.map(|value| value.unwrap_or(default.partitions)),
        retention_ms: request.retention_ms,
        retention_bytes: request.retention_bytes,
        archive_retention_ms: request.archive_retention_ms,
        archive_after_ms: request.archive_after_ms.map(|value| value.unwrap_or(default.archive_after_ms)),
        compression: request.compression.map(|value| value.map_or(default.compression, compression)),
        timestamp_max_ahead_ms: request
            .timestamp_max_ahead_ms
            .map(|value| value.unwrap_or(default.timestamp_max_ahead_ms)),
        rekey: request.rekey.unwrap_or(false),
    }
}

const fn value_format(format: ValueFormat) -> model::ValueFormat {
    match format {
        ValueFormat::Bytes => model::ValueFormat::Bytes,
        ValueFormat::Text => model::ValueFormat::Text,
        ValueFormat::Json => model::ValueFormat::Json,
    }
}

const fn compression(compression: Compression) -> model::Compression {
    match compression {
        Compression::None => model::Compression::None,
        Compression::Zstd => model::Compression::Zstd,
    }
}

fn settings(settings: &model::TopicSettings) -> TopicSettings {
    TopicSettings {
        partitions: settings.partitions,
        value_format: match settings.value_format {
            model::ValueFormat::Bytes => ValueFormat::Bytes,
            model::ValueFormat::Text => ValueFormat::Text,
            model::ValueFormat::Json => ValueFormat::Json,
        },
        retention_ms: settings.retention_ms,
        retention_bytes: settings.retention_bytes,
        archive_retention_ms: settings.archive_retention_ms,
        archive_after_ms: settings.archive_after_ms,
        compression: match settings.compression {
            model::Compression::None => Compression::None,
            model::Compression::Zstd => Compression::Zstd,
        },
        timestamp_max_ahead_ms: settings.timestamp_max_ahead_ms,
    }
}

fn summary(topic: &model::Topic) -> TopicSummary {
    let settings = settings(&topic.settings);
    TopicSummary { topic_id: topic.id.0, name: topic.name.clone(), settings, created_at: topic.created_at }
}

fn description(described: &model::TopicDescription) -> TopicDescription {
    let partition = |(partition, (bounds, leader)): (u32, (&model::Bounds, &Option<NodeId>))| PartitionDescription {
        partition,
        log_start_offset: bounds.log_start,
        flushed_offset: bounds.flushed,
        archived_offset: bounds.archived,
        high_watermark: bounds.high_watermark,
        last_stable_offset: bounds.high_watermark,
        leader: leader.map(|node| node.0),
    };
    let TopicSummary { topic_id, name, settings, created_at } = summary(&described.topic);
    let partitions = (0..).zip(described.partitions.iter().zip(&described.leaders)).map(partition).collect();
    TopicDescription { topic_id, name, settings, created_at, partitions }
}

fn report(progress: &FlushProgress) -> FlushReport {
    let partition = |(partition, (bounds, target)): (u32, (&model::Bounds, &u64))| FlushedPartition {
        partition,
        target: *target,
        flushed_offset: bounds.flushed,
        archived_offset: bounds.archived,
    };
    let partitions = (0..).zip(progress.topic.partitions.iter().zip(&progress.targets)).map(partition).collect();
    FlushReport { topic_id: progress.topic.topic.id.0, done: progress.done, partitions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_may_ask_for_what_the_engine_gives_and_no_more() {
        assert_eq!(limits::MAX_LIST_LIMIT, tidelog::queue::MAX_TOPICS_PAGE);
    }

    #[test]
    fn a_create_request_names_what_its_body_has_and_null_is_the_default() {
        let request = SettingsRequest {
            partitions: Some(Some(4)),
            retention_ms: Some(None),
            archive_after_ms: Some(None),
            compression: Some(Some(Compression::None)),
            ..SettingsRequest::default()
        };
        let (settings, named) = named_settings(&request);
        assert_eq!((settings.partitions, settings.retention_ms, settings.archive_after_ms), (4, None, 60_000));
        assert_eq!(settings.compression, model::Compression::None);
        assert!(named.partitions && named.retention_ms && named.archive_after_ms && named.compression);
        assert!(!named.value_format && !named.retention_bytes && !named.timestamp_max_ahead_ms);
    }

    #[test]
    fn a_patch_resets_with_null_and_leaves_what_is_absent() {
        let request = SettingsRequest {
            retention_ms: Some(None),
            timestamp_max_ahead_ms: Some(None),
            rekey: Some(true),
            ..SettingsRequest::default()
        };
        let patch = patch_of(&request);
        assert_eq!((patch.retention_ms, patch.retention_bytes), (Some(None), None));
        assert_eq!((patch.timestamp_max_ahead_ms, patch.partitions, patch.rekey), (Some(3_600_000), None, true));
    }

    #[test]
    fn settings_survive_the_way_in_and_out() {
        let (inner, _) = named_settings(&SettingsRequest {
            value_format: Some(Some(ValueFormat::Json)),
            ..SettingsRequest::default()
        });
        assert_eq!(settings(&inner).value_format, ValueFormat::Json);
        assert_eq!(inner, model::TopicSettings { value_format: model::ValueFormat::Json, ..Default::default() });
    }
}
