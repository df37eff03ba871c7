//! AVX2 kernels of codes. `bytes` widens to 16 bits; the polar kernels keep the points positive and
//! give their signs to the query, so that `VPMADDUBSW`, which saturates at 16 bits, meets at most
//! `2 * 127 * 127`.

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_shuffle_epi32, _mm256_abs_epi8,
    _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256,
    _mm256_castsi256_si128, _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_slli_epi16,
    _mm256_srli_epi16, _mm256_storeu_si256, _mm256_sub_epi16,
};

use super::{CodeKernels, Points, scalar};

const LANES: usize = 32;

pub(super) static KERNELS: CodeKernels = CodeKernels {
    name: "avx2",
    bytes: |query, code| {
        // SAFETY: this table is reachable only through `available`, which found avx2.
        unsafe { bytes(query, code) }
    },
    bytes_x4: |query, codes| {
        // SAFETY: as above.
        codes.map(|code| unsafe { bytes(query, code) })
    },
    polar4: |points, query, code| {
        // SAFETY: as above.
        unsafe { polar4(points, query, code) }
    },
    polar4_x4: |points, query, codes| {
        // SAFETY: as above.
        codes.map(|code| unsafe { polar4(points, query, code) })
    },
    polar2: |points, query, code| {
        // SAFETY: as above.
        unsafe { polar2(points, query, code) }
    },
    polar2_x4: |points, query, codes| {
        // SAFETY: as above.
        codes.map(|code| unsafe { polar2(points, query, code) })
    },
    polar4_numbers: |points, code, query| {
        // SAFETY: as above.
        unsafe { polar4_numbers(points, code, query) }
    },
    // A look-up per number that nothing waits for long.
    polar2_numbers: scalar::polar2_numbers,
};

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; LANES]) -> __m256i {
    // SAFETY: the reference covers 32 bytes and loadu asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Sixteen unsigned bytes as 16-bit numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn wide(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: the reference covers sixteen bytes and loadu asks for no alignment.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// A table of sixteen in both halves of a register.
#[target_feature(enable = "avx2")]
#[inline]
fn table(points: &[i8; 16]) -> __m256i {
    // SAFETY: the reference covers sixteen bytes and loadu asks for no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(points.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn reduce(sum: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b00_00_11_10>(half));
    _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b00_00_00_01>(quarter)))
}

#[target_feature(enable = "avx2")]
fn bytes(query: &[u8], code: &[u8]) -> i32 {
    assert_eq!(query.len(), code.len(), "a code of another dimension");
    let offset = _mm256_set1_epi16(128);
    let (query_lanes, query_tail) = query.as_chunks::<16>();
    let (code_lanes, code_tail) = code.as_chunks::<16>();
    let mut sums = [_mm256_setzero_si256(); 2];
    for (at, (q, c)) in query_lanes.iter().zip(code_lanes).enumerate() {
        let product = _mm256_madd_epi16(_mm256_sub_epi16(wide(q), offset), wide(c));
        sums[at % 2] = _mm256_add_epi32(sums[at % 2], product);
    }
    reduce(_mm256_add_epi32(sums[0], sums[1])) + scalar::bytes(query_tail, code_tail)
}

/// Products of points, whose signs are those of `sign`'s bytes, with the query, added to 32 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn products(points: __m256i, query: __m256i, sign: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(points, _mm256_sign_epi8(query, sign));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// A table of 64 in four registers.
#[target_feature(enable = "avx2")]
#[inline]
fn tables(points: &[i8; 64]) -> [__m256i; 4] {
    let (parts, _) = points.as_chunks::<16>();
    std::array::from_fn(|i| table(&parts[i]))
}

/// What a table of 64 holds for the low six bits of each byte.
#[target_feature(enable = "avx2")]
#[inline]
fn look_up(tables: &[__m256i; 4], code: __m256i) -> __m256i {
    let low = _mm256_and_si256(code, _mm256_set1_epi8(15));
    // A blend looks at the top bit of each byte alone: bits 4 and 5 are moved there.
    let (bit_4, bit_5) = (_mm256_slli_epi16::<3>(code), _mm256_slli_epi16::<2>(code));
    let parts: [__m256i; 4] = std::array::from_fn(|i| _mm256_shuffle_epi8(tables[i], low));
    let lower = _mm256_blendv_epi8(parts[0], parts[1], bit_4);
    let upper = _mm256_blendv_epi8(parts[2], parts[3], bit_4);
    _mm256_blendv_epi8(lower, upper, bit_5)
}

#[target_feature(enable = "avx2")]
fn polar4(points: &Points<64>, query: &[u8], code: &[u8]) -> i32 {
    assert_eq!(query.len(), 2 * code.len(), "a code of another dimension");
    let (first, second) = query.split_at(code.len());
    let (code_lanes, code_tail) = code.as_chunks::<LANES>();
    let (first_lanes, first_tail) = first.as_chunks::<LANES>();
    let (second_lanes, second_tail) = second.as_chunks::<LANES>();
    let (x_tables, y_tables) = (tables(&points.x), tables(&points.y));
    let one = _mm256_set1_epi8(1);
    let mut sum = _mm256_setzero_si256();
    for ((c, qx), qy) in code_lanes.iter().zip(first_lanes).zip(second_lanes) {
        let code = load(c);
        let (x, y) = (look_up(&x_tables, code), look_up(&y_tables, code));
        // Odd, so never zero, and negative where the sign bit of the code is set.
        let sign_x = _mm256_or_si256(code, one);
        let sign_y = _mm256_or_si256(_mm256_slli_epi16::<1>(code), one);
        sum = _mm256_add_epi32(sum, products(x, load(qx), sign_x));
        sum = _mm256_add_epi32(sum, products(y, load(qy), sign_y));
    }
    reduce(sum) + scalar::polar4_pairs(points, (first_tail, second_tail), code_tail)
}

#[target_feature(enable = "avx2")]
fn polar4_numbers(points: &Points<64>, code: &[u8], query: &mut [u8]) {
    assert_eq!(query.len(), 2 * code.len(), "a code of another dimension");
    let (first, second) = query.split_at_mut(code.len());
    let (code_lanes, code_tail) = code.as_chunks::<LANES>();
    let (first_lanes, first_tail) = first.as_chunks_mut::<LANES>();
    let (second_lanes, second_tail) = second.as_chunks_mut::<LANES>();
    let (x_tables, y_tables) = (tables(&points.x), tables(&points.y));
    let one = _mm256_set1_epi8(1);
    for (c, (out_x, out_y)) in code_lanes.iter().zip(first_lanes.iter_mut().zip(second_lanes)) {
        let code = load(c);
        let sign_x = _mm256_or_si256(code, one);
        let sign_y = _mm256_or_si256(_mm256_slli_epi16::<1>(code), one);
        store(_mm256_sign_epi8(look_up(&x_tables, code), sign_x), out_x);
        store(_mm256_sign_epi8(look_up(&y_tables, code), sign_y), out_y);
    }
    scalar::polar4_numbers_of(points, code_tail, (first_tail, second_tail));
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(value: __m256i, out: &mut [u8; LANES]) {
    // SAFETY: the reference covers 32 bytes and storeu asks for no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), value) };
}

#[target_feature(enable = "avx2")]
fn polar2(points: &Points<16>, query: &[u8], code: &[u8]) -> i32 {
    let parts = scalar::quarters(query, code.len()).map(|part| part.as_chunks::<LANES>());
    let (code_lanes, code_tail) = code.as_chunks::<LANES>();
    let (table_x, table_y) = (table(&points.x), table(&points.y));
    let nibble = _mm256_set1_epi8(15);
    let mut sum = _mm256_setzero_si256();
    for (at, c) in code_lanes.iter().enumerate() {
        let code = load(c);
        let low = _mm256_and_si256(code, nibble);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble);
        let looked_up = [(table_x, low), (table_x, high), (table_y, low), (table_y, high)];
        for ((table, codes), (lanes, _)) in looked_up.into_iter().zip(parts) {
            let point = _mm256_shuffle_epi8(table, codes);
            let product = products(_mm256_abs_epi8(point), load(&lanes[at]), point);
            sum = _mm256_add_epi32(sum, product);
        }
    }
    reduce(sum) + scalar::polar2_pairs(points, parts.map(|(_, tail)| tail), code_tail)
}
