#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::{
    ArchiveFile, ArchiveRange, CheckpointRef, Holding, IdempotencyKey, Incarnation, IndexPartRef, JobId, Limits,
    LogStart, NamedSettings, NodeId, ObjectId, PartitionRun, ProducerId, Revision, SegmentInfo, SegmentRange, ShardId,
    Topic, TopicId, TopicSettings,
};

fn partition(n: u32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(0x1234_5678_9abc_def0)), n)
}

fn append(n: u32, batch: &[u8]) -> Append {
    Append {
        partition: partition(n),
        batch: Bytes::copy_from_slice(batch),
        position: 0,
        info: BatchInfo { count: 1 + n, len: batch.len() as u32, max_timestamp: 1_700_000_000_000 },
        triple: (n % 2 == 1).then_some(Triple { id: ProducerId(1 << 40), epoch: 3, sequence: 77 }),
        idempotency: n.is_multiple_of(2).then_some(Keyed {
            key: IdempotencyKey(u128::MAX - 5),
            among: 3,
            begun: n == 2,
        }),
        digest: 0xfeed_0000_0000_0000_0000_0000_0000_beef,
        expected_offset: (n == 1).then_some(300),
    }
}

fn appends() -> LoggedCommand {
    let command = Command::Append(vec![append(0, b"first batch"), append(1, b""), append(2, b"third")]);
    LoggedCommand { log_time: 1_700_000_000_001, command }
}

/// One of each kind, with every optional field set once.
fn controls() -> Vec<Control> {
    let id = TopicId(Uuid::from_u128(9));
    let object = ObjectId::from_parts(1_700_000_000_000, 5);
    let settings = TopicSettings { retention_ms: Some(5), archive_retention_ms: Some(6), ..TopicSettings::default() };
    let info = SegmentInfo { id: object, bytes: 100, footer_start: 70, min_append_time: 1, max_append_time: 2 };
    let range = SegmentRange {
        partition: partition(4),
        start: 10,
        end: 20,
        position: 32,
        len: 400,
        max_timestamp: -1,
        min_append_time: 1,
        max_append_time: 2,
    };
    let file = ArchiveFile {
        id: object,
        topic: id,
        day: 20_000,
        rows: 10,
        bytes: 1000,
        footer_start: 900,
        footer_crc32c: 0xdead_beef,
        min_timestamp: 0,
        max_timestamp: 9,
    };
    let archived = ArchiveRange {
        partition: partition(4),
        start: 10,
        end: 20,
        file: object,
        bytes: 1000,
        max_timestamp: 9,
        min_append_time: 1,
        max_append_time: 2,
    };
    let mut controls = vec![
        Control::CreateTopic {
            id,
            name: "flights".into(),
            settings: settings.clone(),
            named: NamedSettings { partitions: true, ..NamedSettings::default() },
        },
        Control::AlterTopic { id, expected: TopicSettings::default(), settings },
        Control::DeleteTopic { id },
        Control::UndeleteTopic { name: "flights".into() },
        Control::RemoveTopics { ids: vec![id, id] },
        Control::RegisterProducer { name: Some("loader".into()) },
        Control::Flushed {
            previous: 7,
            index: 1 << 40,
            segments: vec![info],
            ranges: vec![vec![range]],
            checkpoint: CheckpointRef { incarnation: Incarnation(1), index: 1 << 40, id: object },
            parts: vec![IndexPartRef { part: 0, id: object, written_at: 7 }],
        },
        Control::ClaimArchive { worker: "w".into(), hold_ms: 5, segments: vec![object] },
        Control::ExtendArchive { job: JobId(3), hold_ms: 6 },
        Control::AbandonArchive { job: JobId(3) },
        Control::Archived { job: JobId(3), files: vec![file], ranges: vec![archived] },
        Control::Trim { starts: vec![LogStart { partition: partition(1), log_start: 99, archive_start: 98 }] },
        Control::Condemn { floor: object },
        Control::SetLimits(Limits::default()),
        Control::Close,
        Control::Reopen { incarnation: Incarnation(2) },
        Control::Tick,
        Control::Unseal,
    ];
    controls.extend(catalog_controls());
    controls
}

/// The same for the commands of a catalog of several shards.
fn catalog_controls() -> Vec<Control> {
    let id = TopicId(Uuid::from_u128(9));
    let revision = Revision { incarnation: Incarnation(2), index: 300 };
    let topic = Topic {
        id,
        name: "flights".into(),
        namespace: "default".into(),
        settings: TopicSettings { partitions: 6, ..TopicSettings::default() },
        created_at: 4,
        deleted_at: Some(5),
    };
    let runs = vec![PartitionRun { first: 2, count: 2 }, PartitionRun { first: 5, count: 1 }];
    let held = vec![Holding { shard: ShardId(1), runs: runs.clone() }];
    vec![
        Control::SetShards { founders: vec![NodeId(1), NodeId(300)] },
        Control::SyncTopic { topic: topic.clone(), removed: true, revision, runs },
        Control::TopicSynced { id, revision },
        Control::RenewTopic { id, revision },
        Control::AdoptTopic { topic, removed: false, held },
        Control::Adopted { incarnation: Incarnation(2) },
        Control::RaiseVersion { version: 2 },
    ]
}

fn control(control: Control) -> LoggedCommand {
    LoggedCommand { log_time: 5, command: Command::Control(control) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn batches_are_slices_of_the_entry_at_their_positions() {
    let encoded = encode(&appends()).unwrap();
    let decoded = decode(&encoded).unwrap();
    let Command::Append(batches) = &decoded.command else { panic!("{decoded:?}") };
    for append in batches {
        let at = append.position as usize;
        assert_eq!(encoded[at..at + append.info.len as usize], append.batch);
        assert!(append.batch.is_empty() || append.batch.as_ptr() == encoded[at..].as_ptr());
    }
    let Command::Append(mut expected) = appends().command else { panic!() };
    for (expected, append) in expected.iter_mut().zip(batches) {
        expected.position = append.position;
    }
    assert_eq!(decoded, LoggedCommand { command: Command::Append(expected), ..appends() });
    assert_eq!(encode(&decoded).unwrap(), encoded);
}

/// The number of each variant in the log. A new one goes at the end, here, in `controls` and in `CONTROL_VARIANTS`.
const fn variant(control: &Control) -> u32 {
    match control {
        Control::CreateTopic { .. } => 0,
        Control::AlterTopic { .. } => 1,
        Control::DeleteTopic { .. } => 2,
        Control::UndeleteTopic { .. } => 3,
        Control::RemoveTopics { .. } => 4,
        Control::RegisterProducer { .. } => 5,
        Control::Flushed { .. } => 6,
        Control::ClaimArchive { .. } => 7,
        Control::ExtendArchive { .. } => 8,
        Control::AbandonArchive { .. } => 9,
        Control::Archived { .. } => 10,
        Control::Trim { .. } => 11,
        Control::Condemn { .. } => 12,
        Control::SetLimits(_) => 13,
        Control::Close => 14,
        Control::Reopen { .. } => 15,
        Control::Tick => 16,
        Control::Unseal => 17,
        Control::SetShards { .. } => 18,
        Control::SyncTopic { .. } => 19,
        Control::TopicSynced { .. } => 20,
        Control::RenewTopic { .. } => 21,
        Control::AdoptTopic { .. } => 22,
        Control::Adopted { .. } => 23,
        Control::RaiseVersion { .. } => 24,
    }
}

#[test]
fn every_control_command_comes_back_under_its_number() {
    assert_eq!(controls().iter().map(variant).collect::<Vec<_>>(), (0..CONTROL_VARIANTS).collect::<Vec<_>>());
    for command in controls() {
        let logged = control(command.clone());
        let encoded = encode(&logged).unwrap();
        assert_eq!(u32::from(encoded[PREFIX_LEN]), variant(&command));
        assert_eq!(decode(&encoded).unwrap(), logged);
    }
}

/// These bytes are in the logs of running nodes: a change needs a new version.
#[test]
fn golden_bytes() {
    assert_eq!(hex(&encode(&appends()).unwrap()), APPENDS);
    for (command, golden) in controls().into_iter().zip(CONTROLS) {
        let encoded = encode(&control(command)).unwrap();
        assert_eq!(hex(&encoded[..PREFIX_LEN]), "01020500000000000000");
        assert_eq!(hex(&encoded[PREFIX_LEN..]), golden);
    }
}

const APPENDS: &str = concat!(
    "01010168e5cf8b010000c500000003100000000000000000123456789abcdef000010b80a0abfef9620001faffffffffffff",
    "ffffffffffffffffffffff030300effd8280808080808080808080808080edfd0300100000000000000000123456789abcde",
    "f001020080a0abfef96201808080808020034d00effd8280808080808080808080808080edfd0301ac021000000000000000",
    "00123456789abcdef002030580a0abfef9620001faffffffffffffffffffffffffffffffffff030301effd82808080808080",
    "80808080808080edfd030066697273742062617463687468697264"
);
/// Each after the ten bytes of version, kind and log time.
const CONTROLS: [&str; CONTROL_VARIANTS as usize] = [
    "00100000000000000000000000000000000907666c696768747301000105000106e0d4030180dddb010100000000000000",
    "0110000000000000000000000000000000090100000000e0d4030180dddb0101000105000106e0d4030180dddb01",
    "021000000000000000000000000000000009",
    "0307666c6967687473",
    "040210000000000000000000000000000000091000000000000000000000000000000009",
    "0501066c6f61646572",
    concat!(
        "06078080808080200185808080808080808080808080adf9e78b03644601020101100000000000000000123456789abc",
        "def0040a142090030101020180808080802085808080808080808080808080adf9e78b03010085808080808080808080",
        "808080adf9e78b0307"
    ),
    "070177050185808080808080808080808080adf9e78b03",
    "080306",
    "0903",
    concat!(
        "0a030185808080808080808080808080adf9e78b031000000000000000000000000000000009a09c010ae8078407effd",
        "b6f50d001201100000000000000000123456789abcdef0040a1485808080808080808080808080adf9e78b03e8071201",
        "02"
    ),
    "0b01100000000000000000123456789abcdef0016362",
    "0c85808080808080808080808080adf9e78b03",
    "0d8088b2a0028020c0cf24c09a0c80b89929",
    "0e",
    "0f02",
    "10",
    "11",
    "120201ac02",
    concat!(
        "13100000000000000000000000000000000907666c69676874730764656661756c740600000000e0d4030180dddb010401",
        "050102ac020202020501"
    ),
    "14100000000000000000000000000000000902ac02",
    "15100000000000000000000000000000000902ac02",
    concat!(
        "16100000000000000000000000000000000907666c69676874730764656661756c740600000000e0d4030180dddb010401",
        "050001010202020501"
    ),
    "1702",
    "1802",
];

#[test]
fn every_truncation_and_addition_is_refused() {
    for logged in controls().into_iter().map(control).chain([appends()]) {
        let encoded = encode(&logged).unwrap();
        for len in 0..encoded.len() {
            assert_eq!(decode(&encoded.slice(..len)).unwrap_err().code(), "corrupt", "{logged:?} at {len}");
        }
        let longer: Bytes = [&encoded[..], &[0]].concat().into();
        assert_eq!(decode(&longer).unwrap_err().code(), "corrupt");
    }
}

/// The Raft log has the checksum; here a flipped bit must only not panic, and not pass for the same command.
#[test]
fn a_flipped_bit_never_passes_for_the_same() {
    for logged in controls().into_iter().map(control).chain([appends()]) {
        let encoded = encode(&logged).unwrap();
        let original = decode(&encoded).unwrap();
        for bit in 0..8 * encoded.len() {
            let mut flipped = encoded.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(decoded) = decode(&flipped.into()) {
                assert_ne!(decoded, original, "bit {bit} of {original:?}");
            }
        }
    }
}

#[test]
fn commands_of_a_newer_build_are_told_apart_from_damage() {
    for (at, value) in [(0, 2), (1, 3), (1, 0)] {
        let mut encoded = encode(&appends()).unwrap().to_vec();
        encoded[at] = value;
        assert_eq!(decode(&encoded.into()).unwrap_err().code(), UNKNOWN_COMMAND);
    }
    // The number of a control command that does not exist yet.
    let mut newer = encode(&control(Control::Tick)).unwrap().to_vec();
    assert_eq!(newer.len(), PREFIX_LEN + 1);
    newer[PREFIX_LEN] = CONTROL_VARIANTS as u8;
    assert_eq!(decode(&newer.into()).unwrap_err().code(), UNKNOWN_COMMAND);
}

#[test]
fn a_batch_with_another_length_than_its_info_is_not_logged() {
    let mut wrong = append(0, b"bytes");
    wrong.info.len += 1;
    let logged = LoggedCommand { log_time: 0, command: Command::Append(vec![wrong]) };
    assert_eq!(encode(&logged).unwrap_err().code(), "internal");
}

proptest! {
    #[test]
    fn any_append(batches in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20), log_time: u64) {
        let appends: Vec<Append> = batches.iter().enumerate().map(|(n, batch)| append(n as u32, batch)).collect();
        let encoded = encode(&LoggedCommand { log_time, command: Command::Append(appends.clone()) }).unwrap();
        let decoded = decode(&encoded).unwrap();
        prop_assert_eq!(decoded.log_time, log_time);
        let Command::Append(decoded) = decoded.command else { panic!() };
        let placeless: Vec<Append> = decoded.into_iter().map(|append| Append { position: 0, ..append }).collect();
        prop_assert_eq!(placeless, appends);
    }

    #[test]
    fn made_up_bytes_never_panic(kind in 1..3u8, bytes: Vec<u8>) {
        let mut entry = vec![VERSION, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        entry.extend(bytes);
        let _ = decode(&entry.into());
    }
}

#[test]
fn a_head_says_all_that_a_command_says_but_the_bytes_of_its_batches() {
    let whole = encode(&appends()).unwrap();
    let short = head(&whole).unwrap();
    assert!(whole.len() - short.len() == "first batch".len() + "third".len());
    let mut expected = decode(&whole).unwrap();
    let Command::Append(batches) = &mut expected.command else { panic!("appends are appends") };
    batches.iter_mut().for_each(|append| append.batch = Bytes::new());
    assert_eq!(decode_head(&short).unwrap(), expected);
    for len in 0..short.len() {
        assert!(decode_head(&short.slice(..len)).is_err(), "{len} bytes");
    }
    assert!(decode_head(&whole).is_err(), "a whole command is no head");
    assert!(head(&whole.slice(..20)).is_err());
    for control in controls().into_iter().map(self::control) {
        let whole = encode(&control).unwrap();
        assert_eq!(head(&whole).unwrap(), whole);
        assert_eq!(decode_head(&whole).unwrap(), control);
    }
}
