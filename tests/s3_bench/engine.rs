//! The engine's lines with a bucket on S3: the same script, told of another bucket.

use std::path::Path;
use std::process::Command;

use super::place::Place;
use super::support::binary::binary;
use super::support::table::Table;

/// Those in which the bucket has a part, that end within minutes.
const LINES: [&str; 4] = ["lone", "many", "steady", "catchup"];

/// Runs them; what they print is on standard output.
pub(crate) fn engine(table: &mut Table, place: &Place) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bench.sh");
    let mut command = Command::new(script);
    command.args(LINES).env("TIDELOG", binary()).env("SCALE", table.scale().to_string()).env("BUCKET", place.url());
    place.reach(&mut command);
    let status = tokio::task::block_in_place(|| command.status().unwrap());
    match status.code() {
        Some(0) => {}
        Some(1) => table.miss(),
        _ => panic!("tests/bench.sh: {status}"),
    }
}
