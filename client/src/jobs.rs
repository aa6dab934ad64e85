//! Archive jobs, for a compactor that runs alone.
