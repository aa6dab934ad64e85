#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::io::Write as _;

use axum::body::Body;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::StreamBody;

use super::*;

fn limits(max_body: u64) -> BodyLimits {
    BodyLimits::new(max_body, 1 << 20, Duration::from_secs(5))
}

/// A body that arrives in pieces of `piece` bytes.
fn pieces(bytes: Vec<u8>, piece: usize) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(piece).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk))).collect();
    Body::from_stream(futures::stream::iter(chunks))
}

fn encoding(name: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(name))])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

async fn collect(headers: &HeaderMap, body: Body, max: u64) -> Result<Bytes> {
    limits(max).read(headers, body).await?.collect().await.map(|(bytes, _)| bytes)
}

fn sample() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| n.to_le_bytes()[..2].to_vec()).collect()
}

#[tokio::test]
async fn compressed_bodies_arrive_whole_however_they_are_cut() {
    let plain = sample();
    for piece in [1_000, 7, 1 << 20] {
        for (name, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain)), ("identity", plain.clone())] {
            let got = collect(&encoding(name), pieces(packed, piece), 1 << 20).await.unwrap();
            assert!(got == plain, "{name} in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn packed_bodies_are_charged_before_they_are_expanded() {
    let plain = vec![0; 2 << 20];
    for (name, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
        assert!(packed.len() < 16 << 10, "{name}");
        let limits = limits(4 << 20);
        let mut reader = limits.read(&encoding(name), Body::from(packed)).await.unwrap();
        let mut given = 0;
        while let Some(chunk) = reader.next().await.unwrap() {
            assert!(chunk.len() as u64 <= STEP, "{name} gave {} bytes at once", chunk.len());
            given += chunk.len() as u64;
            assert!((given..=given + STEP + UNIT).contains(&reader.charged()), "{name}");
        }
        assert_eq!(given, 2 << 20);
        let admitted = reader.into_admitted();
        assert_eq!(admitted._permit.num_permits() as u64 * UNIT, given, "nothing ahead is kept");
    }
}

#[tokio::test]
async fn a_packed_body_is_refused_before_it_is_larger_than_the_budget() {
    for (name, packed) in [("gzip", gzip(&[0; 1 << 20])), ("zstd", zstd(&[0; 1 << 20]))] {
        let mut limits = limits(1 << 20);
        limits.admission_wait = Duration::from_millis(1);
        let other = limits.read(&HeaderMap::new(), pieces(vec![0; 900 << 10], 1 << 10)).await.unwrap();
        let (_, other) = other.collect().await.unwrap();
        let mut reader = limits.read(&encoding(name), Body::from(packed.clone())).await.unwrap();
        let mut given = 0;
        let error = loop {
            match reader.next().await {
                Ok(chunk) => given += chunk.unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), ErrorCode::Overloaded);
        assert!(given <= 124 << 10, "{name} gave {given}");
        drop((reader, other));
        // Alone it has the whole budget.
        let reader = limits.read(&encoding(name), Body::from(packed)).await.unwrap();
        assert_eq!(reader.collect().await.unwrap().0.len(), 1 << 20);
    }
}

#[tokio::test]
async fn packed_bodies_that_end_with_a_step_are_whole() {
    let step = usize::try_from(STEP).unwrap();
    for len in [step - 1, step, step + 1, 2 * step, 3 * step + 1] {
        let plain: Vec<u8> = (0..len).map(|at| (at / 100).to_le_bytes()[0]).collect();
        for (name, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
            for piece in [packed.len(), 100] {
                let got = collect(&encoding(name), pieces(packed.clone(), piece), len as u64).await.unwrap();
                assert!(got == plain, "{name} of {len} in pieces of {piece}");
                let less = collect(&encoding(name), pieces(packed.clone(), piece), len as u64 - 1).await;
                assert_eq!(less.unwrap_err().code(), ErrorCode::BodyTooLarge, "{name} of {len}");
            }
        }
    }
}

#[tokio::test]
async fn joined_members_and_frames_are_one_body() {
    let (mut members, mut frames) = (gzip(b"one"), zstd(b"one"));
    members.extend(gzip(b"two"));
    frames.extend(zstd(b"two"));
    assert_eq!(collect(&encoding("gzip"), members.into(), 100).await.unwrap(), "onetwo");
    assert_eq!(collect(&encoding("zstd"), frames.into(), 100).await.unwrap(), "onetwo");
}

/// What ends a body of HTTP/2 or HTTP/3 may be an empty frame, or trailers; either may also be anywhere before.
#[tokio::test]
async fn empty_frames_and_trailers_change_no_body() {
    let plain = sample();
    for (name, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain)), ("identity", plain.clone())] {
        let data = |bytes: &[u8]| Frame::data(Bytes::copy_from_slice(bytes));
        let half = packed.len() / 2;
        let nothing = || std::iter::repeat_with(|| Frame::data(Bytes::new()));
        let mut frames: Vec<Frame<Bytes>> = nothing().take(40).chain([data(&packed[..half])]).collect();
        frames.extend(nothing().take(40).chain([data(&packed[half..])]).chain(nothing().take(40)));
        let trailed = [data(&packed), Frame::trailers(HeaderMap::new())];
        for frames in [frames, vec![data(&packed), data(&[])], trailed.into()] {
            let body = Body::new(StreamBody::new(futures::stream::iter(frames.into_iter().map(Ok::<_, Infallible>))));
            assert!(collect(&encoding(name), body, 1 << 20).await.unwrap() == plain, "{name}");
        }
    }
}

#[tokio::test]
async fn truncated_and_damaged_bodies_are_refused() {
    for (name, packed) in [("gzip", gzip(&sample())), ("zstd", zstd(&sample()))] {
        for cut in [0, 1, 5, packed.len() / 2, packed.len() - 1] {
            let error = collect(&encoding(name), packed[..cut].to_vec().into(), 1 << 20).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidBody, "{name} cut at {cut}");
        }
        let mut damaged = packed.clone();
        damaged[0] ^= 1;
        assert!(collect(&encoding(name), damaged.into(), 1 << 20).await.is_err());
    }
}

#[tokio::test]
async fn size_is_bounded_as_sent_and_decompressed() {
    let bomb = vec![0u8; 4 << 20];
    for (name, packed) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        let error = collect(&encoding(name), packed.into(), 1 << 16).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BodyTooLarge, "{name}");
    }
    let exact = collect(&encoding("zstd"), zstd(&[7; 5_000]).into(), 5_000).await;
    assert_eq!(exact.unwrap().len(), 5_000);
    assert_eq!(collect(&encoding("gzip"), gzip(&[7; 5_000]).into(), 5_000).await.unwrap().len(), 5_000);
    let error = collect(&HeaderMap::new(), pieces(vec![0; 5_001], 100), 5_000).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BodyTooLarge);
    let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(5_001))]);
    assert_eq!(collect(&announced, Body::empty(), 5_000).await.unwrap_err().code(), ErrorCode::BodyTooLarge);
}

#[tokio::test]
async fn unknown_encodings_and_broken_transfers_are_refused() {
    let error = collect(&encoding("br"), Body::empty(), 10).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsupportedEncoding);
    let broken = [Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("reset"))];
    let body = Body::from_stream(futures::stream::iter(broken));
    assert_eq!(collect(&HeaderMap::new(), body, 10).await.unwrap_err().code(), ErrorCode::InvalidBody);
}

#[tokio::test]
async fn a_stalled_body_times_out() {
    let limits = BodyLimits::new(10, 1 << 20, Duration::from_millis(1));
    let body = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
    let reader = limits.read(&HeaderMap::new(), body).await.unwrap();
    assert_eq!(reader.collect().await.unwrap_err().code(), ErrorCode::RequestTimeout);
}

#[tokio::test]
async fn all_bodies_share_one_budget() {
    let mut limits = BodyLimits::new(STEP, STEP, Duration::from_secs(5));
    limits.admission_wait = Duration::from_millis(1);
    let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(STEP))]);
    let first = limits.read(&announced, Body::empty()).await.unwrap();
    let error = limits.read(&announced, Body::empty()).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::Overloaded);
    // What was not announced is charged as it arrives.
    let chunked = limits.read(&HeaderMap::new(), pieces(vec![0; 10], 10)).await.unwrap();
    assert_eq!(chunked.collect().await.unwrap_err().code(), ErrorCode::Overloaded);
    drop(first);
    assert!(limits.read(&announced, Body::empty()).await.is_ok());
}

#[tokio::test]
async fn a_body_is_charged_for_what_has_arrived() {
    let mut limits = BodyLimits::new(8 << 20, 8 << 20, Duration::from_secs(5));
    limits.admission_wait = Duration::from_millis(1);
    let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(8 << 20))]);
    let mut slow = Vec::new();
    for _ in 0..4 {
        let body = futures::StreamExt::chain(
            futures::stream::iter([Ok(Bytes::from_static(b"a little"))]),
            futures::stream::pending::<std::io::Result<Bytes>>(),
        );
        let mut reader = limits.read(&announced, Body::from_stream(body)).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "a little");
        slow.push(reader);
    }
    let whole = limits.read(&HeaderMap::new(), pieces(vec![0; 4 << 20], 1 << 16)).await.unwrap();
    assert_eq!(whole.collect().await.unwrap().0.len(), 4 << 20, "others are not held up");
    let over = limits.read(&announced, pieces(vec![0; 8 << 20], 1 << 16)).await.unwrap();
    assert_eq!(over.collect().await.unwrap_err().code(), ErrorCode::Overloaded);
}

#[tokio::test]
async fn a_body_that_trickles_times_out() {
    let limits = BodyLimits::new(1 << 20, 1 << 20, Duration::from_millis(50));
    let trickle = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
    });
    let reader = limits.read(&HeaderMap::new(), Body::from_stream(trickle)).await.unwrap();
    assert_eq!(reader.collect().await.unwrap_err().code(), ErrorCode::RequestTimeout);
}
