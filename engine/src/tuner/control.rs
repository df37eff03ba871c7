//! The law by which `ef` moves once a minute: the recall target is its floor, and what the latency
//! budget leaves is spent on recall. A pure function of what was seen; nothing here reads a clock.
//!
//! `ef` counts in multiples of `k`, and the 95th percentile is taken to grow in proportion with it at
//! most. So a step that aims inside the band between [`SPARE`] and the budget lands there, and the law
//! comes to rest.

use serde::{Deserialize, Serialize};

/// Searches in a window from which its percentile says something.
pub(crate) const SEARCHES_MIN: u64 = 50;
/// Windows in a row that must ask for the same before `ef` moves: one burst moves nothing.
const PATIENCE: i8 = 2;
/// Largest change of `ef` in one step.
const STEP: f64 = 0.25;
/// The part of the budget under which latency is to spare.
const SPARE: f64 = 0.7;
/// The part of the budget that a step aims at.
const AIM: f64 = 0.85;
/// How far above the floor `ef` may stay without a budget: the floor is an estimate and wavers.
const BAND: f64 = 0.1;

/// What `ef` must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The least multiple of `k` that reaches the recall target.
    pub(crate) floor: f64,
    /// The multiple beyond which recall does not grow.
    pub(crate) ceiling: f64,
    /// The latency budget in microseconds.
    pub(crate) budget: Option<f64>,
    /// Whether the budget counts for more than the target.
    pub(crate) budget_first: bool,
}

/// What was seen in one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) searches: u64,
    /// 95th percentile of the latency in microseconds.
    pub(crate) p95: f64,
}

/// Why `ef` moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// The recall target needs more.
    Target,
    /// The latency budget was exceeded.
    Budget,
    /// The latency budget leaves room for more recall.
    Spare,
    /// The recall target needs less.
    Relax,
}

impl Reason {
    /// As shown.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Target => "below the recall target",
            Self::Budget => "over the latency budget",
            Self::Spare => "latency to spare",
            Self::Relax => "above the recall target",
        }
    }
}

/// Where `ef` is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Controller {
    /// The multiple of `k`.
    pub(crate) ratio: f64,
    /// Windows in a row that asked for more, or for less when negative.
    pressure: i8,
}

impl Controller {
    pub(crate) fn new(ratio: f64) -> Self {
        Self { ratio, pressure: 0 }
    }

    /// Takes in a window; why `ef` moved, when it did.
    pub(crate) fn step(&mut self, window: Window, bounds: &Bounds) -> Option<Reason> {
        let floor = bounds.floor.clamp(1.0, bounds.ceiling.max(1.0));
        if self.ratio < floor && !(bounds.budget_first && bounds.budget.is_some()) {
            *self = Self::new(floor);
            return Some(Reason::Target);
        }
        if window.searches < SEARCHES_MIN {
            self.pressure = 0;
            return None;
        }
        let Some(budget) = bounds.budget else {
            let much = self.ratio > floor * (1.0 + BAND);
            return self.press(if much { -1 } else { 0 }).then(|| {
                self.ratio = (self.ratio * (1.0 - STEP)).max(floor);
                Reason::Relax
            });
        };
        let least = if bounds.budget_first { 1.0 } else { floor };
        let aim = AIM * budget / window.p95.max(1.0);
        if window.p95 > budget && self.ratio > least {
            let down = (self.ratio * aim.max(1.0 - STEP)).max(least);
            return self.press(-1).then(|| {
                self.ratio = down;
                Reason::Budget
            });
        }
        let most = bounds.ceiling.max(floor);
        if window.p95 < SPARE * budget && self.ratio < most {
            let up = (self.ratio * aim.min(1.0 + STEP)).min(most);
            return self.press(1).then(|| {
                self.ratio = up;
                Reason::Spare
            });
        }
        self.pressure = 0;
        None
    }

    /// Notes which way a window presses; true when it is time to give way.
    fn press(&mut self, way: i8) -> bool {
        let same = self.pressure.signum() == way;
        self.pressure = if same { self.pressure.saturating_add(way) } else { way };
        let moves = way != 0 && self.pressure.abs() >= PATIENCE;
        if moves {
            self.pressure = 0;
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SplitMix64;

    /// A load: searches in a window, and how many times slower than alone they are; and the floor.
    type Load<'a> = &'a dyn Fn(usize, &mut SplitMix64) -> (u64, f64, f64);

    struct Run {
        ratios: Vec<f64>,
        p95s: Vec<f64>,
        floors: Vec<f64>,
        moves: Vec<(usize, Reason)>,
    }

    const WINDOWS: usize = 200;

    /// Runs the law on a load where a search takes 100 microseconds and 50 more for each k of ef.
    fn run(bounds: Bounds, load: Load<'_>) -> Run {
        let mut rng = SplitMix64::new(3);
        let mut controller = Controller::new(bounds.floor);
        let mut run = Run { ratios: vec![], p95s: vec![], floors: vec![], moves: vec![] };
        for at in 0..WINDOWS {
            let (searches, slower, floor) = load(at, &mut rng);
            let p95 = (100.0 + 50.0 * controller.ratio) * slower;
            let bounds = Bounds { floor, ..bounds };
            if let Some(reason) = controller.step(Window { searches, p95 }, &bounds) {
                run.moves.push((at, reason));
            }
            run.ratios.push(controller.ratio);
            run.p95s.push((100.0 + 50.0 * controller.ratio) * slower);
            run.floors.push(floor);
            if !bounds.budget_first {
                assert!(controller.ratio >= floor, "below the target at {at}");
            }
        }
        run
    }

    impl Run {
        /// Nothing moved in these windows.
        fn holds(&self, windows: std::ops::Range<usize>) -> &Self {
            let moved = self.moves.iter().find(|(at, _)| windows.contains(at));
            assert_eq!(moved, None, "{:?}", self.ratios);
            self
        }

        fn last(&self) -> (f64, f64) {
            (self.ratios[WINDOWS - 1], self.p95s[WINDOWS - 1])
        }
    }

    fn bounds(budget: Option<f64>) -> Bounds {
        Bounds { floor: 4.0, ceiling: 40.0, budget, budget_first: false }
    }

    fn noise(rng: &mut SplitMix64) -> f64 {
        1.0 + (rng.unit() - 0.5) * 0.1
    }

    #[test]
    fn idle_moves_nothing() {
        let run = run(bounds(Some(10.0)), &|_, _| (SEARCHES_MIN - 1, 1.0, 4.0));
        run.holds(0..WINDOWS);
    }

    #[test]
    fn a_steady_load_uses_the_budget_and_rests() {
        let run = run(bounds(Some(1_000.0)), &|_, rng| (1_000, noise(rng), 4.0));
        let (ratio, p95) = run.holds(40..WINDOWS).last();
        assert!(ratio > 10.0 && (650.0..1_000.0).contains(&p95), "{ratio} {p95}");
    }

    #[test]
    fn a_step_up_gives_way_and_a_step_down_takes_back() {
        let step = |at: usize| if (60..120).contains(&at) { 2.5 } else { 1.0 };
        let run = run(bounds(Some(1_000.0)), &|at, rng| (1_000, step(at) * noise(rng), 4.0));
        run.holds(40..60).holds(80..120).holds(150..WINDOWS);
        assert!(run.p95s[119] <= 1_050.0 && run.ratios[119] < run.ratios[59]);
        assert!(run.ratios[199] > 1.5 * run.ratios[119]);
    }

    #[test]
    fn a_burst_of_one_window_is_ignored() {
        let burst = |at: usize| if at % 20 == 19 { 5.0 } else { 1.0 };
        let run = run(bounds(Some(1_000.0)), &|at, rng| (1_000, burst(at) * noise(rng), 4.0));
        run.holds(40..WINDOWS);
    }

    #[test]
    fn a_slow_drift_is_followed_in_few_moves() {
        let drift = |at: usize| 1.0 + at as f64 / 100.0;
        let run = run(bounds(Some(1_000.0)), &|at, _| (1_000, drift(at), 4.0));
        assert!(run.p95s[40..].iter().all(|p95| *p95 < 1_100.0));
        let later = run.moves.iter().filter(|(at, _)| *at > 40).count();
        assert!((1..=10).contains(&later), "{later} moves");
    }

    #[test]
    fn a_noisy_neighbour_never_costs_the_target() {
        let slow = |at: usize| if (50..90).contains(&at) { 30.0 } else { 1.0 };
        let run = run(bounds(Some(1_000.0)), &|at, rng| (1_000, slow(at) * noise(rng), 4.0));
        assert!((run.ratios[89] - 4.0).abs() < 1e-9, "the floor, and no further");
        run.holds(70..90).holds(130..WINDOWS);
        assert!(run.ratios[199] > 10.0, "recovers");
    }

    #[test]
    fn a_budget_that_cannot_be_met_rests_at_the_target() {
        let run = run(bounds(Some(50.0)), &|_, rng| (1_000, noise(rng), 4.0));
        run.holds(0..WINDOWS);
        assert!((run.last().0 - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_budget_that_comes_first_is_met() {
        let first = Bounds { budget_first: true, floor: 20.0, ..bounds(Some(500.0)) };
        let run = run(first, &|_, rng| (1_000, noise(rng), 20.0));
        let (ratio, p95) = run.holds(40..WINDOWS).last();
        assert!(ratio < 20.0 && p95 <= 500.0, "{ratio} {p95}");
    }

    #[test]
    fn a_target_that_gets_harder_is_followed_at_once_and_easier_later() {
        let floor = |at: usize| if (50..100).contains(&at) { 12.0 } else { 4.0 };
        let run = run(bounds(None), &|at, _| (1_000, 1.0, floor(at)));
        assert!((run.ratios[50] - 12.0).abs() < 1e-9);
        run.holds(51..100).holds(120..WINDOWS);
        assert!(run.last().0 <= 4.0 * (1.0 + BAND));
        assert_eq!(run.moves[0], (50, Reason::Target));
        assert!(run.moves[1..].iter().all(|(_, reason)| *reason == Reason::Relax));
    }

    #[test]
    fn a_target_that_wavers_settles_on_its_upper_edge() {
        let run = run(bounds(None), &|_, rng| (1_000, 1.0, 4.0 * (1.0 + 0.08 * rng.unit())));
        let later = run.moves.iter().filter(|(at, _)| *at > 60).count();
        assert!(later <= 3, "{later} moves");
    }

    #[test]
    fn traffic_that_comes_and_goes_keeps_what_was_learned() {
        let searches = |at: usize| if at % 40 < 20 { 1_000 } else { 0 };
        let run = run(bounds(Some(1_000.0)), &|at, rng| (searches(at), noise(rng), 4.0));
        run.holds(60..WINDOWS);
        assert!(run.last().0 > 10.0);
    }

    #[test]
    fn nothing_goes_beyond_where_recall_ends() {
        let run = run(bounds(Some(1e9)), &|_, _| (1_000, 1.0, 4.0));
        assert!((run.last().0 - 40.0).abs() < 1e-9);
        run.holds(60..WINDOWS);
    }
}
