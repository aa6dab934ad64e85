//! Bytes that must never change, and bytes of others.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// [`odd_records`] under [`TRIPLE`]; the fields of the header apart.
const PLAIN: &str = "
    00000000000000000000007c00000000024ab8503a0000000000040000018bcfe568000000018bcfe5687c00000100000000
    0700037ffffffe000000053a000000026b086e756c6c0a0262023102610102620002620231000400ff0c0001020101000e00
    f601040000001c00ff9fabfef9620606ffffff01001c00f80108010e6772c3bcc39f6500";

const ZSTD: &str = "
    00000000000000000000004f0000000002ecfabacd00040000000000000000000000070000000000000007ffffffffffffff
    ffffffffffffff0000000128b52ffd20d2ad000070a003000000026b900374696465000100c129f705";

/// From the documentation of kafka-protocol: what is left of a batch of four after compaction.
const COMPACTED: &str = "
    0000000000000000 00000043 00000000 02 736d297b 0000 00000003 0000000000000000
    0000010000000000 0000000000000000 0000 00000000 00000001 2201d00f020a68656c6c6f0a776f726c6400";

#[test]
fn an_uncompressed_batch() {
    let batch = encode(&odd_records(), Compression::None, Some(TRIPLE)).unwrap();
    assert_eq!(hex(&batch.bytes), hex(&unhex(PLAIN)));
}

/// The bytes of a compressed batch depend on the version of zstd; that they are read does not.
#[test]
fn a_compressed_batch() {
    let records = vec![record(7, Some(b"k"), Some("tide".repeat(50).as_bytes()))];
    let now = encode(&records, Compression::Zstd, None).unwrap();
    let then = EncodedBatch { bytes: unhex(ZSTD), info: now.info };
    assert_eq!(header(&then.bytes).unwrap().codec, Codec::Zstd, "now: {}", hex(&now.bytes));
    let decoded = decode(&stored(&then)).unwrap();
    assert_eq!(decoded.into_iter().map(|decoded| decoded.record).collect::<Vec<_>>(), records);
}

#[test]
fn a_compacted_batch_of_kafka_has_the_crc_we_compute_and_is_refused() {
    let batch = unhex(COMPACTED);
    assert_eq!(super::super::header::crc_of(&batch).to_be_bytes(), batch[17..21]);
    let error = check(&batch, None, &CheckLimits::default()).unwrap_err();
    assert_eq!(error.message(), "lastOffsetDelta is 3, expected 0");
}
