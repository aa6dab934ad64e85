//! Bytes that must never change.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_small_segment() {
    let segment = write(&vec![(1, 0, vec![batch_of(5, &[10, 30], 3)]), (2, 1, vec![batch_of(0, &[40], 0)])]);
    let object = object(&segment);
    let (blocks, footer) = object.split_at(segment.info.footer_start as usize);
    assert_eq!(hex(blocks), BLOCKS.concat());
    assert_eq!(hex(footer), FOOTER.concat());
}

const BLOCKS: [&str; 8] = [
    // magic, version, id
    "544944454c5345470100000000000000018bcfe5680000000000000000000abc",
    // frame of two records
    "0500000000000000ed0300000000000051000000",
    "00000000000000000000004500000000026edb650f000000000001000000000000000a000000000000001effffffffffffffffff",
    "ffffffffff000000021200000001060505050012002802010605050500",
    // frame of one record
    "0000000000000000e80300000000000044000000",
    "0000000000000000000000380000000002f9eb38bc00000000000000000000000000280000000000000028ffffffffffffffffff",
    "ffffffffff000000010c000000010000",
    // CRC-32C
    "8afd6538",
];

const FOOTER: [&str; 7] = [
    // append times; two topics
    "e807ed0702",
    // id, namespace, name, settings, creation
    "10000000000000000000000000000000010764656661756c7407746f7069632d310100000000e0d4030180dddb0101",
    "10000000000000000000000000000000020764656661756c7407746f7069632d320100000000e0d4030180dddb0101",
    // two ranges, each with the length of its index
    "02",
    "100000000000000000000000000000000100050720653ced07ed0700",
    "100000000000000000000000000000000201000185015850e807e80700",
    // length, version, CRC-32C, magic
    "9d000000010000002e3211b8544944454c465452",
];
