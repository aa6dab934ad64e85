use proptest::prelude::*;

use super::*;

const ALL: Wanted = Wanted { start: 0, end: Offset::MAX, max_records: u64::MAX, max_bytes: u64::MAX };

fn range(start: Offset, end: Offset, place: Place) -> StoredRange {
    let bytes = (end - start) * 10;
    StoredRange { start, end, bytes, max_timestamp: 0, min_append_time: 0, max_append_time: 0, place }
}

fn segment(start: Offset, end: Offset, id: u128) -> StoredRange {
    range(start, end, Place::Segment { id: ObjectId(id), position: 0 })
}

fn archive(start: Offset, end: Offset, id: u128) -> StoredRange {
    range(start, end, Place::Archive { file: ObjectId(id) })
}

fn batch(base_offset: Offset, count: u32) -> TailRef {
    let len = count * 10;
    TailRef { base_offset, count, log_index: base_offset, position: 0, len, max_timestamp: 0, append_time: 0 }
}

/// Two archive files, a segment, and a tail of two batches: offsets 0 to 50.
fn tiers() -> (Vec<StoredRange>, Vec<TailRef>) {
    let stored = vec![archive(0, 10, 1), archive(10, 20, 2), segment(20, 30, 3)];
    (stored, vec![batch(30, 5), batch(35, 15)])
}

fn plan_of(stored: &[StoredRange], tail: &[TailRef], wanted: Wanted) -> Vec<Piece> {
    let stored = stored.iter().filter(|range| range.end > wanted.start).copied();
    plan_over(stored, tail.iter().filter(|batch| batch.end_offset() > wanted.start), wanted)
}

/// Kind, from and to of each piece.
fn outline(wanted: Wanted) -> Vec<(&'static str, Offset, Offset)> {
    let (stored, tail) = tiers();
    let kind = |source: &Source| match source {
        Source::Tail(_) => "tail",
        Source::Segment(_) => "segment",
        Source::Archive(_) => "archive",
    };
    plan_of(&stored, &tail, wanted).iter().map(|piece| (kind(&piece.source), piece.from, piece.to)).collect()
}

#[test]
fn every_tier_gives_what_only_it_has() {
    let all = [("archive", 0, 10), ("archive", 10, 20), ("segment", 20, 30), ("tail", 30, 50)];
    assert_eq!(outline(Wanted { end: 50, ..ALL }), all);
    assert_eq!(outline(Wanted { start: 15, end: 25, ..ALL }), [("archive", 15, 20), ("segment", 20, 25)]);
    assert_eq!(outline(Wanted { start: 29, end: 31, ..ALL }), [("segment", 29, 30), ("tail", 30, 31)]);
    assert_eq!(outline(Wanted { start: 37, end: 50, ..ALL }), [("tail", 37, 50)]);
    assert_eq!(outline(Wanted { start: 10, end: 20, ..ALL }), [("archive", 10, 20)]);
    assert!(outline(Wanted { start: 50, end: 50, ..ALL }).is_empty());
}

#[test]
fn a_plan_ends_where_the_page_is_full_for_certain() {
    let records = |max_records| outline(Wanted { max_records, ..ALL });
    assert_eq!(records(1), [("archive", 0, 1)]);
    assert_eq!(records(0), [("archive", 0, 1)], "at least one record");
    assert_eq!(records(11), [("archive", 0, 10), ("archive", 10, 11)]);
    let bytes = |start, max_bytes| outline(Wanted { start, max_bytes, ..ALL });
    assert_eq!(bytes(0, 1), [("archive", 0, 10)]);
    assert_eq!(bytes(0, 100), [("archive", 0, 10)]);
    assert_eq!(bytes(0, 101), [("archive", 0, 10), ("archive", 10, 20)]);
    assert_eq!(bytes(5, 100), [("archive", 5, 10), ("archive", 10, 20)], "half a range has unknown bytes");
    assert_eq!(bytes(30, 50), [("tail", 30, 35)]);
    assert_eq!(bytes(30, 51), [("tail", 30, 50)]);
}

#[test]
fn budgets_shrink_by_what_is_known_to_come_before() {
    let (stored, tail) = tiers();
    let plan = plan_of(&stored, &tail, Wanted { start: 5, end: 50, max_bytes: 250, ..ALL });
    let budgets: Vec<u64> = plan.iter().map(|piece| piece.budget).collect();
    assert_eq!(budgets, [250, 250, 150, 50]);
}

#[test]
fn a_plan_stops_at_a_gap_and_never_jumps_it() {
    let stored = [segment(0, 10, 1), segment(11, 20, 2)];
    assert_eq!(plan_of(&stored, &[], ALL).last().map(|piece| piece.to), Some(10));
    assert_eq!(plan_of(&stored[..1], &[batch(12, 3)], ALL).last().map(|piece| piece.to), Some(10));
    assert!(plan_of(&stored[1..], &[], ALL).is_empty());
}

/// Contiguous lengths, how many of them are archived and how many stored, and what is wanted.
fn layouts() -> impl Strategy<Value = (Vec<u32>, usize, usize, Wanted)> {
    prop::collection::vec(1..20u32, 1..30).prop_flat_map(|lengths| {
        let (count, total) = (lengths.len(), lengths.iter().map(|len| u64::from(*len)).sum::<u64>());
        (Just(lengths), 0..=count, 0..=count, 0..total, 0..=total, 1..200u64, 1..2_000u64).prop_map(
            |(lengths, a, b, start, end, max_records, max_bytes)| {
                (lengths, a.min(b), a.max(b), Wanted { start, end, max_records, max_bytes })
            },
        )
    })
}

proptest! {
    #[test]
    fn plans_have_no_gap_and_no_overlap_and_are_enough((lengths, archived, stored, wanted) in layouts()) {
        let (mut ranges, mut tail, mut next) = (Vec::new(), Vec::new(), 0);
        for (place, len) in lengths.iter().enumerate() {
            let end = next + u64::from(*len);
            match place {
                place if place < archived => ranges.push(archive(next, end, place as u128)),
                place if place < stored => ranges.push(segment(next, end, place as u128)),
                _ => tail.push(batch(next, *len)),
            }
            next = end;
        }
        let plan = plan_of(&ranges, &tail, wanted);
        let mut at = wanted.start;
        for piece in &plan {
            prop_assert!(piece.from == at && piece.from < piece.to && piece.budget > 0);
            at = piece.to;
        }
        let end = wanted.end.min(wanted.start + wanted.max_records);
        prop_assert_eq!(plan.is_empty(), wanted.start >= wanted.end);
        prop_assert!(plan.is_empty() || at <= end);
        // It ends early only if it surely has the bytes that were asked for: ten for each record here, and a tail batch
        // is read whole.
        let bytes = |piece: &Piece| match &piece.source {
            Source::Tail(refs) => refs.iter().map(|batch| u64::from(batch.len)).sum(),
            _ => (piece.to - piece.from) * 10,
        };
        let sure: u64 = plan.iter().map(bytes).sum();
        prop_assert!(plan.is_empty() || at == end || sure >= wanted.max_bytes);
    }
}
