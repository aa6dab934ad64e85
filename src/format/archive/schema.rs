//! The columns of an archive file, as Parquet's message type and as Arrow's schema.
//!
//! Field ids are fixed for ever, nested ones too: table formats such as Iceberg map columns by them. A column that is
//! added gets the next free id.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::errors::ParquetError;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

use crate::model::ValueFormat;

/// Positions of the top-level columns.
pub(super) mod column {
    pub(crate) const PARTITION: usize = 0;
    pub(crate) const OFFSET: usize = 1;
    pub(crate) const TIMESTAMP: usize = 2;
    pub(crate) const APPEND_TIME: usize = 3;
    pub(crate) const KEY: usize = 4;
    pub(crate) const VALUE: usize = 5;
    pub(crate) const HEADERS: usize = 6;
    pub(crate) const PRODUCER_ID: usize = 7;
    pub(crate) const PRODUCER_EPOCH: usize = 8;
    pub(crate) const SEQUENCE: usize = 9;
    pub(crate) const COUNT: usize = 11;
}

/// Whether values of `format` are archived as strings.
pub(super) fn is_text(format: ValueFormat) -> bool {
    matches!(format, ValueFormat::Text | ValueFormat::Json)
}

/// The Parquet schema. `leader_epoch` is reserved: null in every file of this version.
pub(super) fn parquet_schema(text: bool) -> Result<SchemaDescriptor, ParquetError> {
    let value = if text { "optional binary value (STRING) = 6;" } else { "optional binary value = 6;" };
    let message = format!(
        "message record {{
            required int32 partition = 1;
            required int64 offset = 2;
            required int64 timestamp (TIMESTAMP(MILLIS,true)) = 3;
            required int64 append_time (TIMESTAMP(MILLIS,true)) = 4;
            optional binary key = 5;
            {value}
            required group headers (LIST) = 7 {{
                repeated group list {{
                    required group element = 12 {{
                        required binary key (STRING) = 13;
                        optional binary value = 14;
                    }}
                }}
            }}
            optional int64 producer_id = 8;
            optional int32 producer_epoch = 9;
            optional int32 sequence = 10;
            optional int32 leader_epoch = 11;
        }}"
    );
    Ok(SchemaDescriptor::new(Arc::new(parse_message_type(&message)?)))
}

/// The fields of one header.
pub(super) fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

/// The one element field of the list of headers.
pub(super) fn header_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(header_fields()), false))
}

/// The Arrow schema whose leaves are the columns of [`parquet_schema`].
pub(super) fn arrow_schema(text: bool) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", time.clone(), false),
        Field::new("append_time", time, false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", if text { DataType::Utf8 } else { DataType::Binary }, true),
        Field::new("headers", DataType::List(header_element()), false),
        Field::new("producer_id", DataType::Int64, true),
        Field::new("producer_epoch", DataType::Int32, true),
        Field::new("sequence", DataType::Int32, true),
        Field::new("leader_epoch", DataType::Int32, true),
    ]))
}
