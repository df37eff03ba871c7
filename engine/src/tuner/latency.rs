//! Latencies in buckets that are each a fifth wider than the one before.

/// Buckets per doubling.
const PER_OCTAVE: f64 = 4.0;
/// The last bucket begins beyond a minute.
const BUCKETS: usize = 104;

/// How often a latency was seen.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    counts: [u32; BUCKETS],
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

/// Percentiles in microseconds, exact to about a tenth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Percentiles {
    pub(crate) searches: u64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

impl Latencies {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    pub(crate) fn note(&mut self, micros: i64) {
        let octaves = (micros.max(1) as f64).log2();
        let bucket = ((octaves * PER_OCTAVE) as usize).min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.total += 1;
    }

    fn percentile(&self, share: f64) -> f64 {
        let wanted = share * self.total as f64;
        let mut seen = 0.0;
        let reached = self.counts.iter().position(|count| {
            seen += f64::from(*count);
            seen >= wanted && seen > 0.0
        });
        reached.map_or(0.0, |bucket| ((bucket as f64 + 0.5) / PER_OCTAVE).exp2())
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| self.percentile(share));
        Percentiles { searches: self.total, p50, p95, p99 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_what_was_seen() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), Percentiles::default());
        (1..=1_000).for_each(|micros| latencies.note(micros));
        latencies.note(i64::MAX);
        latencies.note(-5);
        let Percentiles { searches, p50, p95, p99 } = latencies.percentiles();
        assert_eq!(searches, 1_002);
        for (found, expected) in [(p50, 500.0), (p95, 950.0), (p99, 990.0)] {
            assert!((found / expected - 1.0_f64).abs() < 0.11, "{found} for {expected}");
        }
    }
}
