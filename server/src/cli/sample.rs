//! The bundled sample: a cut of WordNet 3.0 with embeddings. Licence and shapes:
//! `server/sample/README.md` and `server/sample/NOTICE`.

use half::f16;

/// Dimensions of the embeddings.
pub(super) const DIM: usize = 384;

const SYNSETS: &str = include_str!("../../sample/synsets.tsv");
const EMBEDDINGS: &[u8] = include_bytes!("../../sample/embeddings.f16");
const QUERIES: &str = include_str!("../../sample/queries.tsv");
const QUERY_EMBEDDINGS: &[u8] = include_bytes!("../../sample/queries.f16");

/// A synset: words of one meaning, and its gloss.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Synset {
    pub(super) id: i64,
    pub(super) words: &'static str,
    pub(super) gloss: &'static str,
    pub(super) embedding: Vec<f32>,
}

/// A sentence that was written as an example of one synset.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sentence {
    pub(super) synset: i64,
    pub(super) text: &'static str,
    pub(super) embedding: Vec<f32>,
}

fn vectors(bytes: &'static [u8]) -> impl Iterator<Item = Vec<f32>> {
    bytes
        .chunks_exact(DIM * 2)
        .map(|row| row.as_chunks::<2>().0.iter().map(|n| f16::from_le_bytes(*n).to_f32()).collect())
}

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().skip(1).map(|line| line.split('\t').collect())
}

/// All synsets.
pub(super) fn synsets() -> Vec<Synset> {
    let parse = |(fields, embedding): (Vec<&'static str>, Vec<f32>)| match fields.as_slice() {
        [id, _key, words, gloss] => Some(Synset { id: id.parse().ok()?, words, gloss, embedding }),
        _ => None,
    };
    lines(SYNSETS).zip(vectors(EMBEDDINGS)).filter_map(parse).collect()
}

/// All sentences.
pub(super) fn sentences() -> Vec<Sentence> {
    let parse = |(fields, embedding): (Vec<&'static str>, Vec<f32>)| match fields.as_slice() {
        [synset, text] => Some(Sentence { synset: synset.parse().ok()?, text, embedding }),
        _ => None,
    };
    lines(QUERIES).zip(vectors(QUERY_EMBEDDINGS)).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_whole() {
        let (synsets, sentences) = (synsets(), sentences());
        assert_eq!(synsets.len(), SYNSETS.lines().count() - 1);
        assert_eq!(EMBEDDINGS.len(), synsets.len() * DIM * 2);
        assert_eq!(sentences.len(), QUERIES.lines().count() - 1);
        assert_eq!(QUERY_EMBEDDINGS.len(), sentences.len() * DIM * 2);
        for sentence in &sentences {
            assert!(synsets.iter().any(|s| s.id == sentence.synset), "{}", sentence.text);
        }
        let norm: f32 = synsets[0].embedding.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 0.01, "embeddings are normalised");
    }
}
