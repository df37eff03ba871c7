//! The reference kernels of codes, written to be read.

use super::Points;

/// The number that a byte holds in two's complement.
fn signed(byte: u8) -> i32 {
    i32::from(byte.cast_signed())
}

pub(super) fn bytes(query: &[u8], code: &[u8]) -> i32 {
    assert_eq!(query.len(), code.len(), "a code of another dimension");
    query.iter().zip(code).map(|(q, c)| (i32::from(*q) - 128) * i32::from(*c)).sum()
}

pub(super) fn polar4(points: &Points<64>, query: &[u8], code: &[u8]) -> i32 {
    assert_eq!(query.len(), 2 * code.len(), "a code of another dimension");
    let (first, second) = query.split_at(code.len());
    polar4_pairs(points, (first, second), code)
}

/// `polar4` of pairs whose query coordinates stand in two slices.
pub(super) fn polar4_pairs(
    points: &Points<64>,
    (first, second): (&[u8], &[u8]),
    code: &[u8],
) -> i32 {
    let mut sum = 0;
    for (c, (qx, qy)) in code.iter().zip(first.iter().zip(second)) {
        let at = usize::from(c & 63);
        let x = i32::from(points.x[at]) * if c & 0x80 == 0 { 1 } else { -1 };
        let y = i32::from(points.y[at]) * if c & 0x40 == 0 { 1 } else { -1 };
        sum += signed(*qx) * x + signed(*qy) * y;
    }
    sum
}

pub(super) fn polar2(points: &Points<16>, query: &[u8], code: &[u8]) -> i32 {
    polar2_pairs(points, quarters(query, code.len()), code)
}

/// The four parts of a `polar2` query.
pub(super) fn quarters(query: &[u8], length: usize) -> [&[u8]; 4] {
    assert_eq!(query.len(), 4 * length, "a code of another dimension");
    let (first, second) = query.split_at(2 * length);
    let ((a, b), (c, d)) = (first.split_at(length), second.split_at(length));
    [a, b, c, d]
}

/// `polar2` of bytes whose query coordinates stand in four slices.
pub(super) fn polar2_pairs(points: &Points<16>, query: [&[u8]; 4], code: &[u8]) -> i32 {
    let [x_low, x_high, y_low, y_high] = query;
    let mut sum = 0;
    for (at, c) in code.iter().enumerate() {
        let (low, high) = (usize::from(c & 15), usize::from(c >> 4));
        sum += signed(x_low[at]) * i32::from(points.x[low]);
        sum += signed(y_low[at]) * i32::from(points.y[low]);
        sum += signed(x_high[at]) * i32::from(points.x[high]);
        sum += signed(y_high[at]) * i32::from(points.y[high]);
    }
    sum
}

pub(super) fn polar4_numbers(points: &Points<64>, code: &[u8], query: &mut [u8]) {
    assert_eq!(query.len(), 2 * code.len(), "a code of another dimension");
    let (first, second) = query.split_at_mut(code.len());
    polar4_numbers_of(points, code, (first, second));
}

/// `polar4_numbers` where the query's halves stand in two slices.
pub(super) fn polar4_numbers_of(
    points: &Points<64>,
    code: &[u8],
    (first, second): (&mut [u8], &mut [u8]),
) {
    let byte = |value: i8, negative: bool| if negative { -value } else { value }.cast_unsigned();
    for (c, (x, y)) in code.iter().zip(first.iter_mut().zip(second)) {
        let at = usize::from(c & 63);
        *x = byte(points.x[at], c & 0x80 != 0);
        *y = byte(points.y[at], c & 0x40 != 0);
    }
}

pub(super) fn polar2_numbers(points: &Points<16>, code: &[u8], query: &mut [u8]) {
    assert_eq!(query.len(), 4 * code.len(), "a code of another dimension");
    let length = code.len();
    for (at, c) in code.iter().enumerate() {
        let (low, high) = (usize::from(c & 15), usize::from(c >> 4));
        query[at] = points.x[low].cast_unsigned();
        query[at + length] = points.x[high].cast_unsigned();
        query[at + 2 * length] = points.y[low].cast_unsigned();
        query[at + 3 * length] = points.y[high].cast_unsigned();
    }
}
