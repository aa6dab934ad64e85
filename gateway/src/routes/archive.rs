//! The listing of a topic's archive files.

use axum::response::Response;
use http::StatusCode;
use tidelog::model;
use tidelog_api::archive::{ArchiveFile, ArchiveListing, ArchivedPartition, ArchivedRange};
use tidelog_api::{ErrorBody, limits};

use super::call::Call;
use super::json;
use crate::error::{ApiError, Result};
use crate::params::TopicName;

/// List a topic's Parquet files
#[utoipa::path(get, path = "/v1/topics/{topic}/archive", tag = "archive",
    params(("topic" = String, Path), ("topic_id" = Option<String>, Query), ("limit" = Option<usize>, Query),
        ("start_after" = Option<String>, Query, description = "A key: go on after it"),
        ("min_timestamp" = Option<i64>, Query, description = "Only files with a record at or after it")),
    responses((status = 200, body = ArchiveListing), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(TopicName(name): TopicName, mut call: Call) -> Result<Response> {
    let topic_id = call.params.topic_id()?;
    let limit = call.params.at_most("limit", limits::DEFAULT_LIST_LIMIT, limits::MAX_LIST_LIMIT)?;
    let start_after = call.params.text("start_after").unwrap_or_default();
    let min_timestamp = call.params.timestamp("min_timestamp")?;
    let app = call.finish()?;
    let listing = app.queue().archive_files(&name, topic_id, &start_after, limit, min_timestamp).await;
    json(StatusCode::OK, &body(listing.map_err(|error| ApiError::from(error).about_topic(&name))?))
}

fn body(listing: model::ArchiveListing) -> ArchiveListing {
    let range = |(partition, start, end): (u32, u64, u64)| ArchivedRange { partition, start, end };
    let file = |listed: model::ListedFile| ArchiveFile {
        key: listed.key,
        url: listed.url,
        rows: listed.file.rows,
        bytes: listed.file.bytes,
        partitions: listed.partitions.into_iter().map(range).collect(),
        min_timestamp: listed.file.min_timestamp,
        max_timestamp: listed.file.max_timestamp,
    };
    let archived = |(partition, (archive_start_offset, archived_offset))| ArchivedPartition {
        partition,
        archive_start_offset,
        archived_offset,
    };
    ArchiveListing {
        files: listing.files.into_iter().map(file).collect(),
        has_more: listing.has_more,
        archived: (0..).zip(listing.archived).map(archived).collect(),
        valid_until_ms: listing.valid_until_ms,
    }
}
