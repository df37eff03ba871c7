//! Which segments become one: a pure policy over their sizes.
//!
//! Segments of a table follow each other by ordinal, and merging joins neighbours, the youngest
//! ones first. A segment takes part as soon as the ones behind it are [`FANOUT`]` - 1` times as
//! large together, so a row is written again at most `log4(rows of a segment / rows of a flush)`
//! times, and there are at most three times as many segments as such sizes.

use std::ops::Range;

/// Segments of about one size that become one.
const FANOUT: usize = 4;
/// Rows of the largest segment.
const SEGMENT_ROWS_MAX: usize = 1 << 20;

/// Chunks of the largest segment.
pub(crate) fn segment_chunks(chunk_rows: usize) -> usize {
    (SEGMENT_ROWS_MAX / chunk_rows).max(1)
}

/// Whether `part` of `whole` rows are worth being taken out of a segment: a quarter is, so that a row
/// is written again for this at most three times for each that goes. A `thorough` vacuum takes
/// out every one.
pub(crate) fn worth(part: usize, whole: usize, thorough: bool) -> bool {
    part > 0 && (thorough || part >= whole.div_ceil(4))
}

/// A segment to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its chunks.
    pub(crate) chunks: Range<usize>,
    /// The present segment that it is, when nothing is to be done.
    pub(crate) unchanged: Option<usize>,
}

/// The segments to have, given the sizes in chunks of those there are, when there are `full` chunks
/// in all.
pub(crate) fn plan(sizes: &[usize], full: usize, most: usize) -> Vec<Group> {
    let mut groups = plan_apart(sizes, full, most);
    while let Some(from) = merge(&groups, most) {
        let chunks = groups[from].chunks.start..full;
        groups.truncate(from);
        groups.push(Group { chunks, unchanged: None });
    }
    groups
}

/// The same without joining any.
pub(crate) fn plan_apart(sizes: &[usize], full: usize, most: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut next = 0;
    for (at, size) in sizes.iter().enumerate() {
        groups.push(Group { chunks: next..next + size, unchanged: Some(at) });
        next += size;
    }
    while next < full {
        let to = full.min(next + most);
        groups.push(Group { chunks: next..to, unchanged: None });
        next = to;
    }
    groups
}

/// The first segment of those, up to the last, that become one.
fn merge(groups: &[Group], most: usize) -> Option<usize> {
    let end = groups.last()?.chunks.end;
    (0..groups.len().checked_sub(FANOUT - 1)?).find(|from| {
        let first = &groups[*from].chunks;
        let behind = end - first.end;
        first.len() * (FANOUT - 1) <= behind && end - first.start <= most
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flushes of the given sizes; the segments at the end, and the chunks written in all.
    fn run(flushes: &[usize], most: usize) -> (Vec<usize>, usize) {
        let (mut sizes, mut full, mut written): (Vec<usize>, usize, usize) = (Vec::new(), 0, 0);
        for flush in flushes {
            full += flush;
            let groups = plan(&sizes, full, most);
            let mut next = 0;
            for group in &groups {
                assert_eq!(group.chunks.start, next, "segments follow each other");
                assert!(!group.chunks.is_empty() && group.chunks.len() <= most);
                next = group.chunks.end;
                match group.unchanged {
                    Some(at) => assert_eq!(group.chunks.len(), sizes[at]),
                    None => written += group.chunks.len(),
                }
            }
            assert_eq!(next, full);
            sizes = groups.iter().map(|group| group.chunks.len()).collect();
        }
        (sizes, written)
    }

    #[test]
    fn equal_flushes_make_a_tree_of_four() {
        assert_eq!(run(&[1; 3], 1_000).0, [1, 1, 1]);
        assert_eq!(run(&[1; 4], 1_000).0, [4]);
        assert_eq!(run(&[1; 19], 1_000).0, [16, 1, 1, 1]);
        assert_eq!(run(&[1; 64], 1_000), (vec![64], 208));
        assert_eq!(run(&[1; 64], 16).0, [16; 4], "no segment is larger than allowed");
        assert_eq!(run(&[40], 16).0, [16, 16, 8]);
    }

    proptest! {
        #[test]
        fn segments_stay_few_and_rows_are_seldom_written_again(
            flushes in prop::collection::vec(0_usize..40, 1..200),
        ) {
            let total: usize = flushes.iter().sum();
            let (sizes, written) = run(&flushes, 100_000);
            let depth = total.max(4).ilog(4) as usize + 2;
            prop_assert!(sizes.len() <= 4 * depth, "{sizes:?}");
            prop_assert!(written <= total * (depth + 2), "{written} of {total}");
        }
    }
}
