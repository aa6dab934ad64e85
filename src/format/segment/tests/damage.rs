//! Truncated, flipped, swapped and misnamed bytes.

use super::*;

#[test]
fn every_truncation_is_refused() {
    let object = object(&write(&small()));
    for len in 0..object.len() {
        assert_eq!(verify(ID, &object.slice(..len)).unwrap_err().code(), "corrupt", "{len}");
    }
    let footer_len = Footer::len(&object).unwrap() as usize;
    let footer = object.slice(object.len() - footer_len..);
    for cut in 1..footer.len() {
        assert!(Footer::decode(ID, &footer[cut..]).is_err());
        assert!(Footer::decode(ID, &footer[..cut]).is_err());
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let object = object(&write(&small()));
    for bit in 0..8 * object.len() {
        let mut flipped = object.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(ID, &flipped.into()).unwrap_err().code(), "corrupt", "bit {bit}");
    }
}

#[test]
fn a_flipped_byte_of_a_large_segment_is_refused_by_its_block() {
    let object = object(&write(&large()));
    let footer = footer_of(&object);
    for at in (0..footer.info().footer_start as usize).step_by(70_001) {
        let mut flipped = object.to_vec();
        flipped[at] ^= 0x10;
        let index = (at / BLOCK_BYTES) as u32;
        assert_eq!(payload(&flipped.into(), &footer, index).unwrap_err().code(), "corrupt", "{at}");
    }
}

#[test]
fn a_block_under_another_name_is_refused() {
    let object = object(&write(&large()));
    let block = object.slice(BLOCK_BYTES..2 * BLOCK_BYTES);
    assert!(verify_block(ID, 1, &block).is_ok());
    assert!(verify_block(ID, 2, &block).is_err());
    assert!(verify_block(ObjectId(ID.0 + 1), 1, &block).is_err());
    assert!(verify_block(ID, 1, &Bytes::new()).is_err());
    let footer = object.slice(object.len() - Footer::len(&object).unwrap() as usize..);
    assert!(Footer::decode(ObjectId(ID.0 + 1), &footer).is_err());
    assert!(verify(ObjectId(ID.0 + 1), &object).is_err());
}

#[test]
fn a_footer_of_other_blocks_is_refused() {
    let mut other = small();
    other[0].2.pop();
    let (object, other) = (object(&write(&small())), object(&write(&other)));
    let footer_len = Footer::len(&object).unwrap() as usize;
    let other_footer_len = Footer::len(&other).unwrap() as usize;
    let mixed = [&object[..object.len() - footer_len], &other[other.len() - other_footer_len..]].concat();
    assert!(verify(ID, &mixed.into()).is_err());
}

#[test]
fn an_unknown_version_is_named() {
    let mut object = object(&write(&small())).to_vec();
    let at = object.len() - TRAILER_LEN + 4;
    object[at] = 2;
    let error = Footer::len(&object).unwrap_err();
    assert!(error.message().contains("version 2"), "{error}");
}

/// A footer under a true checksum whose content contradicts itself.
#[test]
fn an_inconsistent_footer_is_refused() {
    type Change = fn(&mut footer::Body);
    let changes: [(&str, Change); 12] = [
        ("no partitions", |body| body.partitions.clear()),
        ("unsorted topics", |body| body.topics.reverse()),
        ("unsorted partitions", |body| body.partitions.swap(0, 1)),
        ("unknown topic", |body| body.topics.truncate(1)),
        ("gap in positions", |body| body.partitions[1].range.position += 1),
        ("empty range", |body| body.partitions[1].range.end = 0),
        ("range beyond all bounds", |body| body.partitions[2].range.len = u64::MAX - 5),
        ("range of a tebibyte", |body| body.partitions[2].range.len = 1 << 40),
        ("index does not begin with the range", |body| body.partitions[0].index[0].offset = 1),
        ("index beyond the range", |body| body.partitions[0].index[1].position = 1 << 30),
        ("index offset beyond the range", |body| body.partitions[0].index[1].offset = 3),
        ("index without the largest timestamp", |body| body.partitions[0].index[0].max_timestamp = 3),
    ];
    let sound = || {
        let mut body = footer_of(&object(&write(&small()))).body;
        let entry = |offset, position| IndexEntry { offset, position, max_timestamp: 30 - offset as i64 };
        body.partitions[0].index = vec![entry(0, 0), entry(2, 90)];
        body
    };
    assert!(Footer::decode(ID, &sound().encode(ID).unwrap()).is_ok());
    for (what, change) in changes {
        let mut body = sound();
        change(&mut body);
        assert!(Footer::decode(ID, &body.encode(ID).unwrap()).is_err(), "{what}");
    }
}

#[test]
fn a_reader_refuses_blocks_that_do_not_keep_the_footers_promise() {
    let object = object(&write(&small()));
    let footer = footer_of(&object);
    let range = *footer.range(partition(1, 0)).unwrap();
    let payload = payload(&object, &footer, 0).unwrap();
    let read = |range, seek, payload: &Bytes| -> Result<Vec<StoredBatch>> {
        let mut reader = FrameReader::new(&range, seek);
        let mut batches = Vec::new();
        reader.feed(payload)?;
        while let Some(batch) = reader.next()? {
            batches.push(batch);
        }
        if reader.needs().is_some() { reader.feed(payload).map(|()| batches) } else { Ok(batches) }
    };
    let seek = Seek { offset: range.start, position: range.position };
    assert_eq!(read(range, seek, &payload).unwrap().len(), 2);
    assert!(read(range, Seek { offset: 6, ..seek }, &payload).is_err());
    assert!(read(range, Seek { position: seek.position + 1, ..seek }, &payload).is_err());
    assert!(read(SegmentRange { end: range.end + 1, ..range }, seek, &payload).is_err());
    assert!(read(SegmentRange { end: range.end - 1, ..range }, seek, &payload).is_err());
    assert!(read(SegmentRange { len: range.len - 1, ..range }, seek, &payload).is_err());
    assert!(read(SegmentRange { len: range.len + 1, ..range }, seek, &payload).is_err());
    assert!(read(range, seek, &payload.slice(..payload.len() / 3)).is_err());
    assert!(read(range, seek, &payload.slice(..10)).is_err());
}
