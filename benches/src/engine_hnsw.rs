//! Builds the HNSW graph over a data set and prints build time, memory, and recall@10 and queries per
//! second for a sweep of `ef`, as JSON for the harnesses in `versus/`.
//!
//! `engine-hnsw DATA.npy QUERIES.npy [name=value ...]` with `distance` (`cosine`, `l2`, `inner_product`),
//! `quantization`, `oversample`, `m`, `ef_construction`, `build_threads`, `search_threads`
//! that share the queries, `seconds` per timing, `ef`.
//! `share` lets only that share of the rows qualify, drawn at random, and `way` says how they are
//! found: `graph` walks through all points, `scan` compares the codes of those that qualify. `slack` ends
//! a walk when candidates are farther than the k-th by this share; `none` never does, `auto` by a share
//! that goes with `ef`. Values of `ef`,
//! `share`, `way` and `slack` are lists with commas.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the result is the output")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use benches::engine::{End, Engine, K, Options, Way};
use types::{Distance, Quantization};
use vector::{Matrix, Neighbor, Vectors as _, recall};

struct Arguments {
    engine: Options,
    seconds: f64,
    threads: usize,
    sweep: Vec<usize>,
    shares: Vec<f64>,
    ways: Vec<Way>,
    ends: Vec<(String, End)>,
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut arguments = Self {
            engine: Options::default(),
            seconds: 0.5,
            threads: 1,
            shares: vec![1.0],
            ways: vec![Way::Graph],
            ends: vec![("auto".to_owned(), End::WithEf)],
            sweep: vec![10, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512],
        };
        for arg in args {
            let (name, value) = arg.split_once('=').ok_or(format!("{arg}: not name=value"))?;
            let number = || value.parse::<u32>().map_err(|e| format!("{arg}: {e}"));
            let options = &mut arguments.engine;
            match name {
                "distance" => {
                    options.distance = match value {
                        "cosine" => Distance::Cosine,
                        "l2" => Distance::L2,
                        "inner_product" => Distance::InnerProduct,
                        _ => return Err(format!("{arg}: no such distance")),
                    }
                }
                "quantization" => {
                    let found = Quantization::from_name(value);
                    options.quantization = found.ok_or(format!("{arg}: no such quantization"))?;
                }
                "oversample" => options.oversample = number()? as usize,
                "m" => options.parameters.m = number()?,
                "ef_construction" => options.parameters.ef_construction = number()?,
                "build_threads" => options.threads = number()? as usize,
                "search_threads" => arguments.threads = number()?.max(1) as usize,
                "seconds" => {
                    arguments.seconds = value.parse().map_err(|e| format!("{arg}: {e}"))?;
                }
                "share" => {
                    let shares: Result<_, _> = value.split(',').map(str::parse).collect();
                    arguments.shares = shares.map_err(|e| format!("{arg}: {e}"))?;
                }
                "slack" => {
                    let end = |text: &str| {
                        let end = match text {
                            "none" => Ok(End::All),
                            "auto" => Ok(End::WithEf),
                            _ => text.parse().map(End::Slack),
                        };
                        end.map(|end| (text.to_owned(), end)).map_err(|e| format!("{arg}: {e}"))
                    };
                    arguments.ends = value.split(',').map(end).collect::<Result<_, _>>()?;
                }
                "way" => {
                    let way = |name| match name {
                        "graph" => Ok(Way::Graph),
                        "scan" => Ok(Way::Scan),
                        _ => Err(format!("{arg}: no such way")),
                    };
                    arguments.ways = value.split(',').map(way).collect::<Result<_, _>>()?;
                }
                "ef" => {
                    let sweep: Result<_, _> = value.split(',').map(str::parse).collect();
                    arguments.sweep = sweep.map_err(|e| format!("{arg}: {e}"))?;
                }
                _ => return Err(format!("{arg}: no such option")),
            }
        }
        Ok(arguments)
    }
}

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().collect();
    let [_, data, queries, rest @ ..] = &args[..] else {
        return Err("usage: engine-hnsw DATA.npy QUERIES.npy [name=value ...]".to_owned());
    };
    let arguments = Arguments::parse(rest)?;
    let options = arguments.engine;
    let stored = benches::npy::read(Path::new(data))?;
    let queries = benches::npy::read(Path::new(queries))?;
    let matrix = Matrix::new(stored.columns, stored.values);
    let queries = Matrix::new(queries.columns, queries.values);
    let mut engine = Engine::new(&matrix, options);
    let started = Instant::now();
    let mut encode_seconds = 0.0;
    engine.build(|| encode_seconds = started.elapsed().as_secs_f64());
    let build_seconds = started.elapsed().as_secs_f64();
    let mut points = Vec::new();
    for share in &arguments.shares {
        for way in &arguments.ways {
            engine.filter(*share, *way);
            let truth = engine.ground_truth(&queries);
            let sweep = arguments
                .ends
                .iter()
                .flat_map(|end| arguments.sweep.iter().map(move |ef| (end, *ef)));
            for ((slack, end), ef) in sweep {
                engine.end(*end);
                let mut point = measure(&engine, &queries, (ef, &arguments), &truth);
                point["slack"] = slack.as_str().into();
                if *share < 1.0 {
                    point["share"] = (*share).into();
                    point["way"] = format!("{way:?}").to_lowercase().into();
                }
                points.push(point);
            }
        }
    }
    let (link_bytes, code_bytes) = engine.memory_bytes();
    let report = serde_json::json!({
        "rows": matrix.rows(),
        "dim": matrix.dim(),
        "quantization": options.quantization.name(),
        "m": options.parameters.m,
        "ef_construction": options.parameters.ef_construction,
        "build_threads": options.threads,
        "build_seconds": build_seconds,
        "encode_seconds": encode_seconds,
        "resident_bytes": link_bytes + code_bytes,
        "link_bytes": link_bytes,
        "points": points,
    });
    println!("{report:#}");
    Ok(())
}

fn measure(
    engine: &Engine<'_>,
    queries: &Matrix,
    (ef, arguments): (usize, &Arguments),
    truth: &[Vec<Neighbor>],
) -> serde_json::Value {
    let (mut hits, mut distances) = (0.0, 0);
    for (at, truth) in (0..).zip(truth) {
        let Some(query) = queries.vector(at) else { continue };
        let (found, stats) = engine.search(query, ef);
        hits += recall::recall_at(K, &found, truth);
        distances += stats.distances;
    }
    let mut best = f64::INFINITY;
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < arguments.seconds {
        let started = Instant::now();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 1..arguments.threads {
                scope.spawn(|| pass(engine, queries, ef, &next));
            }
            pass(engine, queries, ef, &next);
        });
        best = best.min(started.elapsed().as_secs_f64());
    }
    let count = truth.len() as f64;
    serde_json::json!({
        "ef": ef,
        "recall": hits / count,
        "qps": count / best,
        "distances": distances as f64 / count,
    })
}

/// Searches for the queries that no other thread has taken.
fn pass(engine: &Engine<'_>, queries: &Matrix, ef: usize, next: &AtomicUsize) {
    let take = || u32::try_from(next.fetch_add(1, Ordering::Relaxed)).ok();
    while let Some(query) = take().and_then(|at| queries.vector(at)) {
        std::hint::black_box(engine.search(query, ef));
    }
}
