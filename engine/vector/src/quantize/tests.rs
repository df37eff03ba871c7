//! Codes against the vectors they stand for: no bias, an error no larger than promised, one result on
//! every instruction set, and a defined answer for every vector that can be stored.

use types::{Distance, Quantization, SplitMix64};

use super::{Batch, Codec, Codes, FullPrecision, Quantizer as _, Ranges, rescore};
use crate::kernels::codes;
use crate::{Matrix, Metric, Neighbor, Vectors as _, flat, recall};

#[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
fn normal(rng: &mut SplitMix64) -> f32 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.unit()).cos()) as f32
}

/// Clusters whose coordinates differ in spread, as those of embeddings do.
fn clusters(seed: u64, rows: usize, dim: usize) -> Matrix {
    let mut centres = SplitMix64::new(1);
    let centre: Vec<f32> = (0..20 * dim).map(|_| normal(&mut centres)).collect();
    let mut rng = SplitMix64::new(seed);
    let mut values = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        for at in 0..dim {
            let spread = 1.0 / ((at + 1) as f32).powf(0.3);
            values.push((centre[row % 20 * dim + at] + normal(&mut rng)) * spread);
        }
    }
    Matrix::new(dim, values)
}

fn codec(quantization: Quantization, distance: Distance, matrix: &Matrix) -> Codec {
    let sample = Ranges::of_sample(distance, (0..2_000).map_while(|row| matrix.vector(row)));
    Codec::new(quantization, distance, matrix.dim(), sample).unwrap()
}

fn coded() -> impl Iterator<Item = Quantization> {
    Quantization::ALL.into_iter().filter(|q| *q != Quantization::None)
}

fn encoded(codec: &Codec, vector: &[f32]) -> (Vec<u8>, Vec<u8>) {
    let mut record = vec![0; codec.record_bytes()];
    let mut residual = vec![0; codec.residual_bytes()];
    codec.encode(Some(vector), &mut record, &mut residual);
    (record, residual)
}

/// Mean and standard deviation of the errors of inner products, in units of `|q| |x| / sqrt(dim)`.
fn errors(codec: &Codec, exact: bool, dim: usize) -> (f64, f64, usize) {
    const PAIRS: usize = 4_000;
    let metric = Metric::new(Distance::InnerProduct);
    let (queries, stored) = (clusters(7, PAIRS, dim), clusters(8, PAIRS, dim));
    let (mut sum, mut squares) = (0.0, 0.0);
    for at in 0..u32::try_from(PAIRS).unwrap() {
        let (q, x) = (queries.vector(at).unwrap(), stored.vector(at).unwrap());
        let (record, residual) = encoded(codec, x);
        let query = codec.query(q).unwrap();
        let estimate = if exact {
            codec.refine(&query, &record, &residual)
        } else {
            codec.eval(&query, &record)
        };
        let truth = metric.between(q, x);
        let length = |v: &[f32]| (-metric.between(v, v)).sqrt();
        let error = (f64::from(estimate) - truth) * (dim as f64).sqrt() / (length(q) * length(x));
        sum += error;
        squares += error * error;
    }
    (sum / PAIRS as f64, (squares / PAIRS as f64).sqrt(), PAIRS)
}

#[test]
fn estimates_have_no_bias_and_the_promised_error() {
    // The least and greatest standard deviation, of the code alone and of kernel and query as well.
    let cases = [
        (Quantization::Sq8, (0.003, 0.010), 0.013),
        (Quantization::Polar8, (0.003, 0.008), 0.095),
        (Quantization::Polar4, (0.060, 0.095), 0.095),
        (Quantization::Polar2, (0.240, 0.360), 0.360),
    ];
    for dim in [128, 384] {
        let matrix = clusters(3, 10, dim);
        for (quantization, (least, greatest), in_bytes) in cases {
            let codec = codec(quantization, Distance::InnerProduct, &matrix);
            for (exact, least, greatest) in [(true, least, greatest), (false, 0.0, in_bytes)] {
                let (mean, deviation, pairs) = errors(&codec, exact, dim);
                let what = format!("{quantization:?}, {dim}-d, refined {exact}");
                let sigma = deviation / (pairs as f64).sqrt();
                println!(
                    "{what}: mean {mean:.6} ({:.2} sigma), error {deviation:.4}",
                    mean / sigma
                );
                assert!(mean.abs() <= 3.0 * sigma, "{what}: mean {mean}, sigma {sigma}");
                assert!((least..greatest).contains(&deviation), "{what}: {deviation}");
            }
        }
    }
}

#[test]
fn the_error_of_estimates_stays_within_their_deviation() {
    for distance in Distance::OF_CODES {
        let (queries, matrix) = (clusters(7, 300, 128), clusters(8, 300, 128));
        let metric = Metric::new(distance);
        for quantization in coded() {
            let codec = codec(quantization, distance, &matrix);
            let mut beyond = 0;
            for at in 0..300 {
                let (q, x) = (queries.vector(at).unwrap(), matrix.vector(at).unwrap());
                let (record, _) = encoded(&codec, x);
                let query = codec.query(q).unwrap();
                let error = codec.eval(&query, &record) - metric.eval(&metric.probe(q), x);
                let deviation = codec.deviation(&query, &record);
                assert_eq!(deviation.is_finite(), quantization != Quantization::Sq8Calibrated);
                beyond += usize::from(error.abs() > 3.0 * deviation);
            }
            assert!(beyond <= 3, "{distance:?} {quantization:?}: {beyond} of 300 beyond 3 sigma");
        }
    }
}

#[test]
fn recall_after_rescoring_is_that_of_full_vectors() {
    let matrix = clusters(3, 3_000, 96);
    let queries = clusters(4, 60, 96);
    for distance in Distance::OF_CODES {
        let metric = Metric::new(distance);
        let exact = FullPrecision::new(metric, &matrix);
        for quantization in coded() {
            let codes = Codes::new(codec(quantization, distance, &matrix));
            for part in [0..1_000, 1_000..1_003, 1_003..3_000_u32] {
                let vectors = part.map(|row| matrix.vector(row));
                codes.append(&Batch::encode(codes.codec(), vectors));
            }
            assert_eq!(codes.len(), 3_000);
            let view = codes.view();
            let (mut raw, mut rescored) = (0.0, 0.0);
            for at in 0..60 {
                let query = queries.vector(at).unwrap();
                let truth = flat::search(&metric, &metric.probe(query), &matrix, 0..3_000, 10).0;
                let probe = exact.query(query).unwrap();
                let query = view.query(query).unwrap();
                let mut all: Vec<Neighbor> = (0..3_000)
                    .map(|o| Neighbor { value: view.eval(&query, o).unwrap(), ordinal: o })
                    .collect();
                all.sort_by(|a, b| a.value.total_cmp(&b.value));
                raw += recall::recall_at(10, &all, &truth);
                let candidates = if quantization == Quantization::Polar2 { 100 } else { 30 };
                let (found, read) = rescore(
                    &all[..candidates],
                    10,
                    |ordinal| view.deviation(&query, ordinal),
                    |_| {},
                    |ordinal| exact.eval(&probe, ordinal),
                );
                assert!(read >= 10);
                let mut scanned = Vec::new();
                let ordinals = (0..3_000).filter(|o| o % 7 != 3);
                view.scan(&query, ordinals.clone(), |value, o| scanned.push((value.to_bits(), o)));
                let one = |o| (view.eval(&query, o).unwrap().to_bits(), o);
                assert_eq!(scanned, ordinals.map(one).collect::<Vec<_>>());
                rescored += recall::recall_at(10, &found, &truth);
            }
            println!("{distance:?} {quantization:?}: {} rescored {}", raw / 60.0, rescored / 60.0);
            assert!(rescored / 60.0 >= 0.99, "{distance:?} {quantization:?}: {}", rescored / 60.0);
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_estimates() {
    for dim in [1, 2, 3, 31, 64, 100, 130, 384] {
        let (matrix, queries) = (clusters(3, 40, dim), clusters(4, 10, dim));
        for (quantization, distance) in
            coded().flat_map(|q| Distance::OF_CODES.into_iter().map(move |d| (q, d)))
        {
            let make = |kernels| codec(quantization, distance, &matrix).with_kernels(kernels);
            let estimates = |codec: &Codec| -> Vec<u32> {
                let records: Vec<Vec<u8>> =
                    (0..40).map(|row| encoded(codec, matrix.vector(row).unwrap()).0).collect();
                let mut bits = Vec::new();
                for at in 0..10 {
                    let query = codec.query(queries.vector(at).unwrap()).unwrap();
                    let stored = codec.stored(&records[at as usize]).unwrap();
                    for query in [query, stored] {
                        bits.extend(records.iter().map(|r| codec.eval(&query, r).to_bits()));
                        for four in records.chunks_exact(4) {
                            let four = [&four[0][..], &four[1][..], &four[2][..], &four[3][..]];
                            let values = codec.eval_x4(&query, four);
                            assert_eq!(
                                values.map(f32::to_bits),
                                four.map(|r| codec.eval(&query, r).to_bits())
                            );
                        }
                    }
                }
                bits
            };
            let expected = estimates(&make(&codes::SCALAR));
            for kernels in codes::available() {
                let got = estimates(&make(kernels));
                assert_eq!(got, expected, "{} {quantization:?} {distance:?} {dim}-d", kernels.name);
            }
        }
    }
}

#[test]
fn vectors_at_the_edges_have_defined_estimates() {
    for (quantization, distance) in
        coded().flat_map(|q| Distance::OF_CODES.into_iter().map(move |d| (q, d)))
    {
        for dim in [1_usize, 2, 5, 16_000] {
            let edges: Vec<Vec<f32>> =
                [0.0, 1.0, -1.0, f32::MIN_POSITIVE, 1e-42, 1e18, 3e38, f32::MAX]
                    .iter()
                    .map(|value| vec![*value; dim])
                    .collect();
            // Ranges that hold the largest numbers could not tell the others apart.
            let sample = Ranges::of_sample(distance, edges[..3].iter().map(Vec::as_slice));
            let codec = Codec::new(quantization, distance, dim, sample).unwrap();
            for x in &edges {
                let mut record = vec![0; codec.record_bytes()];
                let mut residual = vec![0; codec.residual_bytes()];
                let off = codec.encode(Some(x), &mut record, &mut residual);
                let suits = Codec::suits(distance, x);
                assert_eq!(codec.stored(&record).is_some(), suits, "{quantization:?} {x:.9?}");
                // Who has distances and no code is known.
                assert_eq!(off.is_nan(), !suits && distance != Distance::Cosine);
                for q in &edges {
                    let query = codec.query(q);
                    assert_eq!(query.is_some(), Codec::suits(distance, q));
                    let Some(query) = query else { continue };
                    let value = codec.eval(&query, &record);
                    let refined = codec.refine(&query, &record, &residual);
                    let finite = value.is_finite() && refined.is_finite();
                    // Ranges hold what the sample was like, and no more.
                    if suits && quantization != Quantization::Sq8Calibrated {
                        assert!(finite, "{quantization:?} {distance:?} {dim}-d: {value} {refined}");
                    }
                }
            }
            let mut record = vec![1; codec.record_bytes()];
            codec.encode(None, &mut record, &mut vec![1; codec.residual_bytes()]);
            assert!(codec.stored(&record).is_none(), "a row without a vector");
        }
    }
}

#[test]
fn codes_do_not_depend_on_how_they_were_appended() {
    let matrix = clusters(3, 5_000, 20);
    for quantization in coded() {
        let make = || Codes::new(codec(quantization, Distance::L2, &matrix));
        let (whole, parts) = (make(), make());
        let batch = |codes: &Codes, part: std::ops::Range<u32>| {
            Batch::encode(codes.codec(), part.map(|row| matrix.vector(row)))
        };
        whole.append(&batch(&whole, 0..5_000));
        let mut from = 0;
        let mut held = Vec::new();
        for size in [1, 1, 5, 2_041, 1, 2_040, 911] {
            parts.append(&batch(&parts, from..from + size));
            from += size;
            // A search that goes on must not see codes move.
            held.push((from, parts.view()));
        }
        let all = whole.view().gather((0..5_000).map(Some));
        assert_eq!(parts.view().gather((0..5_000).map(Some)), all);
        for (len, view) in held {
            assert_eq!(view.len(), len);
            let known = |o: u32| (o < len).then_some(o);
            let expected = whole.view().gather((0..5_000).map(known));
            assert_eq!(view.gather((0..5_000).map(Some)), expected);
            assert!(view.eval(&view.point(0).unwrap(), len).is_none());
        }
        assert!(whole.memory_bytes() >= 5_000 * whole.codec().record_bytes());
    }
}

#[test]
fn many_points_are_compared_like_one_whether_they_are_known_or_not() {
    let matrix = clusters(3, 300, 20);
    for quantization in coded() {
        let codes = Codes::new(codec(quantization, Distance::L2, &matrix));
        let rows = (0..300).map(|row| (row != 8).then(|| matrix.vector(row).unwrap()));
        codes.append(&Batch::encode(codes.codec(), rows));
        let view = codes.view_of(280).unwrap();
        let query = view.point(5).unwrap();
        for count in [0, 1, 3, 4, 31, 32, 33, 70, 200] {
            for from in [0, 100, 270] {
                let points: Vec<u32> = (from..from + count).collect();
                let expected = points.iter().filter_map(|point| {
                    let value = view.eval(&query, *point).filter(|value| !value.is_nan())?;
                    Some((*point, value.to_bits()))
                });
                let mut got = Vec::new();
                view.eval_all(&query, &points, |point, value| got.push((point, value.to_bits())));
                assert_eq!(got, expected.collect::<Vec<_>>(), "{count} from {from}");
            }
        }
    }
}

/// Vectors of all shapes: with one number, few numbers, one much larger than the others, all alike,
/// far from the origin, tiny.
fn odd_shapes(seed: u64, rows: usize, dim: usize) -> Matrix {
    let mut rng = SplitMix64::new(seed);
    let mut values = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let spot = usize::try_from(rng.below(dim as u64)).unwrap();
        let level = normal(&mut rng);
        values.extend((0..dim).map(|at| match row % 7 {
            0 => f32::from(u8::from(at == spot)),
            1 => f32::from(u8::from(at.abs_diff(spot) < 3)) * normal(&mut rng),
            2 => normal(&mut rng) + if at == spot { 100.0 } else { 0.0 },
            3 => level,
            4 => 50.0 + normal(&mut rng) * 0.01,
            5 => normal(&mut rng) * 1e-12,
            _ => normal(&mut rng),
        }));
    }
    Matrix::new(dim, values)
}

#[test]
fn no_estimate_is_off_by_more_than_its_bound() {
    const ROWS: usize = 700;
    for dim in [40, 100, 384] {
        for matrix in [odd_shapes(5, ROWS, dim), clusters(6, ROWS, dim)] {
            let queries = odd_shapes(9, 70, dim);
            for distance in [Distance::L2, Distance::InnerProduct, Distance::Cosine] {
                let metric = Metric::new(distance);
                for quantization in coded() {
                    let codec = codec(quantization, distance, &matrix);
                    for (q, x) in (0..70).flat_map(|q| (0..ROWS).map(move |x| (q, x))) {
                        let q = queries.vector(q).unwrap();
                        let x = matrix.vector(u32::try_from(x).unwrap()).unwrap();
                        let mut record = vec![0; codec.record_bytes()];
                        let mut residual = vec![0; codec.residual_bytes()];
                        let off = codec.encode(Some(x), &mut record, &mut residual);
                        let Some(query) = codec.query(q) else { continue };
                        let estimate = codec.eval(&query, &record);
                        let bound = codec.error_bound(&query, &record, off);
                        let truth = metric.eval(&metric.probe(q), x);
                        let allowed = bound + 1e-4 * estimate.abs() + f32::MIN_POSITIVE;
                        assert!(
                            (estimate - truth).abs() <= allowed || truth.is_nan(),
                            "{quantization:?} {distance:?} {dim}-d: {estimate} for {truth}, \
                             bound {bound}"
                        );
                    }
                }
            }
        }
    }
}
