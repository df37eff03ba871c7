//! The codebooks of pairs of coordinates: rings around the origin, cut in sectors.
//!
//! The pairs of a rotated vector, in units of `|x| / sqrt(width)`, are two-dimensional standard
//! normal numbers. With more sectors on the outer rings than on the inner ones ("unrestricted polar
//! quantization", Wilson, IEEE Trans. Inf. Theory 1980) a code of 8 bits leaves a mean squared error
//! of 0.0080 per coordinate, a code of 4 bits 0.108; the best scalar codes of that size leave
//! 0.0095 and 0.117. The constants are those of Lloyd's algorithm on that distribution; a test holds
//! the codebooks to these errors.
//!
//! A code of 8 bits: bit 7 is set when the first coordinate is negative, bit 6 when the second is,
//! and bits 0 to 5 name a point of the first quadrant. A code of 4 bits names one of 16 points.

use std::sync::LazyLock;

use crate::kernels::codes::Points;

const RINGS: usize = 10;
/// Points of each ring in a quadrant; half a step from the axes.
const SECTORS: [u8; RINGS] = [2, 3, 5, 6, 8, 8, 9, 9, 8, 6];
const FIRST: [u8; RINGS] = [0, 2, 5, 10, 16, 24, 32, 41, 50, 58];
const RADII: [f32; RINGS] =
    [0.2171, 0.4557, 0.6954, 0.9429, 1.2054, 1.4864, 1.7967, 2.1608, 2.6151, 3.2609];
/// Where one ring ends and the next begins.
const BORDERS: [f32; RINGS - 1] =
    [0.3359, 0.5700, 0.8186, 1.0711, 1.3481, 1.6410, 1.9813, 2.3956, 2.9614];
/// Where the second level's steps begin and end along the radius, and how far they reach to both
/// sides across it: what leaves the least squared error in each ring's cells.
const REACH: [(f32, f32, f32); RINGS] = [
    (-0.194, 0.115, 0.116),
    (-0.124, 0.111, 0.136),
    (-0.127, 0.120, 0.119),
    (-0.128, 0.125, 0.130),
    (-0.136, 0.141, 0.123),
    (-0.141, 0.153, 0.151),
    (-0.158, 0.182, 0.162),
    (-0.183, 0.232, 0.195),
    (-0.227, 0.335, 0.266),
    (-0.324, 1.317, 0.459),
];
/// Steps of the second level in each direction.
const RESIDUAL_STEPS: f32 = 16.0;

/// Radii of the two rings of the 16 points: one point at the origin, six on the first, nine on the
/// second.
const SMALL_RADII: (f64, f64) = (0.9208, 1.9089);

/// A cell of the first quadrant.
#[derive(Debug, Clone, Copy)]
struct Cell {
    x: f32,
    y: f32,
    cos: f32,
    sin: f32,
    /// Where the second level begins along the radius, and its step.
    radial: (f32, f32),
    /// The same across the radius.
    across: (f32, f32),
}

static CELLS: LazyLock<[Cell; 64]> = LazyLock::new(|| {
    let mut ring = 0;
    std::array::from_fn(|code| {
        while ring + 1 < RINGS && code >= usize::from(FIRST[ring + 1]) {
            ring += 1;
        }
        let sector = code as f64 - f64::from(FIRST[ring]);
        let angle = (sector + 0.5) / f64::from(SECTORS[ring]) * std::f64::consts::FRAC_PI_2;
        // Rounded to a thousandth of a code step, so that a library's last bit does not matter.
        let [cos, sin] = [angle.cos(), angle.sin()].map(rounded);
        let (low, high, side) = REACH[ring];
        let steps = |low: f32, high: f32| (low, (high - low) / RESIDUAL_STEPS);
        let (radial, across) = (steps(low, high), steps(-side, side));
        Cell { x: RADII[ring] * cos, y: RADII[ring] * sin, cos, sin, radial, across }
    })
});

#[expect(clippy::cast_possible_truncation, reason = "a cosine in millionths")]
fn rounded(value: f64) -> f32 {
    ((value * 1e6).round() / 1e6) as f32
}

static SMALL: LazyLock<[(f32, f32); 16]> = LazyLock::new(|| {
    std::array::from_fn(|code| {
        let on_ring = |radius: f64, at: usize, points: f64| {
            let angle = std::f64::consts::TAU * at as f64 / points;
            (rounded(radius * angle.cos()), rounded(radius * angle.sin()))
        };
        match code {
            0 => (0.0, 0.0),
            1..=6 => on_ring(SMALL_RADII.0, code - 1, 6.0),
            _ => on_ring(SMALL_RADII.1, code - 7, 9.0),
        }
    })
});

/// Coordinates of all points as whole numbers up to 127, what the kernels multiply with.
#[expect(clippy::cast_possible_truncation, reason = "at most 127")]
fn whole<const N: usize>(points: &[(f32, f32); N]) -> Points<N> {
    let peak = points.iter().fold(0.0_f32, |peak, (x, y)| peak.max(x.abs()).max(y.abs()));
    let whole = |value: f32| (value * (127.0 / peak)).round() as i8;
    Points { x: points.map(|p| whole(p.0)), y: points.map(|p| whole(p.1)) }
}

/// The points of the codes of 8 bits in the first quadrant.
pub(super) static POINTS_OF_256: LazyLock<Points<64>> =
    LazyLock::new(|| whole(&CELLS.map(|cell| (cell.x, cell.y))));

/// The points of the codes of 4 bits.
pub(super) static POINTS_OF_16: LazyLock<Points<16>> = LazyLock::new(|| whole(&SMALL));

/// The code of 8 bits of a pair in units of its standard deviation.
pub(super) fn encode_256(x: f32, y: f32) -> u8 {
    let square = x * x + y * y;
    let ring = BORDERS.iter().filter(|border| square >= **border * **border).count();
    let sectors = SECTORS[ring];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of the quadrant times at most 9"
    )]
    let sector = (quadrant_fraction(x.abs(), y.abs()) * f32::from(sectors)) as u8;
    let signs = u8::from(x < 0.0) << 7 | u8::from(y < 0.0) << 6;
    signs | (FIRST[ring] + sector.min(sectors - 1))
}

/// The angle of a point of the first quadrant as a fraction of the right angle; 0 for the origin.
/// Abramowitz and Stegun 4.4.49: off by less than `2e-5` of a radian.
fn quadrant_fraction(x: f32, y: f32) -> f32 {
    let (low, high) = if x < y { (x, y) } else { (y, x) };
    let t = if high > 0.0 { low / high } else { 0.0 };
    let s = t * t;
    let series =
        0.999_866 + s * (-0.330_299_5 + s * (0.180_141 + s * (-0.085_133 + s * 0.020_835_1)));
    let fraction = t * series * std::f32::consts::FRAC_2_PI;
    if x < y { 1.0 - fraction } else { fraction }
}

/// What a code of 8 bits leaves of its pair: 4 bits along the radius (high) and 4 across it (low).
pub(super) fn encode_residual(code: u8, x: f32, y: f32) -> u8 {
    let cell = CELLS[usize::from(code & 63)];
    let (dx, dy) = (x.abs() - cell.x, y.abs() - cell.y);
    let step = |value: f32, (low, step): (f32, f32)| -> u8 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=15"
        )]
        let at = ((value - low) / step).clamp(0.0, RESIDUAL_STEPS - 1.0) as u8;
        at
    };
    let radial = step(dx * cell.cos + dy * cell.sin, cell.radial);
    radial << 4 | step(dy * cell.cos - dx * cell.sin, cell.across)
}

/// The pair that a code of 8 bits and its residual stand for.
pub(super) fn decode_with_residual(code: u8, residual: u8) -> (f32, f32) {
    let cell = CELLS[usize::from(code & 63)];
    let place = |at: u8, (low, step): (f32, f32)| low + (f32::from(at) + 0.5) * step;
    let radial = place(residual >> 4, cell.radial);
    let across = place(residual & 15, cell.across);
    let x = cell.x + radial * cell.cos - across * cell.sin;
    let y = cell.y + radial * cell.sin + across * cell.cos;
    (if code & 0x80 == 0 { x } else { -x }, if code & 0x40 == 0 { y } else { -y })
}

/// The code of 4 bits of a pair in units of its standard deviation.
pub(super) fn encode_16(x: f32, y: f32) -> u8 {
    let mut best = (f32::INFINITY, 0);
    for (code, (px, py)) in (0..).zip(SMALL.iter()) {
        let distance = (x - px) * (x - px) + (y - py) * (y - py);
        if distance < best.0 {
            best = (distance, code);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SplitMix64;

    #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
    fn normal_pair(rng: &mut SplitMix64) -> (f32, f32) {
        let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
        let angle = std::f64::consts::TAU * rng.unit();
        ((radius * angle.cos()) as f32, (radius * angle.sin()) as f32)
    }

    fn mean_squared_error(decode: impl Fn(f32, f32) -> (f32, f32)) -> f64 {
        const PAIRS: u32 = 200_000;
        let mut rng = SplitMix64::new(5);
        let mut sum = 0.0;
        for _ in 0..PAIRS {
            let (x, y) = normal_pair(&mut rng);
            let (a, b) = decode(x, y);
            sum += f64::from((x - a).powi(2) + (y - b).powi(2));
        }
        sum / f64::from(2 * PAIRS)
    }

    fn signed(code: u8, x: f32, y: f32) -> (f32, f32) {
        (if code & 0x80 == 0 { x } else { -x }, if code & 0x40 == 0 { y } else { -y })
    }

    #[test]
    fn codebooks_leave_the_error_they_are_made_for() {
        let first_level = mean_squared_error(|x, y| {
            let code = encode_256(x, y);
            let cell = CELLS[usize::from(code & 63)];
            signed(code, cell.x, cell.y)
        });
        assert!((0.0078..0.0082).contains(&first_level), "{first_level}");
        let points = &*POINTS_OF_256;
        let unit = CELLS[63].y / f32::from(points.y[63]);
        let in_whole_numbers = mean_squared_error(|x, y| {
            let code = encode_256(x, y);
            let at = usize::from(code & 63);
            signed(code, f32::from(points.x[at]) * unit, f32::from(points.y[at]) * unit)
        });
        assert!(in_whole_numbers < 0.0082, "{in_whole_numbers}");
        let both_levels = mean_squared_error(|x, y| {
            let code = encode_256(x, y);
            decode_with_residual(code, encode_residual(code, x, y))
        });
        assert!(both_levels < 0.000_042, "{both_levels}");
        let small = mean_squared_error(|x, y| SMALL[usize::from(encode_16(x, y))]);
        assert!((0.105..0.110).contains(&small), "{small}");
    }

    #[test]
    fn the_point_of_a_code_has_that_code() {
        for code in 0..=255_u8 {
            let cell = CELLS[usize::from(code & 63)];
            let (x, y) = signed(code, cell.x, cell.y);
            assert_eq!(encode_256(x, y), code);
        }
        for (code, (x, y)) in (0..).zip(SMALL.iter()) {
            assert_eq!(encode_16(*x, *y), code);
        }
    }
}
