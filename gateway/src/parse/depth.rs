//! How deep JSON nests, told by a scan of its text: parsers downstream recurse, and ours must not decide for them.

/// Whether arrays and objects of the JSON text nest deeper than `limit`. The text need not be valid.
pub(crate) fn deeper_than(text: &[u8], limit: usize) -> bool {
    if !matches!(text.first(), Some(b'{' | b'[')) {
        // Only structures nest; most values are told by their first byte.
        return false;
    }
    let mut depth = 0usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    false
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_structures_outside_strings() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!deeper_than(nested(64).as_bytes(), 64));
        assert!(deeper_than(nested(65).as_bytes(), 64));
        assert!(!deeper_than(br#"{"a":"[[[[\"[[[","b":[1,{"c":2}]}"#, 3));
        assert!(deeper_than(br#"{"a":"x\\","b":[1,{"c":2}]}"#, 2));
        assert!(!deeper_than(b"\"[[[[[\"", 1));
        assert!(!deeper_than(b"[[]][[]]", 2));
    }
}
