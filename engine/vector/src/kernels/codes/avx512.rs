//! AVX-512 kernels of codes: VNNI multiplies 64 pairs of bytes and adds them in fours, VBMI looks 64
//! codes up in a table of 64. Tails are loaded under a mask.
//!
//! `VPDPBUSD` multiplies unsigned with signed bytes and adds four products to 32 bits without
//! saturation, so the order of sums does not matter.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_add_epi32, _mm_loadu_si128, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm512_abs_epi8, _mm512_add_epi32,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castsi512_si256, _mm512_dpbusd_epi32,
    _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_mask_sub_epi8,
    _mm512_maskz_loadu_epi8, _mm512_movepi8_mask, _mm512_permutexvar_epi8, _mm512_set1_epi8,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_test_epi8_mask,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

use super::{CodeKernels, Points, scalar};

const LANES: usize = 64;

pub(super) static KERNELS: CodeKernels = CodeKernels {
    name: "avx512",
    bytes: |query, code| {
        // SAFETY: this table is reachable only through `available`, which found the features.
        let [sum] = unsafe { bytes(query, [code]) };
        sum
    },
    bytes_x4: |query, codes| {
        // SAFETY: as above.
        unsafe { bytes(query, codes) }
    },
    polar4: |points, query, code| {
        // SAFETY: as above.
        let [sum] = unsafe { polar4(points, query, [code]) };
        sum
    },
    polar4_x4: |points, query, codes| {
        // SAFETY: as above.
        unsafe { polar4(points, query, codes) }
    },
    polar2: |points, query, code| {
        // SAFETY: as above.
        let [sum] = unsafe { polar2(points, query, [code]) };
        sum
    },
    polar2_x4: |points, query, codes| {
        // SAFETY: as above.
        unsafe { polar2(points, query, codes) }
    },
    polar4_numbers: |points, code, query| {
        // SAFETY: as above.
        unsafe { polar4_numbers(points, code, query) }
    },
    // A look-up per number that nothing waits for long.
    polar2_numbers: scalar::polar2_numbers,
};

/// Up to 64 bytes, zero in the lanes past the end.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(bytes: &[u8]) -> __m512i {
    if let Some(lane) = bytes.first_chunk::<LANES>() {
        // SAFETY: the reference covers 64 bytes and loadu asks for no alignment.
        return unsafe { _mm512_loadu_si512(lane.as_ptr().cast()) };
    }
    let mask = (1_u64 << bytes.len()) - 1;
    // SAFETY: masked-off lanes are not read, and the mask covers exactly the slice.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}

/// The sums of the lanes of each of up to four accumulators.
#[target_feature(enable = "avx512f")]
#[inline]
fn reduce<const N: usize>(sums: [__m512i; N]) -> [i32; N] {
    let zero = _mm512_setzero_si512();
    let at = |i: usize| sums.get(i).copied().unwrap_or(zero);
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low, high) = (pair(at(0), at(1)), pair(at(2), at(3)));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    let quarter: __m128i =
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    let mut out = [0_i32; 4];
    // SAFETY: the array covers sixteen bytes and storeu asks for no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), quarter) };
    std::array::from_fn(|i| out[i])
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn bytes<const N: usize>(query: &[u8], codes: [&[u8]; N]) -> [i32; N] {
    let length = query.len();
    assert!(codes.iter().all(|code| code.len() == length), "a code of another dimension");
    let offset = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); N];
    let mut from = 0;
    while from < length {
        let to = length.min(from + LANES);
        // Past the end the query is -128, and the code zero.
        let q = _mm512_xor_si512(load(&query[from..to]), offset);
        for (sum, code) in sums.iter_mut().zip(codes) {
            *sum = _mm512_dpbusd_epi32(*sum, load(&code[from..to]), q);
        }
        from = to;
    }
    reduce(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
#[inline]
fn polar4<const N: usize>(points: &Points<64>, query: &[u8], codes: [&[u8]; N]) -> [i32; N] {
    let length = query.len() / 2;
    assert!(codes.iter().all(|code| 2 * code.len() == query.len()), "a code of another dimension");
    let (first, second) = query.split_at(length);
    // SAFETY: the array covers 64 bytes.
    let table_x = unsafe { _mm512_loadu_si512(points.x.as_ptr().cast()) };
    // SAFETY: as above.
    let table_y = unsafe { _mm512_loadu_si512(points.y.as_ptr().cast()) };
    let zero = _mm512_setzero_si512();
    let second_sign = _mm512_set1_epi8(0x40);
    let mut sums = [zero; N];
    let mut from = 0;
    while from < length {
        let to = length.min(from + LANES);
        // Past the end the query is zero, so it does not matter which point a code of zero names.
        let (qx, qy) = (load(&first[from..to]), load(&second[from..to]));
        for (sum, code) in sums.iter_mut().zip(codes) {
            let code = load(&code[from..to]);
            let (x, y) =
                (_mm512_permutexvar_epi8(code, table_x), _mm512_permutexvar_epi8(code, table_y));
            let qx = _mm512_mask_sub_epi8(qx, _mm512_movepi8_mask(code), zero, qx);
            let qy = _mm512_mask_sub_epi8(qy, _mm512_test_epi8_mask(code, second_sign), zero, qy);
            *sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*sum, x, qx), y, qy);
        }
        from = to;
    }
    reduce(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn polar2<const N: usize>(points: &Points<16>, query: &[u8], codes: [&[u8]; N]) -> [i32; N] {
    let length = query.len() / 4;
    assert!(codes.iter().all(|code| 4 * code.len() == query.len()), "a code of another dimension");
    let parts = scalar::quarters(query, length);
    // SAFETY: the array covers sixteen bytes.
    let table_x = unsafe { _mm_loadu_si128(points.x.as_ptr().cast()) };
    // SAFETY: as above.
    let table_y = unsafe { _mm_loadu_si128(points.y.as_ptr().cast()) };
    let (table_x, table_y) = (_mm512_broadcast_i32x4(table_x), _mm512_broadcast_i32x4(table_y));
    let nibble = _mm512_set1_epi8(15);
    let zero = _mm512_setzero_si512();
    // A point's coordinate may be negative: its sign goes to the query.
    let add = |sum, point, q| {
        let q = _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(point), zero, q);
        _mm512_dpbusd_epi32(sum, _mm512_abs_epi8(point), q)
    };
    let mut sums = [zero; N];
    let mut from = 0;
    while from < length {
        let to = length.min(from + LANES);
        let [x_low, x_high, y_low, y_high] = parts.map(|part| load(&part[from..to]));
        for (sum, code) in sums.iter_mut().zip(codes) {
            let code = load(&code[from..to]);
            let low = _mm512_and_si512(code, nibble);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(code), nibble);
            *sum = add(*sum, _mm512_shuffle_epi8(table_x, low), x_low);
            *sum = add(*sum, _mm512_shuffle_epi8(table_y, low), y_low);
            *sum = add(*sum, _mm512_shuffle_epi8(table_x, high), x_high);
            *sum = add(*sum, _mm512_shuffle_epi8(table_y, high), y_high);
        }
        from = to;
    }
    reduce(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn polar4_numbers(points: &Points<64>, code: &[u8], query: &mut [u8]) {
    assert_eq!(query.len(), 2 * code.len(), "a code of another dimension");
    let (first, second) = query.split_at_mut(code.len());
    // SAFETY: the array covers 64 bytes.
    let table_x = unsafe { _mm512_loadu_si512(points.x.as_ptr().cast()) };
    // SAFETY: as above.
    let table_y = unsafe { _mm512_loadu_si512(points.y.as_ptr().cast()) };
    let zero = _mm512_setzero_si512();
    let second_sign = _mm512_set1_epi8(0x40);
    let outs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for (code, (out_x, out_y)) in code.chunks(LANES).zip(outs) {
        let code = load(code);
        let (x, y) =
            (_mm512_permutexvar_epi8(code, table_x), _mm512_permutexvar_epi8(code, table_y));
        store(_mm512_mask_sub_epi8(x, _mm512_movepi8_mask(code), zero, x), out_x);
        store(_mm512_mask_sub_epi8(y, _mm512_test_epi8_mask(code, second_sign), zero, y), out_y);
    }
}

/// The first up to 64 bytes of a register.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store(value: __m512i, out: &mut [u8]) {
    assert!((1..=LANES).contains(&out.len()), "a part of a register");
    let mask = u64::MAX >> (LANES - out.len());
    // SAFETY: lanes that are masked off are not written, and the mask covers exactly the slice.
    unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), mask, value) };
}
