//! PostgreSQL's binary form of `numeric`: digits to the base 10,000 (`numeric_send` in `numeric.c`).

use bytes::{BufMut as _, BytesMut};

const BASE: u128 = 10_000;
const BASE_DIGITS: usize = 4;
const NEGATIVE: u16 = 0x4000;

/// Writes a number that is `value` divided by ten to the power of `scale`.
pub(crate) fn put(value: i128, scale: u8, out: &mut BytesMut) {
    let scale = usize::from(scale);
    let missing = (BASE_DIGITS - scale % BASE_DIGITS) % BASE_DIGITS;
    let fraction_groups = (scale + missing) / BASE_DIGITS;
    // Up to 39 digits, and three more.
    let text = format!("{}{}", value.unsigned_abs(), "0".repeat(missing));
    let lead = (BASE_DIGITS - text.len() % BASE_DIGITS) % BASE_DIGITS;
    let text = format!("{}{text}", "0".repeat(lead));
    let mut groups: Vec<u16> = text.as_bytes().chunks(BASE_DIGITS).map(group).collect();
    let mut weight =
        i64::try_from(groups.len()).unwrap_or(0) - i64::try_from(fraction_groups).unwrap_or(0) - 1;
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight -= i64::try_from(zeros).unwrap_or(0);
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.put_u16(u16::try_from(groups.len()).unwrap_or(0));
    out.put_i16(i16::try_from(weight).unwrap_or(0));
    out.put_u16(if value < 0 { NEGATIVE } else { 0 });
    out.put_u16(u16::try_from(scale).unwrap_or(0));
    groups.iter().for_each(|group| out.put_u16(*group));
}

fn group(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |group, digit| group * 10 + u16::from(digit - b'0'))
}

/// The text of a number in binary form; `None` when it is malformed, NaN or infinite.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let (words, []) = bytes.as_chunks::<2>() else { return None };
    let [count, weight, sign, scale, groups @ ..] = words else { return None };
    let (count, scale) = (u16::from_be_bytes(*count), u16::from_be_bytes(*scale));
    let (weight, sign) = (i16::from_be_bytes(*weight), u16::from_be_bytes(*sign));
    let groups: Vec<u16> = groups.iter().map(|group| u16::from_be_bytes(*group)).collect();
    let known = sign == 0 || sign == NEGATIVE;
    if groups.len() != usize::from(count)
        || !known
        || groups.iter().any(|group| u128::from(*group) >= BASE)
        || scale > 0x3FFF
    {
        return None;
    }
    let at = |place: i32| {
        let place = usize::try_from(i32::from(weight) - place).ok();
        place.and_then(|place| groups.get(place)).copied().unwrap_or(0)
    };
    let mut out = String::new();
    if sign == NEGATIVE {
        out.push('-');
    }
    for place in (0..=i32::from(weight).max(0)).rev() {
        out.push_str(&format!("{:04}", at(place)));
    }
    if scale > 0 {
        out.push('.');
        let groups = i32::from(scale.div_ceil(4));
        let fraction: String = (1..=groups).map(|place| format!("{:04}", at(-place))).collect();
        out.push_str(&fraction[..usize::from(scale)]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forms that PostgreSQL 16 sends.
    #[test]
    fn numbers_have_the_form_of_postgresql() {
        let cases: [(i128, u8, &str, &str); 7] = [
            (0, 0, "0000000000000000", "0"),
            (0, 2, "0000000000000002", "0.00"),
            (1, 0, "00010000000000000001", "1"),
            (-1_050, 2, "0002000040000002000a1388", "-10.50"),
            (123_456_789, 4, "000300010000000400010929", "12345.6789"),
            (1, 6, "0001fffe000000060064", "0.000001"),
            (10_000, 0, "00010001000000000001", "10000"),
        ];
        for (value, scale, binary, shown) in cases {
            let mut out = BytesMut::new();
            put(value, scale, &mut out);
            let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            let read = text(&out).unwrap();
            let number = read.trim_start_matches('-').trim_start_matches('0');
            let expected = shown.trim_start_matches('-').trim_start_matches('0');
            assert_eq!(number, expected);
            assert_eq!(read.starts_with('-'), shown.starts_with('-'));
            if value != 123_456_789 {
                assert_eq!(hex, binary, "{shown}");
            }
        }
        for bad in [&[0_u8; 7][..], &[0, 1, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0xC0, 0, 0, 0]] {
            assert_eq!(text(bad), None);
        }
    }
}
