//! NEON kernels of codes, 16 bytes at a time. NEON belongs to every aarch64 target, so nothing is
//! detected. `SDOT` does not, and Rust has it only in unstable form, so products of bytes are added
//! up in 16 bits and then in 32.
//!
//! Two signed products fit in 16 bits when a factor of each is at least -127: at most
//! `2 * 127 * 128` in size. An unsigned product fits alone: at most `255 * 255`.

use std::arch::aarch64::{
    int8x16_t, int8x16x4_t, int32x4_t, uint8x16_t, vaddq_s32, vaddq_u32, vaddvq_s32, vandq_u8,
    vbslq_s8, vcltzq_s8, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, vget_low_s8, vget_low_u8, vld1q_s8,
    vld1q_s8_x4, vld1q_u8, vmlal_high_s8, vmlal_s8, vmull_high_s8, vmull_high_u8, vmull_s8,
    vmull_u8, vnegq_s8, vpadalq_s16, vpadalq_u16, vpaddlq_u8, vqtbl1q_s8, vqtbl4q_s8,
    vreinterpretq_s8_u8, vreinterpretq_s32_u32, vreinterpretq_u8_s8, vshlq_n_u32, vshrq_n_u8,
    vst1q_u8, vsubq_u32, vtstq_u8,
};

use super::{CodeKernels, Points, scalar};

const LANES: usize = 16;

const _: () = assert!(cfg!(target_feature = "neon"), "an aarch64 target without NEON");

pub(super) static KERNELS: CodeKernels = CodeKernels {
    name: "neon",
    bytes: |query, code| {
        // SAFETY: the assertion above found neon in the target.
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
    polar2_numbers: |points, code, query| {
        // SAFETY: as above.
        unsafe { polar2_numbers(points, code, query) }
    },
};

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8; LANES]) -> uint8x16_t {
    // SAFETY: the reference covers sixteen bytes and a load of bytes asks for no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn load_signed(bytes: &[u8; LANES]) -> int8x16_t {
    vreinterpretq_s8_u8(load(bytes))
}

/// The whole lanes, `count` of them, and what is left. One count for all slices of a kernel tells the
/// compiler that its loop needs to check no bounds.
fn whole_lanes(bytes: &[u8], count: usize) -> (&[[u8; LANES]], &[u8]) {
    let (lanes, tail) = bytes.as_chunks();
    (&lanes[..count], tail)
}

/// Up to sixteen bytes, zero in the lanes past the end.
#[target_feature(enable = "neon")]
#[inline]
fn load_part(bytes: &[u8]) -> uint8x16_t {
    if let Some(lane) = bytes.first_chunk() {
        return load(lane);
    }
    let mut lane = [0; LANES];
    lane[..bytes.len()].copy_from_slice(bytes);
    load(&lane)
}

/// The first up to sixteen bytes of a register.
#[target_feature(enable = "neon")]
#[inline]
fn store_part(value: int8x16_t, out: &mut [u8]) {
    let (value, mut lane) = (vreinterpretq_u8_s8(value), [0; LANES]);
    // SAFETY: the array covers sixteen bytes and a store of bytes asks for no alignment.
    unsafe { vst1q_u8(lane.as_mut_ptr(), value) };
    match out.first_chunk_mut() {
        Some(out) => *out = lane,
        None => out.copy_from_slice(&lane[..out.len()]),
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn table(points: &[i8; 16]) -> int8x16_t {
    // SAFETY: the reference covers sixteen bytes and a load of bytes asks for no alignment.
    unsafe { vld1q_s8(points.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn table_64(points: &[i8; 64]) -> int8x16x4_t {
    // SAFETY: the reference covers 64 bytes and a load of bytes asks for no alignment.
    unsafe { vld1q_s8_x4(points.as_ptr()) }
}

/// Adds `a[0] * a[1] + b[0] * b[1]` to the sums, lower and upper halves apart.
#[target_feature(enable = "neon")]
#[inline]
fn add_products(sums: &mut [int32x4_t; 2], a: [int8x16_t; 2], b: [int8x16_t; 2]) {
    let low = vmull_s8(vget_low_s8(a[0]), vget_low_s8(a[1]));
    let low = vmlal_s8(low, vget_low_s8(b[0]), vget_low_s8(b[1]));
    let high = vmlal_high_s8(vmull_high_s8(a[0], a[1]), b[0], b[1]);
    sums[0] = vpadalq_s16(sums[0], low);
    sums[1] = vpadalq_s16(sums[1], high);
}

#[target_feature(enable = "neon")]
#[inline]
fn reduce(sums: [int32x4_t; 2]) -> i32 {
    vaddvq_s32(vaddq_s32(sums[0], sums[1]))
}

/// The sum of `(q - 128) * c` is that of `q * c`, less 128 times that of `c`.
#[target_feature(enable = "neon")]
#[inline]
fn bytes<const N: usize>(query: &[u8], codes: [&[u8]; N]) -> [i32; N] {
    let length = query.len();
    assert!(codes.iter().all(|code| code.len() == length), "a code of another dimension");
    let (query_lanes, query_tail) = whole_lanes(query, length / LANES);
    let codes = codes.map(|code| whole_lanes(code, length / LANES));
    let mut sums = [[vdupq_n_u32(0); 3]; N];
    for (at, q) in query_lanes.iter().enumerate() {
        let q = load(q);
        for ([low, high, plain], (lanes, _)) in sums.iter_mut().zip(codes) {
            let c = load(&lanes[at]);
            *low = vpadalq_u16(*low, vmull_u8(vget_low_u8(q), vget_low_u8(c)));
            *high = vpadalq_u16(*high, vmull_high_u8(q, c));
            *plain = vpadalq_u16(*plain, vpaddlq_u8(c));
        }
    }
    std::array::from_fn(|i| {
        let ([low, high, plain], (_, tail)) = (sums[i], codes[i]);
        let sum = vsubq_u32(vaddq_u32(low, high), vshlq_n_u32::<7>(plain));
        vaddvq_s32(vreinterpretq_s32_u32(sum)) + scalar::bytes(query_tail, tail)
    })
}

/// What tables of 64 hold for the low six bits of each byte.
#[target_feature(enable = "neon")]
#[inline]
fn look_up(tables: [int8x16x4_t; 2], code: uint8x16_t) -> [int8x16_t; 2] {
    let at = vandq_u8(code, vdupq_n_u8(63));
    tables.map(|table| vqtbl4q_s8(table, at))
}

/// The numbers `x` and `y`, or their opposites where the code's sign bits are set.
#[target_feature(enable = "neon")]
#[inline]
fn select(code: uint8x16_t, numbers: [int8x16_t; 2], opposites: [int8x16_t; 2]) -> [int8x16_t; 2] {
    let masks = [vcltzq_s8(vreinterpretq_s8_u8(code)), vtstq_u8(code, vdupq_n_u8(0x40))];
    std::array::from_fn(|i| vbslq_s8(masks[i], opposites[i], numbers[i]))
}

#[target_feature(enable = "neon")]
#[inline]
fn polar4<const N: usize>(points: &Points<64>, query: &[u8], codes: [&[u8]; N]) -> [i32; N] {
    assert!(codes.iter().all(|code| 2 * code.len() == query.len()), "a code of another dimension");
    let length = query.len() / 2;
    let (first, second) = query.split_at(length);
    let (first_lanes, first_tail) = whole_lanes(first, length / LANES);
    let (second_lanes, second_tail) = whole_lanes(second, length / LANES);
    let codes = codes.map(|code| whole_lanes(code, length / LANES));
    let tables = [table_64(&points.x), table_64(&points.y)];
    let mut sums = [[vdupq_n_s32(0); 2]; N];
    for (at, (qx, qy)) in first_lanes.iter().zip(second_lanes).enumerate() {
        let query = [load_signed(qx), load_signed(qy)];
        let opposite = query.map(|q| vnegq_s8(q));
        for (sums, (lanes, _)) in sums.iter_mut().zip(codes) {
            let code = load(&lanes[at]);
            let ([x, y], [qx, qy]) = (look_up(tables, code), select(code, query, opposite));
            add_products(sums, [x, qx], [y, qy]);
        }
    }
    let tails = (first_tail, second_tail);
    std::array::from_fn(|i| reduce(sums[i]) + scalar::polar4_pairs(points, tails, codes[i].1))
}

/// What two tables of sixteen hold for the nibbles of each byte, in the order of a `polar2` query.
#[target_feature(enable = "neon")]
#[inline]
fn look_up_nibbles([x, y]: [int8x16_t; 2], code: uint8x16_t) -> [int8x16_t; 4] {
    let (low, high) = (vandq_u8(code, vdupq_n_u8(15)), vshrq_n_u8::<4>(code));
    [vqtbl1q_s8(x, low), vqtbl1q_s8(x, high), vqtbl1q_s8(y, low), vqtbl1q_s8(y, high)]
}

#[target_feature(enable = "neon")]
#[inline]
fn polar2<const N: usize>(points: &Points<16>, query: &[u8], codes: [&[u8]; N]) -> [i32; N] {
    assert!(codes.iter().all(|code| 4 * code.len() == query.len()), "a code of another dimension");
    let length = query.len() / 4;
    let parts = scalar::quarters(query, length).map(|part| whole_lanes(part, length / LANES));
    let codes = codes.map(|code| whole_lanes(code, length / LANES));
    let tables = [table(&points.x), table(&points.y)];
    let mut sums = [[vdupq_n_s32(0); 2]; N];
    for at in 0..length / LANES {
        let query = parts.map(|(lanes, _)| load_signed(&lanes[at]));
        for (sums, (lanes, _)) in sums.iter_mut().zip(codes) {
            let [x_low, x_high, y_low, y_high] = look_up_nibbles(tables, load(&lanes[at]));
            add_products(sums, [x_low, query[0]], [x_high, query[1]]);
            add_products(sums, [y_low, query[2]], [y_high, query[3]]);
        }
    }
    let tails = parts.map(|(_, tail)| tail);
    std::array::from_fn(|i| reduce(sums[i]) + scalar::polar2_pairs(points, tails, codes[i].1))
}

#[target_feature(enable = "neon")]
fn polar4_numbers(points: &Points<64>, code: &[u8], query: &mut [u8]) {
    assert_eq!(query.len(), 2 * code.len(), "a code of another dimension");
    let (first, second) = query.split_at_mut(code.len());
    let tables = [table_64(&points.x), table_64(&points.y)];
    let outs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for (code, (out_x, out_y)) in code.chunks(LANES).zip(outs) {
        let code = load_part(code);
        let point = look_up(tables, code);
        let [x, y] = select(code, point, point.map(|p| vnegq_s8(p)));
        store_part(x, out_x);
        store_part(y, out_y);
    }
}

#[target_feature(enable = "neon")]
fn polar2_numbers(points: &Points<16>, code: &[u8], query: &mut [u8]) {
    assert_eq!(query.len(), 4 * code.len(), "a code of another dimension");
    let tables = [table(&points.x), table(&points.y)];
    for (i, lane) in code.chunks(LANES).enumerate() {
        let (from, to) = (i * LANES, i * LANES + lane.len());
        let looked_up = look_up_nibbles(tables, load_part(lane));
        for (point, part) in looked_up.into_iter().zip(query.chunks_exact_mut(code.len())) {
            store_part(point, &mut part[from..to]);
        }
    }
}
