//! Heads and bodies as bytes: golden ones, damaged ones, and cut in every way.

use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::*;
use crate::peer::failure::Failure;
use crate::peer::frame::{FrameError, Parts, Reader};
use crate::peer::head::{AnswerHead, BodyHead, End, MAX_ANSWER_HEAD, MAX_REQUEST_HEAD, RequestHead, encode};

fn request_head() -> RequestHead {
    RequestHead {
        cluster: "c1".to_owned(),
        incarnation: Incarnation(4),
        from: End { node: NodeId(1), directory: Uuid::from_u128(0x11) },
        to: End { node: NodeId(300), directory: Uuid::from_u128(0x22) },
        shard: ShardId(7),
        kind: 6,
        deadline_ms: 1_500,
        body: BodyHead { bytes: 1 << 20, checksum: 0xdead_beef },
    }
}

fn answer_head() -> AnswerHead {
    AnswerHead { refused: true, failure: Some(Failure::from(&failure())), body: BodyHead { bytes: 0, checksum: 0 } }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn heads_have_the_documented_bytes() {
    let request = encode(&request_head(), MAX_REQUEST_HEAD).unwrap();
    assert_eq!(hex(&request), GOLDEN_REQUEST);
    let answer = encode(&answer_head(), MAX_ANSWER_HEAD).unwrap();
    assert_eq!(hex(&answer), GOLDEN_ANSWER);
}

const GOLDEN_REQUEST: &str = concat!(
    "010035003e3fc64b",
    "026331",
    "04",
    "011000000000000000000000000000000011",
    "ac021000000000000000000000000000000022",
    "07",
    "06",
    "dc0b",
    "808040effdb6f50d",
);
const GOLDEN_ANSWER: &str = concat!(
    "010048007d3fba45",
    "01",
    "01",
    "0602",
    "0a6f7665726c6f61646564",
    "0f746865206c6f672069732066756c6c",
    "02066275646765740",
    "00a05636175736501066120646973",
    "6b",
    "010d6e6f207370616365206c656674",
    "0000",
);

/// A reader of `bytes` in pieces that end at `cuts`.
fn reader(bytes: &[u8], cuts: &[usize]) -> Reader<impl http_body::Body<Data = Bytes, Error = std::io::Error> + Unpin> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    let pieces: Vec<_> =
        cuts.windows(2).map(|pair| Ok(Frame::data(Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])))).collect();
    Reader::new(StreamBody::new(stream::iter(pieces)))
}

fn read(bytes: &[u8], cuts: &[usize]) -> Result<(RequestHead, Bytes), FrameError> {
    let mut reader = reader(bytes, cuts);
    let read = async {
        let head: RequestHead = reader.head(MAX_REQUEST_HEAD).await?;
        assert!(head.body.bytes <= 1 << 20, "a damaged head passed");
        let body = reader.rest(head.body).await?;
        Ok((head, body))
    };
    read.now_or_never().unwrap()
}

fn message(body: &[u8]) -> Vec<u8> {
    let head = RequestHead { body: BodyHead::of(&[Bytes::copy_from_slice(body)]), ..request_head() };
    [&encode(&head, MAX_REQUEST_HEAD).unwrap()[..], body].concat()
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let message = message(b"the body of a request");
    assert_eq!(read(&message, &[]).unwrap().1, "the body of a request");
    for length in 0..message.len() {
        assert!(matches!(read(&message[..length], &[9, 30]), Err(FrameError::Length)), "{length} bytes passed");
    }
    for bit in 0..message.len() * 8 {
        let mut damaged = message.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&damaged, &[3, 80]).is_err(), "bit {bit} passed");
    }
    assert!(matches!(read(&[&message[..], b"x"].concat(), &[]), Err(FrameError::Length)));
}

#[test]
fn a_head_beyond_its_bound_is_neither_made_nor_read() {
    let head = RequestHead { cluster: "c".repeat(MAX_REQUEST_HEAD), ..request_head() };
    assert!(encode(&head, MAX_REQUEST_HEAD).is_none());
    let large = encode(&head, MAX_ANSWER_HEAD).unwrap();
    assert!(matches!(read(&large, &[]), Err(FrameError::Head)));
}

#[test]
fn small_parts_are_joined_and_large_ones_are_not_copied() {
    let large = Bytes::from(vec![1; 100_000]);
    let small = Bytes::from(vec![2; 100]);
    let parts = Parts::new(small.clone(), [small.clone(), large.clone(), small.clone(), Bytes::new(), small]);
    let pieces = pieces(parts);
    assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [200, 100_000, 200]);
    assert_eq!(pieces[1].as_ptr(), large.as_ptr());
}

fn pieces(mut parts: Parts) -> Vec<Bytes> {
    use http_body_util::BodyExt as _;
    let mut pieces = Vec::new();
    while let Some(frame) = parts.frame().now_or_never().unwrap() {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    pieces
}

proptest! {
    #[test]
    fn a_message_is_read_however_it_is_cut(
        body in proptest::collection::vec(any::<u8>(), 0..20_000),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let (head, read) = read(&message(&body), &cuts).unwrap();
        prop_assert_eq!(read, &body[..]);
        prop_assert_eq!(RequestHead { body: request_head().body, ..head }, request_head());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes, &[]).is_err());
        // A valid prefix and checksum before anything at all: the decoder itself has to hold.
        let mut forged = vec![1, 0];
        forged.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_le_bytes());
        forged.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        forged.extend_from_slice(&bytes);
        let _ = reader(&forged, &[]).head::<RequestHead>(MAX_REQUEST_HEAD).now_or_never().unwrap();
        let _ = reader(&forged, &[]).head::<AnswerHead>(MAX_ANSWER_HEAD).now_or_never().unwrap();
    }

    #[test]
    fn parts_keep_their_bytes_and_say_how_many(lengths in proptest::collection::vec(0usize..10_000, 0..40)) {
        use http_body::Body as _;
        let parts: Vec<_> = lengths.iter().map(|length| Bytes::from(vec![*length as u8; *length])).collect();
        let all = [&b"head"[..], &parts.concat()].concat();
        let body = Parts::new(Bytes::from_static(b"head"), parts);
        prop_assert_eq!(body.size_hint().exact(), Some(all.len() as u64));
        prop_assert_eq!(pieces(body).concat(), all);
    }
}
