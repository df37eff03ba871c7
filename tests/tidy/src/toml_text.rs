//! TOML read line by line: enough for manifests, lock files and settings.
//!
//! Understood: comments, `[tables]`, `[[arrays of tables]]`, values that go on over lines while a
//! bracket is open, multi-line strings (their value is dropped), dotted and quoted keys. Not
//! understood: escapes inside keys, and dates; none of the files read here has them.

/// One `key = value`, under the header that precedes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which header of the file it stands under; zero before the first.
    pub table: usize,
    /// The header without brackets, as written.
    pub section: String,
    /// The key as written, possibly dotted.
    pub key: String,
    /// The value as written, without comments; lines are joined by a blank.
    pub value: String,
    /// The line of the key, counted from one.
    pub line: usize,
}

/// All entries of a text, in order.
#[must_use]
pub fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut table, mut section) = (0, String::new());
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = without_comment(line);
        if line.starts_with('[') {
            table += 1;
            section = line.trim_matches(['[', ']']).trim().to_owned();
            continue;
        }
        let Some((key, value)) = split_once(line, '=') else { continue };
        let mut value = value.trim().to_owned();
        if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|open| value.starts_with(open)) {
            if !value.get(3..).is_some_and(|rest| rest.contains(quotes)) {
                lines.by_ref().find(|(_, line)| line.contains(quotes));
            }
            value.clear();
        }
        while open_brackets(&value) {
            let Some((_, more)) = lines.next() else { break };
            value.push(' ');
            value.push_str(without_comment(more));
        }
        let key = key.trim().to_owned();
        entries.push(Entry { table, section: section.clone(), key, value, line: number + 1 });
    }
    entries
}

/// The parts of a dotted key or header, without quotes: `target.'cfg(a.b)'.dependencies` has three.
#[must_use]
pub fn key_parts(key: &str) -> Vec<String> {
    split(key, '.').into_iter().map(unquoted).collect()
}

/// The pairs of an inline table `{ a = 1, b = 2 }`; of anything else, none.
#[must_use]
pub fn inline_table(value: &str) -> Vec<(String, String)> {
    let Some(inside) = value.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
    else {
        return Vec::new();
    };
    split(inside, ',')
        .into_iter()
        .filter_map(|pair| split_once(pair, '='))
        .map(|(key, value)| (unquoted(key), value.trim().to_owned()))
        .collect()
}

/// The strings of an array of strings.
#[must_use]
pub fn strings(value: &str) -> Vec<String> {
    let inside = value.trim().trim_start_matches('[').trim_end_matches(']');
    split(inside, ',').into_iter().map(unquoted).filter(|item| !item.is_empty()).collect()
}

/// A string value without its quotes.
#[must_use]
pub fn unquoted(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_owned()
}

fn without_comment(line: &str) -> &str {
    split_once(line, '#').map_or(line, |(before, _)| before).trim()
}

fn open_brackets(value: &str) -> bool {
    let count =
        |wanted: [char; 2]| outside_strings(value).filter(|(_, c)| wanted.contains(c)).count();
    count(['[', '{']) > count([']', '}'])
}

fn split_once(text: &str, separator: char) -> Option<(&str, &str)> {
    let (at, _) = outside_strings(text).find(|&(_, c)| c == separator)?;
    Some((text.get(..at)?, text.get(at + separator.len_utf8()..)?))
}

/// Splits at separators that stand outside strings and brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in outside_strings(text) {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ if c == separator && depth == 0 => {
                parts.extend(text.get(start..at));
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

/// Characters with their byte positions, leaving out strings and their quotes.
fn outside_strings(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let (mut quote, mut escaped) = (None, false);
    text.char_indices().filter(move |&(_, c)| match quote {
        Some(_) if escaped => {
            escaped = false;
            false
        }
        Some(open) => {
            escaped = open == '"' && c == '\\';
            if c == open {
                quote = None;
            }
            false
        }
        None if c == '"' || c == '\'' => {
            quote = Some(c);
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_know_section_key_value_and_line() {
        let text = "a = 1 # one\n[b] # b\nc.d = \"x # y\"\ne = [\n  \"f\", # f\n  \"g\",\n]\n[[h]]\ni = 2\n";
        let found: Vec<_> = entries(text)
            .into_iter()
            .map(|entry| (entry.table, entry.section, entry.key, entry.value, entry.line))
            .collect();
        let expected = [
            (0, "", "a", "1", 1),
            (1, "b", "c.d", "\"x # y\"", 3),
            (1, "b", "e", "[ \"f\", \"g\", ]", 4),
            (2, "h", "i", "2", 9),
        ];
        let expected = expected.map(|(table, section, key, value, line)| {
            (table, section.to_owned(), key.to_owned(), value.to_owned(), line)
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn multi_line_strings_hide_what_looks_like_entries() {
        let text = "a = \"\"\"\n[b]\nlicense = \"X\"\n\"\"\"\nc = '''x'''\nd = 1\n";
        let keys: Vec<_> =
            entries(text).into_iter().map(|entry| (entry.section, entry.key)).collect();
        assert_eq!(keys, ["a", "c", "d"].map(|key| (String::new(), key.to_owned())));
    }

    #[test]
    fn parts_tables_and_strings() {
        assert_eq!(key_parts("target.'cfg(a = \"b.c\")'.dependencies").len(), 3);
        assert_eq!(key_parts("target.'x.y'.dependencies")[1], "x.y");
        let table = inline_table("{ version = \"1, 2\", features = [\"a\", \"b\"], git = 'u' }");
        let keys: Vec<_> = table.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["version", "features", "git"]);
        assert_eq!(table[0].1, "\"1, 2\"");
        assert!(inline_table("\"1\"").is_empty());
        assert_eq!(strings("[ \"a\", 'b', ]"), ["a", "b"]);
    }
}
