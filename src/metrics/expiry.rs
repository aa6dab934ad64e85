//! Until when certificates are good: the one of a chain that ends first. Only the time is taken out of a certificate; whether it
//! is believed is for those who use it.

use ::metrics::gauge;

use super::CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS;

const SEQUENCE: u8 = 0x30;
/// `[0]`, the version of a certificate.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Notes the chain that a listener has from now on, as DER; `listener` is a value of the metric's label.
pub fn certificate_in_force<'a>(listener: &'static str, chain: impl IntoIterator<Item = &'a [u8]>) {
    let first_end = chain.into_iter().filter_map(not_after).min();
    #[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
    gauge!(CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS, "listener" => listener).set(first_end.unwrap_or(0) as f64);
}

/// Until when a certificate in DER is good, in seconds since 1970; `None` if it is no certificate.
///
/// `Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version OPTIONAL, serial, signature, issuer, validity SEQUENCE { notBefore,
/// notAfter }, … }, … }`, RFC 5280, section 4.1.
fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = element(der, Some(SEQUENCE))?;
    let (mut rest, _) = element(certificate, Some(SEQUENCE))?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = element(rest, None)?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, rest) = element(rest, None)?;
    }
    let (validity, _) = element(rest, Some(SEQUENCE))?;
    let (_, after) = element(validity, None)?;
    let (text, _) = element(after, None)?;
    time(*after.first()?, text)
}

/// The content of the element at the beginning, which has to be of this kind, and what comes after it.
fn element(der: &[u8], kind: Option<u8>) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    if kind.is_some_and(|kind| kind != found) {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // The bytes of a longer length; certificates are far below 2^32 bytes.
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(len)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; a year of two digits is of 1950 to 2049.
fn time(kind: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (kind, text.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let (month, day, hour, minute, second) = (two(0)?, two(2)?, two(4)?, two(6)?, two(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["node-1.tidelog".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        // Before 2050 as UTCTime, from then on as GeneralizedTime.
        for (date, seconds) in [
            ((2030, 1, 1), 1_893_456_000),
            ((2024, 2, 29), 1_709_164_800),
            ((2024, 3, 1), 1_709_251_200),
            ((2099, 12, 31), 4_102_358_400),
            ((2400, 3, 1), 13_574_649_600),
        ] {
            assert_eq!(not_after(&certificate(date.0, date.1, date.2)), Some(seconds), "{date:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = certificate(2030, 1, 1);
        for len in 0..whole.len() {
            // The time is in front of the key: a cut behind it is noticed by the outer lengths.
            assert_eq!(not_after(&whole[..len]), None, "{len} bytes");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 0xff;
            // It may be another time; it must not be a panic.
            let _ = not_after(&wrong);
        }
        assert_eq!(not_after(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
