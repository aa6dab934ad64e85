//! Pieces of JSON text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use tidelog_api::limits::MAX_JSON_DEPTH;

use crate::parse::depth::deeper_than;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a decimal number.
pub(crate) fn push_u64(out: &mut String, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

/// Appends a decimal number with its sign.
pub(crate) fn push_i64(out: &mut String, number: i64) {
    if number < 0 {
        out.push('-');
    }
    push_u64(out, number.unsigned_abs());
}

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..index]);
        plain = index + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends bytes as a JSON string of base64.
pub(crate) fn push_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// Whether `text` is one JSON value that may stand in a body: valid, and no deeper than readers are promised.
pub(crate) fn is_json(text: &str) -> bool {
    !deeper_than(text.trim_start().as_bytes(), MAX_JSON_DEPTH) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Appends a valid JSON text on one line: outside of strings, where alone they may stand, CR and LF are spaces.
pub(crate) fn push_value(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte == b'\n' || byte == b'\r') {
        out.push_str(&rest[..at]);
        out.push(' ');
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn with(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 99, 1 << 53, u64::MAX] {
            assert_eq!(with(|out| push_u64(out, number)), number.to_string());
        }
        for number in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(with(|out| push_i64(out, number)), number.to_string());
        }
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let text = "{\r\n \"a\\n\" :\n1}";
        assert!(is_json(text));
        assert_eq!(with(|out| push_value(out, text)), "{   \"a\\n\" : 1}");
    }

    #[test]
    fn only_one_whole_bounded_value_is_json() {
        for good in ["1", " {} ", "\"x\"", "null", "[1,{\"a\":[]}]", "1e999"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", " ", "1 2", "{", "tru", "'x'", "{a:1}", "\"\n\"", "01", "\u{feff}1"] {
            assert!(!is_json(bad), "{bad}");
        }
        assert!(!is_json(&format!("\n{}{}", "[".repeat(65), "]".repeat(65))));
    }

    proptest! {
        #[test]
        fn strings_read_back(text: String) {
            let json = with(|out| push_string(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            prop_assert!(!json.contains(['\n', '\r']));
        }
    }
}
