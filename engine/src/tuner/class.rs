//! Searches that are alike: of one index, for about as many rows, among about the same share of the
//! table.

use serde::{Deserialize, Serialize};

/// Largest `k` of each class.
const K_MAX: [usize; 9] = [1, 3, 7, 12, 20, 40, 80, 160, usize::MAX];
/// Least share of the points that qualify, of each class.
const SHARE_MIN: [f64; 9] = [0.98, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.002, 0.0];

/// A class of searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Class {
    k: u8,
    share: u8,
}

impl Class {
    /// The class of a search for `k` rows among `qualifying` of `points`.
    pub(crate) fn of(k: usize, qualifying: usize, points: u32) -> Self {
        let share = qualifying as f64 / f64::from(points.max(1));
        let k = K_MAX.iter().position(|most| k <= *most).unwrap_or(0);
        let share = SHARE_MIN.iter().position(|least| share >= *least).unwrap_or(0);
        let small = |at: usize| u8::try_from(at).unwrap_or(u8::MAX);
        Self { k: small(k), share: small(share) }
    }

    /// The class of searches for as many rows that nothing filters.
    pub(crate) fn unfiltered(self) -> Self {
        Self { share: 0, ..self }
    }

    /// The numbers of rows, as shown: `8-12`.
    pub(crate) fn k_text(self) -> String {
        let at = usize::from(self.k).min(K_MAX.len() - 1);
        let least = at.checked_sub(1).map_or(1, |before| K_MAX[before] + 1);
        match K_MAX[at] {
            usize::MAX => format!("{least}-"),
            most if most == least => least.to_string(),
            most => format!("{least}-{most}"),
        }
    }

    /// The shares of the table, as shown: `0.2-0.5`.
    pub(crate) fn share_text(self) -> String {
        let at = usize::from(self.share).min(SHARE_MIN.len() - 1);
        let most = at.checked_sub(1).map_or(1.0, |before| SHARE_MIN[before]);
        format!("{}-{most}", SHARE_MIN[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_their_text_says() {
        let text = |k, qualifying| {
            let class = Class::of(k, qualifying, 1_000);
            (class.k_text(), class.share_text())
        };
        let texts = |k: &str, share: &str| (k.to_owned(), share.to_owned());
        assert_eq!(text(1, 1_000), texts("1", "0.98-1"));
        assert_eq!(text(10, 979), texts("8-12", "0.5-0.98"));
        assert_eq!(text(161, 2), texts("161-", "0.002-0.01"));
        assert_eq!(text(2, 0), texts("2-3", "0-0.002"));
        assert_eq!(Class::of(10, 5, 0).share_text(), "0.98-1", "an empty table");
        assert_eq!(Class::of(10, 3, 1_000).unfiltered(), Class::of(10, 1_000, 1_000));
    }
}
