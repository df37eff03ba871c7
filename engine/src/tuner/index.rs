//! What is known of the searches of one index, and the `ef` that follows from it.

use std::collections::BTreeMap;

use catalog::{HnswOptions, Index};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use types::IndexId;

use super::class::Class;
use super::control::{Bounds, Controller, Reason, Window};
use super::latency::{Latencies, Percentiles};
use super::model::{Estimate, RUNGS, RecallModel, ef_of};

/// Candidates of a walk before anything is known of its recall, and at least so many times `k`.
const EF_COLD: usize = 64;
const RATIO_COLD: usize = 4;
/// A target above this takes twice as many.
const TARGET_HIGH: f64 = 0.97;
/// Recall beyond which a latency budget buys nothing.
const RECALL_ENOUGH: f64 = 0.999;
/// One of so many searches is a sample while there are fewer samples than the number beside it.
const SAMPLED: [(f64, u64); 3] = [(32.0, 1), (256.0, 4), (1_000.0, 16)];
/// ... and from then on.
const SAMPLED_LATER: u64 = 128;
/// Numbers of samples at which `ef` follows the model without waiting for the end of a window.
const LEARNED_AT: [f64; 7] = [16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// How a session wants `ef` chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// This many candidates.
    Ef(usize),
    /// As many as this recall takes.
    Recall(f64),
    /// As many as the index's own target and budget take.
    Index,
}

/// A chosen `ef`, and the recall to expect from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) ef: usize,
    pub(crate) expected: Option<Estimate>,
}

/// A change of `ef`, which counts in multiples of `k`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) at: i64,
    pub(crate) index: IndexId,
    pub(crate) class: Class,
    /// Absent at the first.
    pub(crate) from: Option<f64>,
    pub(crate) to: f64,
    /// The window's 95th percentile in microseconds; absent between windows.
    pub(crate) p95: Option<f64>,
    pub(crate) recall: f64,
    /// Absent when samples came in, between windows.
    pub(crate) reason: Option<Reason>,
}

#[derive(Debug, Clone, Default)]
struct ClassState {
    model: RecallModel,
    controller: Option<Controller>,
    searches: u64,
    window: Latencies,
    /// Of the last window that had searches.
    last: Percentiles,
}

/// What is kept of a class in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedClass {
    class: Class,
    model: RecallModel,
    controller: Option<Controller>,
}

/// What is shown of a class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClassReport {
    pub(crate) class: Class,
    pub(crate) searches: u64,
    pub(crate) samples: f64,
    /// Multiple of `k`.
    pub(crate) ratio: Option<f64>,
    pub(crate) expected: Option<Estimate>,
    pub(crate) latency: Percentiles,
}

/// The searches of one index.
#[derive(Debug)]
pub(crate) struct IndexTuning {
    pub(crate) id: IndexId,
    options: HnswOptions,
    classes: Mutex<BTreeMap<Class, ClassState>>,
}

impl IndexTuning {
    pub(crate) fn new(definition: &Index) -> Self {
        Self { id: definition.id, options: definition.options, classes: Mutex::default() }
    }

    /// The index's recall target.
    pub(crate) fn target(&self) -> f64 {
        self.options.recall_target()
    }

    /// The candidates for a search of `class` for `k` rows.
    pub(crate) fn choose(&self, class: Class, k: usize, goal: Goal) -> Choice {
        let classes = self.classes.lock();
        let known = classes.get(&class).filter(|state| state.model.at(1.0).is_some());
        let known = known.or_else(|| classes.get(&class.unfiltered()));
        let at = |ef: usize| known.and_then(|state| state.model.at(ef as f64 / k.max(1) as f64));
        let learned = |target: f64| known.and_then(|state| state.model.ratio_for(target));
        let ratio = match goal {
            Goal::Ef(ef) => {
                // Codes order the rows about the k-th wrongly; this many of them put it right.
                let coded = self.options.quantization != types::Quantization::None;
                let ef = if coded { ef.max(k.saturating_mul(2)) } else { ef.max(k) };
                return Choice { ef, expected: at(ef) };
            }
            Goal::Recall(target) => learned(target),
            Goal::Index => {
                let held = known.and_then(|state| state.controller).map(|held| held.ratio);
                held.or_else(|| learned(self.target()))
            }
        };
        let target = if let Goal::Recall(target) = goal { target } else { self.target() };
        let cold = || {
            let ef = EF_COLD.max(k.saturating_mul(RATIO_COLD));
            if target > TARGET_HIGH { ef.saturating_mul(2) } else { ef }
        };
        let ef = ratio.map_or_else(cold, |ratio| ef_of(ratio, k));
        Choice { ef, expected: at(ef) }
    }

    /// Notes a search; true when it is to be a sample.
    pub(crate) fn note(&self, class: Class, micros: i64) -> bool {
        let mut classes = self.classes.lock();
        let state = classes.entry(class).or_default();
        state.window.note(micros);
        let samples = state.model.samples();
        let every = SAMPLED.iter().find(|(below, _)| samples < *below);
        let sampled = state.searches.is_multiple_of(every.map_or(SAMPLED_LATER, |(_, n)| *n));
        state.searches += 1;
        sampled
    }

    /// Samples remembered of a class.
    pub(crate) fn samples(&self, class: Class) -> f64 {
        self.classes.lock().get(&class).map_or(0.0, |state| state.model.samples())
    }

    /// Takes in the recall of a sample on every rung; how `ef` moved, when it did.
    pub(crate) fn learn(&self, class: Class, recalls: &[f64; RUNGS], at: i64) -> Option<Move> {
        let mut classes = self.classes.lock();
        let state = classes.entry(class).or_default();
        state.model.learn(recalls);
        // Below the target the law keeps to the budget, and finds its way itself.
        let kept = self.options.latency_first && self.options.latency_budget_us.is_some();
        if kept && state.controller.is_some() {
            return None;
        }
        let due = LEARNED_AT.iter().any(|n| (state.model.samples() - n).abs() < 0.5);
        let to = due.then(|| state.model.ratio_for(self.target())).flatten()?;
        let from = state.controller.replace(Controller::new(to)).map(|held| held.ratio);
        let recall = state.model.at(to)?.recall;
        let (index, reason) = (self.id, None);
        Some(Move { at, index, class, from, to, p95: None, recall, reason })
    }

    /// Ends a window; how the `ef` of each class moved.
    pub(crate) fn step(&self, at: i64) -> Vec<Move> {
        let mut moves = Vec::new();
        for (class, state) in self.classes.lock().iter_mut() {
            let seen = std::mem::take(&mut state.window).percentiles();
            if seen.searches > 0 {
                state.last = seen;
            }
            let Some(floor) = state.model.ratio_for(self.target()) else { continue };
            let ceiling = state.model.ratio_for(RECALL_ENOUGH).unwrap_or(floor).max(floor);
            let budget = self.options.latency_budget_us.map(f64::from);
            let budget_first = self.options.latency_first;
            let bounds = Bounds { floor, ceiling, budget, budget_first };
            let controller = state.controller.get_or_insert(Controller::new(floor));
            let from = controller.ratio;
            let window = Window { searches: seen.searches, p95: seen.p95 };
            let Some(reason) = controller.step(window, &bounds) else { continue };
            let to = controller.ratio;
            moves.push(Move {
                at,
                index: self.id,
                class: *class,
                from: Some(from),
                to,
                p95: (seen.searches > 0).then_some(seen.p95),
                recall: state.model.at(to).map_or(0.0, |expected| expected.recall),
                reason: Some(reason),
            });
        }
        moves
    }

    /// All classes that were searched, the busiest first.
    pub(crate) fn report(&self) -> Vec<ClassReport> {
        let classes = self.classes.lock();
        let report = |(class, state): (&Class, &ClassState)| {
            let held = state.controller.map(|held| held.ratio);
            let ratio = held.or_else(|| state.model.ratio_for(self.target()));
            let latency =
                if state.last.searches > 0 { state.last } else { state.window.percentiles() };
            ClassReport {
                class: *class,
                searches: state.searches,
                samples: state.model.samples(),
                ratio,
                expected: ratio.and_then(|ratio| state.model.at(ratio)),
                latency,
            }
        };
        let mut reports: Vec<ClassReport> = classes.iter().map(report).collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.searches));
        reports
    }

    pub(crate) fn saved(&self) -> Vec<SavedClass> {
        let saved = |(class, state): (&Class, &ClassState)| SavedClass {
            class: *class,
            model: state.model.clone(),
            controller: state.controller,
        };
        self.classes.lock().iter().map(saved).collect()
    }

    /// Takes in what was kept; classes that are not sound are left out.
    pub(crate) fn restore(&self, saved: Vec<SavedClass>) {
        let mut classes = self.classes.lock();
        for SavedClass { class, model, controller } in saved {
            let known = controller.is_none_or(|held| (1.0..=1e6).contains(&held.ratio));
            if model.is_sound() && known {
                classes.insert(class, ClassState { model, controller, ..ClassState::default() });
            }
        }
    }
}
