//! Random histories of appends, flushes, archivals and trims, against the list of what was written.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u32, Vec<i64>)>),
    Flush,
    Archive,
    /// A share of what is readable.
    Trim(u32, u8),
    NextDay,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = (0..2u32, prop::collection::vec(0..50i64, 1..6));
    let step = prop_oneof![
        6 => prop::collection::vec(batch, 1..4).prop_map(Step::Append),
        3 => Just(Step::Flush),
        2 => Just(Step::Archive),
        1 => (0..2u32, any::<u8>()).prop_map(|(partition, share)| Step::Trim(partition, share)),
        1 => Just(Step::NextDay),
    ];
    prop::collection::vec(step, 1..25)
}

async fn run(world: &mut World, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Append(batches) => {
                let records = |timestamps: &Vec<i64>| timestamps.iter().map(|at| record(*at, "v")).collect::<Vec<_>>();
                let batches: Vec<_> =
                    batches.iter().map(|(partition, timestamps)| (*partition, records(timestamps))).collect();
                world.append(&batches);
            }
            Step::Flush => world.flush().await,
            Step::Archive => world.archive().await,
            Step::Trim(partition, share) => {
                let bounds = world.shard.state().partition(world.partition(partition)).unwrap().bounds();
                let readable = bounds.high_watermark - bounds.log_start;
                world.trim(partition, bounds.log_start + readable * u64::from(share) / 512);
            }
            Step::NextDay => world.log_time += 86_400_000,
        }
    }
}

async fn check(world: &World, (max_records, max_bytes, timestamp): (usize, usize, i64)) {
    for partition in 0..2 {
        let written = &world.written[partition as usize];
        let bounds = world.shard.state().partition(world.partition(partition)).unwrap().bounds();
        let (start, end) = (bounds.log_start as usize, bounds.high_watermark as usize);
        assert_eq!(end, written.len());
        // Page by page, everything once and in order.
        let (mut next, mut read) = (bounds.log_start, Vec::new());
        while next < bounds.high_watermark {
            let from = FetchFrom::Offset(next);
            let page = world.fetch(&FetchRequest { max_records, max_bytes, ..world.request(partition, from) }).await;
            let page = page.unwrap();
            assert!(page.next_offset > next && page.next_offset <= next + max_records as u64);
            read.extend(super::super::records(&page).unwrap());
            next = page.next_offset;
        }
        assert_eq!(read, written[start..]);
        // From every offset, to the end.
        for from in start..end {
            assert_eq!(world.records(partition, FetchFrom::Offset(from as u64)).await, written[from..]);
        }
        let found = world.fetch(&world.request(partition, FetchFrom::Timestamp(timestamp))).await.unwrap();
        let expected = written[start..].iter().find(|stored| stored.record.timestamp >= timestamp);
        assert_eq!(found.start, expected.map_or(bounds.high_watermark, |stored| stored.offset));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pages_are_what_was_written(
        steps in steps(), max_records in 1..20usize, max_bytes in 1..400usize, timestamp in 0..52i64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            run(&mut world, steps).await;
            check(&world, (max_records, max_bytes, timestamp)).await;
        });
    }
}
