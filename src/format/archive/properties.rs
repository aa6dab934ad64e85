//! How archive files are encoded: compression, page sizes, statistics, bloom filter.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::schema::column;
use super::{ROW_GROUP_ROWS, VERSION};

/// Rows and bytes of a page: a reader of a thousand records decompresses one or two pages of a column.
const PAGE_ROWS: usize = 4096;
const PAGE_BYTES: usize = 256 << 10;
/// Rows after which the page limits are looked at: bounds a page of large values.
const WRITE_BATCH_ROWS: usize = 256;
/// Of the bloom filter on `key`; the filter is folded to this once its row group is complete.
const FALSE_POSITIVES: f64 = 0.01;

/// Properties of every archive file.
pub(super) fn writer_properties() -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("tidelog version {} (archive {VERSION})", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // Row groups are cut by the writer alone.
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![ascending(column::PARTITION), ascending(column::OFFSET)]))
        .set_column_dictionary_enabled(path(&["value"]), false)
        .set_column_bloom_filter_enabled(path(&["key"]), true)
        .set_column_bloom_filter_fpp(path(&["key"]), FALSE_POSITIVES)
        .set_column_bloom_filter_ndv(path(&["key"]), ROW_GROUP_ROWS as u64);
    for name in ["offset", "timestamp", "append_time", "sequence"] {
        builder = builder
            .set_column_dictionary_enabled(path(&[name]), false)
            .set_column_encoding(path(&[name]), Encoding::DELTA_BINARY_PACKED);
    }
    // Nobody seeks by the order of payloads: a page's smallest and largest would only make the footer larger.
    for column in [path(&["value"]), header("key"), header("value")] {
        builder = builder.set_column_statistics_enabled(column, EnabledStatistics::Chunk);
    }
    builder.build()
}

fn path(parts: &[&str]) -> ColumnPath {
    ColumnPath::new(parts.iter().map(|part| (*part).to_owned()).collect())
}

fn header(field: &str) -> ColumnPath {
    path(&["headers", "list", "element", field])
}

fn ascending(column: usize) -> SortingColumn {
    SortingColumn { column_idx: column as i32, descending: false, nulls_first: false }
}
