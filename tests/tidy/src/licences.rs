//! Licences: the allow-list of `deny.toml`, and each linked package against it.
//!
//! An expression is SPDX with the old `/` for `OR`; `AND` binds before `OR`, `WITH` before both. A
//! licence is allowed only as it stands in the list, so `X WITH Y` is not covered by `X`.

use crate::lock::Locked;
use crate::toml_text::{entries, strings, unquoted};
use crate::{File, Finding};

/// What `deny.toml` has to allow.
const REQUIRED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "MPL-2.0",
];

/// The licences that `deny.toml` allows.
#[must_use]
pub fn allow_list(deny: &File) -> Vec<String> {
    let entries = entries(&deny.text).into_iter();
    let lists = entries.filter(|entry| entry.section == "licenses" && entry.key == "allow");
    lists.flat_map(|entry| strings(&entry.value)).collect()
}

/// Licences missing from the list of `deny.toml`.
#[must_use]
pub fn check_allow_list(deny: &File) -> Vec<Finding> {
    let allowed = allow_list(deny);
    let missing = REQUIRED.iter().filter(|licence| !allowed.iter().any(|known| known == *licence));
    missing
        .map(|licence| {
            let problem = format!("licence `{licence}` is not in the allow-list");
            deny.finding(1, &problem, "add it to `allow` under [licenses]")
        })
        .collect()
}

/// The licence expression that a package's manifest declares.
#[must_use]
pub fn declared(manifest: &File) -> Option<String> {
    let mut entries = entries(&manifest.text).into_iter();
    let entry = entries.find(|entry| entry.section == "package" && entry.key == "license")?;
    Some(unquoted(&entry.value))
}

/// A package under a licence that is not allowed, or under none.
#[must_use]
pub fn check_package(
    lock: &File,
    package: &Locked,
    licence: Option<&str>,
    allowed: &[String],
) -> Option<Finding> {
    let Locked { name, version, line, .. } = package;
    let (problem, remedy) = match licence.map(|licence| (licence, is_allowed(licence, allowed))) {
        None => (
            format!("`{name}` {version} declares no licence"),
            "read its licence file and name it as an exception in tests/tidy, or replace the crate",
        ),
        Some((licence, None)) => (
            format!("`{name}` {version} has the unreadable licence `{licence}`"),
            "read its licence file, or replace the crate",
        ),
        Some((licence, Some(false))) => (
            format!("`{name}` {version} is under `{licence}`"),
            "replace the crate, or review the licence and add it to deny.toml",
        ),
        Some((_, Some(true))) => return None,
    };
    Some(lock.finding(*line, &problem, remedy))
}

/// Whether the allowed licences satisfy the expression; `None` when it cannot be read.
#[must_use]
pub fn is_allowed(expression: &str, allowed: &[String]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), at: 0, allowed };
    let value = parser.alternatives()?;
    (parser.at == parser.words.len()).then_some(value)
}

/// One pass over the words of an expression; each method reads one level of binding.
struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a [String],
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Option<bool> {
        let mut value = self.conjunction()?;
        while self.accept("OR") {
            value |= self.conjunction()?;
        }
        Some(value)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut value = self.licence()?;
        while self.accept("AND") {
            value &= self.licence()?;
        }
        Some(value)
    }

    fn licence(&mut self) -> Option<bool> {
        if self.accept("(") {
            let value = self.alternatives()?;
            return self.accept(")").then_some(value);
        }
        let mut name = self.identifier()?.to_owned();
        if self.accept("WITH") {
            name = format!("{name} WITH {}", self.identifier()?);
        }
        Some(self.allowed.contains(&name))
    }

    fn identifier(&mut self) -> Option<&str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        let is_name = !["(", ")", "AND", "OR", "WITH"].contains(word);
        is_name.then_some(*word)
    }

    fn accept(&mut self, word: &str) -> bool {
        let here = self.words.get(self.at) == Some(&word);
        self.at += usize::from(here);
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        ["MIT", "Apache-2.0", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).to_vec()
    }

    #[test]
    fn expressions() {
        let cases = [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("GPL-3.0/MIT", Some(true)),
            ("MIT AND GPL-3.0", Some(false)),
            ("MIT AND GPL-3.0 OR Zlib", Some(true)),
            ("Zlib OR MIT AND GPL-3.0", Some(true)),
            ("(Zlib OR MIT) AND GPL-3.0", Some(false)),
            ("(MIT OR GPL-3.0) AND (Zlib)", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("MIT WITH LLVM-exception", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT Zlib", None),
            ("MIT WITH OR", None),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression, &allowed()), expected, "of `{expression}`");
        }
    }

    #[test]
    fn packages_under_other_licences_are_found() {
        let lock = File::new("Cargo.lock", "");
        let package =
            Locked { name: "p".to_owned(), version: "1.0.0".to_owned(), source: None, line: 9 };
        let check = |licence| check_package(&lock, &package, licence, &allowed());
        assert_eq!(check(Some("MIT")), None);
        let found = |licence| check(licence).map(|finding| (finding.line, finding.problem));
        let expected = |problem: &str| Some((9, problem.to_owned()));
        assert_eq!(found(Some("GPL-3.0")), expected("`p` 1.0.0 is under `GPL-3.0`"));
        assert_eq!(found(Some("(")), expected("`p` 1.0.0 has the unreadable licence `(`"));
        assert_eq!(found(None), expected("`p` 1.0.0 declares no licence"));
    }

    #[test]
    fn the_allow_list_has_to_be_whole() {
        let list = REQUIRED.iter().map(|name| format!("  \"{name}\", # yes\n")).collect::<String>();
        let text = format!("[bans]\nallow = [\"GPL-3.0\"]\n[licenses]\nallow = [\n{list}]\n");
        let deny = File::new("deny.toml", &text);
        assert_eq!(allow_list(&deny), REQUIRED);
        assert!(check_allow_list(&deny).is_empty());
        let without = File::new("deny.toml", &text.replace("\"ISC\",", ""));
        assert_eq!(check_allow_list(&without)[0].problem, "licence `ISC` is not in the allow-list");
    }

    #[test]
    fn the_licence_is_read_from_the_package_only() {
        let text = "[package]\nname = \"p\"\nlicense = \"MIT\"\n[metadata]\nlicense = \"X\"\n";
        assert_eq!(declared(&File::new("Cargo.toml", text)).as_deref(), Some("MIT"));
        assert_eq!(declared(&File::new("Cargo.toml", "[package]\nlicense-file = \"L\"\n")), None);
    }
}
