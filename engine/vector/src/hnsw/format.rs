//! Bytes of a graph, version 1. All integers little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | version, 1 |
//! | 4 | `m` |
//! | 4 | `ef_construction` |
//! | 8 | seed |
//! | 4 | `points`: the graph covers ordinals `0..points` |
//! | 4 | entry point + 1, 0 for an empty graph |
//! | 4 | layer of the entry point |
//! | points x (4 + 4n) | layer 0: count `n <= 2m`, then the links |
//! | 4 | number of points above layer 0 |
//! | each: 4 + 4 + layers x (4 + 4n) | point, its layer, then its lists from layer 1 up, `n <= m` |
//!
//! A link to an ordinal at or past `points` is written as the first link below it that is met on the way
//! along first links, so that chains of copies stay whole; or left out. Whoever stores the bytes keeps
//! a checksum over them; reading still checks every count and every link, so that damage that got
//! past a checksum ends in an error and not in a panic.

use super::graph::{Entry, Graph, Lists, links_of};
use super::{LAYER_MAX, Parameters};
use types::limits::{HNSW_EF_CONSTRUCTION, HNSW_M};

const VERSION: u32 = 1;

/// Why bytes are not a graph.
#[derive(Debug, PartialEq, Eq)]
pub struct FormatError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, in bytes from the beginning.
    pub offset: usize,
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "graph bytes are damaged: {} at offset {}", self.what, self.offset)
    }
}

impl std::error::Error for FormatError {}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        let error = FormatError { what, offset: self.offset };
        let bytes = self.bytes.get(self.offset..self.offset + 4).ok_or(error)?;
        self.offset += 4;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn list(&mut self, links_max: usize, points: u32) -> Result<Vec<u32>, FormatError> {
        let at = self.offset;
        let count = self.u32("list is cut off")? as usize;
        if count > links_max {
            return Err(FormatError { what: "list is longer than its layer allows", offset: at });
        }
        let mut links = Vec::with_capacity(count);
        for _ in 0..count {
            let at = self.offset;
            let link = self.u32("link is cut off")?;
            if link >= points {
                return Err(FormatError { what: "link leads out of the graph", offset: at });
            }
            links.push(link);
        }
        Ok(links)
    }
}

impl Graph {
    /// The graph over ordinals `0..points` as bytes. No point may be inserted meanwhile.
    #[must_use]
    pub fn to_bytes(&self, points: u32) -> Vec<u8> {
        let parameters = self.parameters();
        let mut out = Vec::with_capacity(points as usize * (2 * parameters.m as usize + 2) * 4);
        let mut put = |value: u32| out.extend_from_slice(&value.to_le_bytes());
        let lists = self.lists();
        let upper: Vec<(u32, u8)> = (0..points)
            .map(|point| (point, lists.top_layer(point)))
            .filter(|(_, layer)| *layer > 0)
            .collect();
        // The entry point may be younger than what is written; the highest point that is not takes
        // its place, or else the written part could not be reached.
        let highest = || {
            let top = upper.iter().max_by_key(|(_, layer)| *layer);
            let linked = |point: &u32| {
                lists.list(*point, 0).is_some_and(|list| links_of(list).next().is_some())
            };
            top.map(|(point, layer)| Entry { point: *point, layer: *layer })
                .or_else(|| (0..points).find(linked).map(|point| Entry { point, layer: 0 }))
        };
        let entry = self.entry().and_then(|e| if e.point < points { Some(e) } else { highest() });
        put(VERSION);
        put(parameters.m);
        put(parameters.ef_construction);
        let seed = parameters.seed.to_le_bytes();
        put(u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]));
        put(u32::from_le_bytes([seed[4], seed[5], seed[6], seed[7]]));
        put(points);
        put(entry.map_or(0, |entry| entry.point + 1));
        put(entry.map_or(0, |entry| u32::from(entry.layer)));
        let mut links = Vec::new();
        let mut put_list = |put: &mut dyn FnMut(u32), point, layer| {
            links.clear();
            if let Some(list) = lists.list(point, layer) {
                Self::read_list(list, &mut links);
            }
            let beyond = |list: &Vec<u32>| list.iter().position(|link| *link >= points);
            while let Some(at) = beyond(&links) {
                let instead = instead(&lists, links.remove(at), layer, points);
                links.extend(instead.filter(|link| *link != point && !links.contains(link)));
            }
            put(u32::try_from(links.len()).unwrap_or(0));
            links.iter().for_each(|link| put(*link));
        };
        for point in 0..points {
            put_list(&mut put, point, 0);
        }
        put(u32::try_from(upper.len()).unwrap_or(0));
        for (point, top) in upper {
            put(point);
            put(u32::from(top));
            (1..=top).for_each(|layer| put_list(&mut put, point, layer));
        }
        out
    }

    /// Reads a graph; also returns how many ordinals it covers.
    ///
    /// # Errors
    /// When the bytes are not a whole, consistent graph.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, u32), FormatError> {
        let mut reader = Reader { bytes, offset: 0 };
        let bad = |what, offset| Err(FormatError { what, offset });
        if reader.u32("header is cut off")? != VERSION {
            return bad("unknown version", 0);
        }
        let m = reader.u32("header is cut off")?;
        let ef_construction = reader.u32("header is cut off")?;
        if !HNSW_M.contains(&m) || !HNSW_EF_CONSTRUCTION.contains(&ef_construction) {
            return bad("parameters out of range", 4);
        }
        let low = u64::from(reader.u32("header is cut off")?);
        let seed = low | u64::from(reader.u32("header is cut off")?) << 32;
        let points = reader.u32("header is cut off")?;
        let entry_point = reader.u32("header is cut off")?;
        let entry_layer = u8::try_from(reader.u32("header is cut off")?).unwrap_or(u8::MAX);
        if entry_point > points || entry_layer > LAYER_MAX {
            return bad("entry point out of range", reader.offset);
        }
        if bytes.len() - reader.offset < points as usize * 4 {
            return bad("fewer lists than points", reader.offset);
        }
        let graph = Self::new(Parameters { m, ef_construction, seed });
        graph.read_lists(&mut reader, points)?;
        if let Some(point) = entry_point.checked_sub(1) {
            if entry_layer > 0 && graph.lists().list(point, entry_layer).is_none() {
                return bad("entry point is not on its layer", 28);
            }
            graph.set_entry(Entry { point, layer: entry_layer });
        }
        Ok((graph, points))
    }

    fn read_lists(&self, reader: &mut Reader<'_>, points: u32) -> Result<(), FormatError> {
        let parameters = self.parameters();
        let bad = |what, offset| Err(FormatError { what, offset });
        if let Some(last) = points.checked_sub(1) {
            self.extend_to(last);
        }
        let lists = self.lists();
        for point in 0..points {
            let links = reader.list(parameters.links_max(0), points)?;
            if let Some(list) = lists.list(point, 0) {
                Self::write_list(list, &links);
            }
        }
        for _ in 0..reader.u32("upper part is cut off")? {
            let at = reader.offset;
            let point = reader.u32("upper part is cut off")?;
            let top = u8::try_from(reader.u32("upper part is cut off")?).unwrap_or(u8::MAX);
            if point >= points || top == 0 || top > LAYER_MAX {
                return bad("upper point out of range", at);
            }
            if !self.make_upper(point, top) {
                return bad("upper point named twice", at);
            }
            let lists = self.lists();
            for layer in 1..=top {
                let links = reader.list(parameters.links_max(layer), points)?;
                let Some(list) = lists.list(point, layer) else {
                    return bad("more upper lists than there is room for", at);
                };
                Self::write_list(list, &links);
            }
        }
        if reader.offset != reader.bytes.len() {
            return bad("bytes after the end", reader.offset);
        }
        Ok(())
    }
}

/// The point below `points` to which first links lead from one that is not.
fn instead(lists: &Lists<'_>, from: u32, layer: u8, points: u32) -> Option<u32> {
    // Nearest neighbours lead to each other: a cycle ends the search (Brent 1980).
    let (mut seen, mut power, mut steps) = (from, 1, 0);
    let mut point = from;
    while point >= points {
        point = links_of(lists.list(point, layer)?).next()?;
        if point == seen {
            return None;
        }
        steps += 1;
        if steps == power {
            (seen, power, steps) = (point, power * 2, 0_u64);
        }
    }
    Some(point)
}
