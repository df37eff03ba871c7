//! The graph against exact search: recall gates on fixed seeds, visibility, concurrency, bytes.

use types::{Distance, SplitMix64};

use half::f16;

use super::graph::links_of;
use super::{Builder, Graph, Parameters, SearchOptions, SearchOutcome};
use crate::quantize::{FullPrecision, Quantizer as _};
use crate::{Bits, Matrix, Metric, Neighbor, Row, Vectors, flat, recall};

/// A number near `centre`.
fn about(rng: &mut SplitMix64, centre: f32, spread: f32) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
    let offset = (rng.unit() + rng.unit() + rng.unit() - 1.5) as f32;
    centre + spread * offset
}

/// `rows` vectors around the same `centres` random centres for every seed.
fn clusters(seed: u64, rows: usize, dim: usize, centres: usize) -> Matrix {
    let mut centre = SplitMix64::new(1);
    let centre: Vec<f32> = (0..centres * dim).map(|_| about(&mut centre, 0.0, 1.0)).collect();
    let mut rng = SplitMix64::new(seed);
    let values = (0..rows)
        .flat_map(|row| {
            let from = row % centres * dim;
            let centre = centre[from..from + dim].iter();
            centre.map(|c| about(&mut rng, *c, 1.0)).collect::<Vec<_>>()
        })
        .collect();
    Matrix::new(dim, values)
}

/// A name and the rows that may be seen.
type Case = (&'static str, fn(u32) -> bool);

fn rows(matrix: &Matrix) -> u32 {
    u32::try_from(matrix.rows()).unwrap()
}

fn build(matrix: &Matrix, metric: Metric, points: std::ops::Range<u32>) -> Graph {
    let graph = Graph::new(Parameters { m: 8, ef_construction: 60, seed: 1 });
    extend(&graph, matrix, metric, points);
    graph
}

fn extend(graph: &Graph, matrix: &Matrix, metric: Metric, points: std::ops::Range<u32>) {
    let quantizer = FullPrecision::new(metric, matrix);
    let builder = Builder::new(graph, &quantizer);
    points.for_each(|point| assert!(builder.insert(point)));
}

fn search(
    graph: &Graph,
    matrix: &Matrix,
    metric: Metric,
    query: &[f32],
    admit: impl Fn(u32) -> bool,
) -> Vec<Neighbor> {
    let quantizer = FullPrecision::new(metric, matrix);
    let options = SearchOptions { k: 10, ef: 60, visits_max: u64::MAX, stop: None };
    match graph.search_admitted(&quantizer, &quantizer.query(query).unwrap(), options, admit).0 {
        SearchOutcome::Found(found) => found,
        SearchOutcome::GaveUp => panic!("no limit was set"),
    }
}

fn mean_recall(
    graph: &Graph,
    matrix: &Matrix,
    metric: Metric,
    admit: impl Fn(u32) -> bool + Copy,
) -> f64 {
    let queries = clusters(99, 100, matrix.dim(), 20);
    let total: f64 = (0..100)
        .map(|at| {
            let query = queries.vector(at).unwrap();
            let admitted = (0..rows(matrix)).filter(|row| admit(*row));
            let truth = flat::search(&metric, &metric.probe(query), matrix, admitted, 10).0;
            let found = search(graph, matrix, metric, query, admit);
            assert!(found.iter().all(|n| admit(n.ordinal)), "a row that may not be seen");
            assert_eq!(found.len(), truth.len(), "fewer rows than qualify");
            recall::recall_at(10, &found, &truth)
        })
        .sum();
    total / 100.0
}

#[test]
fn recall_holds_for_every_distance_and_under_filters() {
    let matrix = clusters(3, 3_000, 24, 20);
    for distance in Distance::OF_NUMBERS {
        let metric = Metric::new(distance);
        let graph = build(&matrix, metric, 0..rows(&matrix));
        // Inner product is no metric, its graph is known to be the weakest.
        let gate = if distance == Distance::InnerProduct { 0.80 } else { 0.95 };
        let cases: [Case; 3] =
            [("all", |_| true), ("half", |row| row % 2 == 0), ("tenth", |row| row % 10 == 3)];
        for (name, admit) in cases {
            let got = mean_recall(&graph, &matrix, metric, admit);
            assert!(got >= gate, "{distance:?} {name}: recall@10 {got}");
        }
    }
}

/// Rows of a matrix in another form.
struct Stored {
    dim: usize,
    halves: Vec<f16>,
    bits: Vec<u8>,
}

impl Vectors for Stored {
    fn dim(&self) -> usize {
        self.dim
    }

    fn row(&self, ordinal: u32) -> Option<Row<'_>> {
        let start = ordinal as usize * self.dim;
        if self.halves.is_empty() {
            return Bits::new(&self.bits, start, self.dim).map(Row::Bits);
        }
        self.halves.get(start..start + self.dim).map(Row::Half)
    }
}

#[test]
fn halves_and_bits_are_searched_like_numbers() {
    // 93 bits are no whole bytes, so that rows begin anywhere in one.
    let dim = 93;
    let matrix = clusters(13, 3_000, dim, 20);
    let queries = clusters(99, 100, dim, 20);
    let numbers = || (0..3_000).flat_map(|row| matrix.vector(row).unwrap()).copied();
    let halves = Stored { dim, halves: numbers().map(f16::from_f32).collect(), bits: Vec::new() };
    let above: Vec<f32> = numbers().map(|number| number.max(0.0)).collect();
    let bits = Stored { dim, halves: Vec::new(), bits: Bits::pack(&above) };
    for distance in
        [Distance::L2, Distance::Cosine, Distance::L1, Distance::Hamming, Distance::Jaccard]
    {
        let of_bits = matches!(distance, Distance::Hamming | Distance::Jaccard);
        let stored = if of_bits { &bits } else { &halves };
        let metric = Metric::new(distance);
        let quantizer = FullPrecision::new(metric, stored);
        let graph = Graph::new(Parameters::default());
        let builder = Builder::new(&graph, &quantizer);
        (0..3_000).for_each(|point| assert!(builder.insert(point)));
        let mut recall = 0.0;
        for at in 0..100 {
            let query: Vec<f32> = queries
                .vector(at)
                .unwrap()
                .iter()
                .map(|number| if of_bits { f32::from(u8::from(*number > 0.0)) } else { *number })
                .collect();
            let truth = flat::search(&metric, &metric.probe(&query), stored, 0..3_000, 10).0;
            let options = SearchOptions { k: 10, ef: 64, visits_max: u64::MAX, stop: None };
            let prepared = quantizer.query(&query).unwrap();
            let (outcome, _) = graph.search(&quantizer, &prepared, options);
            let SearchOutcome::Found(found) = outcome else { panic!("no limit was set") };
            // Whole numbers of bits make ties: as near counts.
            let farthest = truth[9].value;
            recall += found.iter().filter(|n| n.value <= farthest).count() as f64 / 1_000.0;
            let plain: Vec<f32> =
                numbers().skip(truth[0].ordinal as usize * dim).take(dim).collect();
            if distance == Distance::Hamming {
                let differ = plain.iter().zip(&query).filter(|(a, b)| (**a > 0.0) != (**b > 0.0));
                assert!((f64::from(truth[0].value) - differ.count() as f64).abs() < 1e-9);
            }
        }
        assert!(recall >= 0.95, "{distance:?}: recall@10 {recall}");
    }
}

#[test]
fn a_prefix_of_time_is_searched_as_if_the_rest_did_not_exist() {
    let matrix = clusters(5, 2_000, 16, 20);
    let metric = Metric::new(Distance::L2);
    let graph = build(&matrix, metric, 0..2_000);
    let got = mean_recall(&graph, &matrix, metric, |row| row < 700);
    assert!(got >= 0.95, "recall@10 {got}");
}

#[test]
fn a_graph_without_the_points_that_went_is_as_good_as_a_new_one() {
    let matrix = clusters(6, 4_000, 16, 20);
    let mut rng = SplitMix64::new(2);
    // By point and a draw below a hundred.
    type Case = (&'static str, fn(u32, u64) -> bool);
    let cases: [Case; 5] = [
        ("a tenth went", |_, draw| draw >= 10),
        ("six of ten went", |_, draw| draw >= 60),
        ("most went", |_, draw| draw >= 97),
        ("the older half went", |point, _| point >= 2_000),
        ("clusters went", |point, _| point % 20 > 14),
    ];
    for distance in [Distance::L2, Distance::Cosine] {
        let metric = Metric::new(distance);
        let graph = build(&matrix, metric, 0..4_000);
        for (name, stays) in cases {
            let kept: Vec<u32> = (0..4_000).filter(|p| stays(*p, rng.below(100))).collect();
            let values = kept.iter().flat_map(|p| matrix.vector(*p).unwrap().to_vec()).collect();
            let fewer = Matrix::new(16, values);
            let quantizer = FullPrecision::new(metric, &matrix);
            let place =
                |point| kept.binary_search(&point).ok().map(|at| u32::try_from(at).unwrap());
            let relocated = graph.relocated(&quantizer, 4_000, place);
            let made = build(&fewer, metric, 0..rows(&fewer));
            let [got, expected] =
                [&relocated, &made].map(|graph| mean_recall(graph, &fewer, metric, |_| true));
            assert!(got >= expected - 0.01, "{distance:?}, {name}: {got}, built anew {expected}");
            // Later points go in as into any graph.
            let half = rows(&fewer) / 2;
            let prefix = graph.relocated(&quantizer, kept[half as usize], place);
            extend(&prefix, &fewer, metric, half..rows(&fewer));
            let got = mean_recall(&prefix, &fewer, metric, |_| true);
            assert!(got >= expected - 0.01, "{distance:?}, {name}, extended: {got}");
        }
        assert!(graph.relocated(&FullPrecision::new(metric, &matrix), 4_000, |_| None).is_empty());
    }
}

#[test]
fn a_graph_under_other_ordinals_has_the_same_lists() {
    const POINTS: u32 = 3_000;
    let matrix = clusters(5, POINTS as usize, 8, 10);
    let metric = Metric::new(Distance::L2);
    let graph = build(&matrix, metric, 0..POINTS);
    let there = |point: u32| Some((point * 7 + 11) % POINTS);
    let mut back = vec![0; POINTS as usize];
    (0..POINTS).for_each(|point| back[there(point).unwrap() as usize] = point);
    let other = graph.relocated(&FullPrecision::new(metric, &matrix), POINTS, there);
    let values = back.iter().flat_map(|point| matrix.vector(*point).unwrap().to_vec()).collect();
    let moved = Matrix::new(8, values);
    let again = other.relocated(&FullPrecision::new(metric, &moved), POINTS, |point| {
        back.get(point as usize).copied()
    });
    // The seed, before byte 20, is another one.
    assert_eq!(graph.to_bytes(POINTS)[20..], again.to_bytes(POINTS)[20..]);
}

#[test]
fn lists_shrink_and_grow_without_what_was_in_them() {
    let graph = Graph::new(Parameters { m: 2, ef_construction: 10, seed: 1 });
    graph.extend_to(9);
    let lists = graph.lists();
    let list = lists.list(9, 0).unwrap();
    let links: [&[u32]; 6] = [&[1, 2, 3, 4], &[5], &[6, 0], &[], &[7, 8, 5], &[4, 3, 2, 1]];
    for links in links {
        Graph::write_list(list, links);
        assert_eq!(links_of(list).collect::<Vec<_>>(), links);
    }
}

#[test]
fn lists_above_the_lowest_layer_are_whole_or_not_in_a_view() {
    let graph = Graph::new(Parameters { m: 100, ef_construction: 100, seed: 1 });
    graph.extend_to(99);
    for point in 0..100 {
        let before = graph.lists();
        let top = u8::try_from(point % 16 + 1).unwrap();
        graph.make_upper(point, top);
        let seen = before.top_layer(point);
        assert!(seen == 0 || seen == top, "a view from before knows all lists or none");
        assert_eq!(before.list(point, 1).is_some(), seen > 0);
        let lists = graph.lists();
        for layer in 1..=top {
            let list = lists.list(point, layer).unwrap();
            assert_eq!((list.len(), links_of(list).count()), (100, 0));
            Graph::write_list(list, &[point; 100]);
        }
        assert!(lists.list(point, top + 1).is_none());
    }
    let lists = graph.lists();
    for point in 0..100 {
        for layer in 1..=lists.top_layer(point) {
            assert!(links_of(lists.list(point, layer).unwrap()).all(|link| link == point));
        }
    }
}

/// Points on a line, which a graph without upper layers cannot cross, replaced many times over.
#[test]
fn a_graph_that_is_relocated_often_stays_as_good() {
    const POINTS: u32 = 1_500;
    const REPLACED: u32 = 60;
    let value = |row: u32| f32::from(u16::try_from(row * 7_919 % POINTS).unwrap());
    let metric = Metric::new(Distance::L2);
    let mut rng = SplitMix64::new(4);
    let mut rows: Vec<u32> = (0..POINTS).collect();
    let matrix =
        |rows: &[u32]| Matrix::new(2, rows.iter().flat_map(|row| [value(*row), 1.0]).collect());
    let mut graph = build(&matrix(&rows), metric, 0..POINTS);
    for _ in 0..200 {
        let old = matrix(&rows);
        let mut gone = u32::try_from(rng.below(25)).unwrap();
        let step = POINTS / REPLACED;
        let mut stay = Vec::new();
        let mut left = Vec::new();
        for (place, row) in (0..POINTS).zip(&rows) {
            if place == gone && left.len() < REPLACED as usize {
                left.push(*row);
                gone += step;
            } else {
                stay.push(place);
            }
        }
        let to = |point| stay.binary_search(&point).ok().map(|at| u32::try_from(at).unwrap());
        graph = graph.relocated(&FullPrecision::new(metric, &old), POINTS, to);
        let kept = u32::try_from(stay.len()).unwrap();
        rows = stay.iter().map(|place| rows[*place as usize]).chain(left).collect();
        extend(&graph, &matrix(&rows), metric, kept..POINTS);
    }
    let now = matrix(&rows);
    let made = build(&now, metric, 0..POINTS);
    let recall = |graph: &Graph| -> f64 {
        let hits: usize = (0..100)
            .map(|at| {
                let query = [f32::from(u16::try_from(at * 15).unwrap()) + 0.3, 1.0];
                let all = 0..POINTS;
                let truth = flat::search(&metric, &metric.probe(&query), &now, all, 10).0;
                let found = search(graph, &now, metric, &query, |_| true);
                truth.iter().filter(|t| found.iter().any(|f| f.ordinal == t.ordinal)).count()
            })
            .sum();
        hits as f64 / 1_000.0
    };
    let [got, expected] = [&graph, &made].map(recall);
    assert!(got >= expected - 0.02, "{got}, built anew {expected}");
}

#[test]
fn duplicates_are_all_found() {
    let matrix = Matrix::new(4, vec![0.5; 4 * 500]);
    let metric = Metric::new(Distance::L2);
    let graph = build(&matrix, metric, 0..500);
    let found = search(&graph, &matrix, metric, &[0.5; 4], |_| true);
    assert_eq!(found.len(), 10);
}

#[test]
fn threads_insert_while_others_search() {
    let matrix = clusters(8, 4_000, 16, 20);
    let metric = Metric::new(Distance::Cosine);
    let graph = build(&matrix, metric, 0..100);
    std::thread::scope(|scope| {
        for part in 0..4_u32 {
            let (graph, matrix) = (&graph, &matrix);
            scope.spawn(move || {
                extend(graph, matrix, metric, 100 + part * 975..100 + (part + 1) * 975);
            });
        }
        let mut hits = 0;
        for _ in 0..200 {
            let query = matrix.vector(7).unwrap();
            let found = search(&graph, &matrix, metric, query, |row| row < 100);
            assert!(found.iter().all(|n| n.ordinal < 100), "a row that may not be seen");
            hits += u32::from(found.first().is_some_and(|n| n.ordinal == 7));
        }
        // A search may meet lists that are being written.
        assert!(hits >= 160, "the query's own row was found in {hits} of 200 searches");
    });
    let got = mean_recall(&graph, &matrix, metric, |_| true);
    assert!(got >= 0.94, "recall@10 {got}");
}

#[test]
fn zero_vectors_stay_out_of_a_cosine_graph() {
    let matrix = Matrix::new(2, vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let metric = Metric::new(Distance::Cosine);
    let graph = Graph::new(Parameters::default());
    let quantizer = FullPrecision::new(metric, &matrix);
    let builder = Builder::new(&graph, &quantizer);
    assert_eq!([0, 1, 2, 3].map(|p| builder.insert(p)), [true, false, true, false]);
    let found = search(&graph, &matrix, metric, &[1.0, 0.1], |_| true);
    assert_eq!(found.iter().map(|n| n.ordinal).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_search_gives_up_at_its_limit() {
    let matrix = clusters(3, 1_000, 8, 20);
    let metric = Metric::new(Distance::L2);
    let graph = build(&matrix, metric, 0..1_000);
    let quantizer = FullPrecision::new(metric, &matrix);
    let options = SearchOptions { k: 10, ef: 60, visits_max: 5, stop: None };
    let query = quantizer.query(matrix.vector(0).unwrap()).unwrap();
    assert_eq!(graph.search(&quantizer, &query, options).0, SearchOutcome::GaveUp);
}

#[test]
fn bytes_carry_the_whole_graph_and_damage_is_refused() {
    let matrix = clusters(4, 1_200, 8, 20);
    let metric = Metric::new(Distance::L2);
    let graph = build(&matrix, metric, 0..1_200);
    let bytes = graph.to_bytes(1_000);
    let (copy, points) = Graph::from_bytes(&bytes).unwrap();
    assert_eq!(points, 1_000);
    assert_eq!(copy.to_bytes(1_000), bytes);
    assert!(mean_recall(&copy, &matrix, metric, |row| row < 1_000) >= 0.93);
    for cut in [0, 3, 20, bytes.len() / 2, bytes.len() - 1] {
        assert!(Graph::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut rng = SplitMix64::new(11);
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
        damaged[at] ^= 1 << rng.below(8);
        // Either refused or a graph that can be walked: never a panic.
        if let Ok((graph, _)) = Graph::from_bytes(&damaged) {
            search(&graph, &matrix, metric, matrix.vector(1).unwrap(), |_| true);
        }
    }
    // A point above layer 0 a second time.
    let lists = graph.lists();
    let upper: Vec<u32> = (0..1_000).filter(|point| lists.top_layer(*point) > 0).collect();
    let last = u32::to_le_bytes(*upper.last().unwrap());
    let count = u32::try_from(upper.len()).unwrap().to_le_bytes();
    let end = bytes.windows(8).position(|w| w == [count, upper[0].to_le_bytes()].concat()).unwrap();
    let start = bytes[end..].windows(4).rposition(|w| w == last).unwrap() + end;
    let mut twice = [&bytes[..], &bytes[start..]].concat();
    twice[end] += 1;
    let error = Graph::from_bytes(&twice).unwrap_err();
    assert_eq!(error.what, "upper point named twice");
    assert!(
        Graph::from_bytes(&Graph::new(Parameters::default()).to_bytes(0)).unwrap().0.is_empty()
    );
}

/// Rows of which every `one_in`-th is the same vector, and queries near the others.
fn with_copies(rows: usize, dim: usize, one_in: usize) -> (Matrix, Matrix) {
    let mut rng = SplitMix64::new(31);
    let copied: Vec<f32> = (0..dim).map(|_| about(&mut rng, 0.0, 1.0)).collect();
    let mut values = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        if row % one_in == 0 {
            values.extend_from_slice(&copied);
        } else {
            values.extend((0..dim).map(|_| about(&mut rng, 0.0, 1.0)));
        }
    }
    let queries = (0..100 * dim).map(|_| about(&mut rng, 0.0, 1.0)).collect();
    (Matrix::new(dim, values), Matrix::new(dim, queries))
}

/// Recall of `ef` 100 for ten, a row as near as the tenth counting as found.
fn recall_of<Q: crate::quantize::Quantizer>(
    graph: &Graph,
    quantizer: &Q,
    (matrix, queries): (&Matrix, &Matrix),
    metric: Metric,
    admit: impl Fn(u32) -> bool + Copy,
) -> f64 {
    let options = SearchOptions { k: 30, ef: 100, visits_max: u64::MAX, stop: None };
    let mut hits = 0.0;
    for at in 0..rows(queries) {
        let query = queries.vector(at).unwrap();
        let probe = metric.probe(query);
        let admitted = (0..rows(matrix)).filter(|row| admit(*row));
        let truth = flat::search(&metric, &probe, matrix, admitted, 10).0;
        let prepared = quantizer.query(query).unwrap();
        let SearchOutcome::Found(found) =
            graph.search_admitted(quantizer, &prepared, options, admit).0
        else {
            panic!("no limit was set")
        };
        let mut exact: Vec<f32> =
            found.iter().map(|n| metric.eval(&probe, matrix.vector(n.ordinal).unwrap())).collect();
        exact.sort_by(f32::total_cmp);
        let near = exact.iter().take(10).filter(|value| **value <= truth[truth.len() - 1].value);
        hits += near.count() as f64 / truth.len() as f64;
    }
    hits / queries.rows() as f64
}

#[test]
fn the_head_of_a_chain_stays_on_its_list() {
    use crate::quantize::{Batch, Codec, Codes};
    // Longer rows come before copies of a short one, by inner product.
    let (dim, copies, others) = (8, 300_u32, 1_500_u32);
    let mut rng = SplitMix64::new(5);
    let mut values = vec![0.5; dim * copies as usize];
    values.extend((0..others as usize * dim).map(|_| about(&mut rng, 1.0, 3.0)));
    let matrix = Matrix::new(dim, values);
    let metric = Metric::new(Distance::InnerProduct);
    let codec = Codec::new(types::Quantization::Polar2, Distance::InnerProduct, dim, None).unwrap();
    let codes = Codes::new(codec);
    codes.append(&Batch::encode(codes.codec(), (0..rows(&matrix)).map(|row| matrix.vector(row))));
    let view = codes.view();
    let exact = FullPrecision::new(metric, &matrix);
    let [on_rows, on_codes] = [(); 2].map(|()| Graph::new(Parameters::default()));
    let (by_rows, by_codes) = (Builder::new(&on_rows, &exact), Builder::new(&on_codes, &view));
    (0..rows(&matrix)).for_each(|row| assert!(by_rows.insert(row) && by_codes.insert(row)));
    let options = SearchOptions { k: 300, ef: 300, visits_max: u64::MAX, stop: None };
    let query = vec![0.5; dim];
    let admit = |row: u32| row < copies;
    let count = |outcome| match outcome {
        SearchOutcome::Found(found) => {
            let missed = (0..copies).filter(|row| found.iter().all(|n| n.ordinal != *row));
            missed.collect::<Vec<u32>>()
        }
        SearchOutcome::GaveUp => panic!("no limit was set"),
    };
    let probe = exact.query(&query).unwrap();
    assert_eq!(count(on_rows.search_admitted(&exact, &probe, options, admit).0), []);
    let probe = view.query(&query).unwrap();
    assert_eq!(count(on_codes.search_admitted(&view, &probe, options, admit).0), []);
}

#[test]
fn copies_of_a_row_hide_nothing() {
    use crate::quantize::{Batch, Codec, Codes};
    for (dim, one_in) in [(8, 10), (8, 2), (48, 2), (48, 10), (48, usize::MAX)] {
        let (matrix, queries) = with_copies(4_000, dim, one_in);
        for distance in [Distance::L2, Distance::Cosine] {
            let metric = Metric::new(distance);
            let exact = FullPrecision::new(metric, &matrix);
            let codec = Codec::new(types::Quantization::Sq8, distance, dim, None).unwrap();
            let codes = Codes::new(codec);
            codes.append(&Batch::encode(codes.codec(), (0..4_000).map(|row| matrix.vector(row))));
            let view = codes.view();
            let parameters = Parameters { m: 16, ef_construction: 100, seed: 1 };
            let [on_rows, on_codes] = [(); 2].map(|()| Graph::new(parameters));
            let (by_rows, by_codes) =
                (Builder::new(&on_rows, &exact), Builder::new(&on_codes, &view));
            (0..4_000).for_each(|row| assert!(by_rows.insert(row) && by_codes.insert(row)));
            let sets = (&matrix, &queries);
            let halves: [fn(u32) -> bool; 2] = [|_| true, |row| row % 3 > 0];
            for admit in halves {
                let all = recall_of(&on_rows, &exact, sets, metric, admit);
                let coded = recall_of(&on_codes, &view, sets, metric, admit);
                println!("{dim}-d, one in {one_in}, {distance:?}: {all} {coded}");
                assert!(
                    all >= 0.97 && coded >= 0.96,
                    "{dim}-d {one_in} {distance:?}: {all} {coded}"
                );
            }
            let copied = matrix.vector(0).unwrap();
            let options = SearchOptions { k: 50, ef: 60, visits_max: u64::MAX, stop: None };
            let query = exact.query(copied).unwrap();
            // Each copy can be reached, also when only some may be seen, and from what was written.
            let (read, _) = Graph::from_bytes(&on_rows.to_bytes(3_900)).unwrap();
            for graph in [&on_rows, &read] {
                for part in 0..4 {
                    let admit = |row: u32| row % 4 == part && row < 3_900;
                    let found = graph.search_admitted(&exact, &query, options, admit).0;
                    let SearchOutcome::Found(found) = found else { panic!("no limit was set") };
                    let truth =
                        (0..3_900).filter(|row| admit(*row) && matrix.vector(*row) == Some(copied));
                    let same = found.iter().filter(|n| matrix.vector(n.ordinal) == Some(copied));
                    assert_eq!(same.count(), truth.count().min(50), "{dim}-d {one_in} part {part}");
                }
            }
        }
    }
}
