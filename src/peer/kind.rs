//! Names of the kinds of calls for metrics; nothing else depends on them.

/// The name under which a kind is counted.
pub(super) const fn name(kind: u8) -> &'static str {
    match kind {
        0 => "hello",
        1 => "append",
        2 => "vote",
        3 => "pre_vote",
        4 => "snapshot",
        5 => "transfer",
        6 => "propose",
        7 => "read_index",
        8 => "checkpoint_files",
        9 => "status",
        10 => "follow",
        11 => "read_entries",
        15 => "lost",
        32 => "flush",
        33 => "admin",
        34 => "archive",
        35 => "profile",
        36 => "archive_requests",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::name;
    use crate::metrics::{PEER_CALLS, TABLE};

    #[test]
    fn every_name_is_registered_at_start_and_no_other() {
        let metric = TABLE.iter().find(|metric| metric.name == PEER_CALLS);
        let registered = metric.into_iter().flat_map(|metric| metric.labels).find(|(label, _)| *label == "kind");
        let mut registered = registered.map(|(_, values)| values.to_vec()).unwrap_or_default();
        let mut named: Vec<_> = (0..=u8::MAX).map(name).collect();
        for names in [&mut registered, &mut named] {
            names.sort_unstable();
            names.dedup();
        }
        assert_eq!(registered, named);
    }
}
