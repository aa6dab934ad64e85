//! Varints of seven bits a byte, least significant first, zigzag for signed values: as in Kafka's record format.

/// Appends `value`, zigzag-encoded.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    // Most lengths and deltas fit one byte.
    if rest < 0x80 {
        return out.push(rest as u8);
    }
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`put`] appends for `value`.
pub(super) const fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes a 32-bit value off the front; at most five bytes. `None` if it is malformed or cut off.
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Some(unzigzag(u64::from(*first)) as i32);
    }
    let raw = take_raw(bytes, 5)?;
    u32::try_from(raw).ok().map(|raw| unzigzag(u64::from(raw)) as i32)
}

/// Takes a 64-bit value off the front; at most ten bytes. `None` if it is malformed or cut off.
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    take_raw(bytes, 10).map(unzigzag)
}

fn take_raw(bytes: &mut &[u8], max_len: usize) -> Option<u64> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().take(max_len).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * place as u32;
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return Some(value);
        }
    }
    None
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_those_of_kafka() {
        for (value, expected) in [
            (0i64, &[0u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0xf]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0xf]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn values_that_run_over_their_width_are_refused() {
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None);
        assert_eq!(take_i64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]), None);
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        assert_eq!(take_i64(&mut &[0x80][..]), None);
        assert_eq!(take_i32(&mut &[][..]), None);
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, small: i32) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            put(&mut out, i64::from(small));
            let mut rest = &out[..];
            prop_assert_eq!(take_i64(&mut rest), Some(value));
            prop_assert_eq!(take_i32(&mut rest), Some(small));
            prop_assert!(rest.is_empty());
        }
    }
}
