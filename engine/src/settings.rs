//! Session settings: what SET takes, SHOW shows and the wire reports.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use types::SqlState;
use types::limits::{HNSW_EF_SEARCH, RECALL_TARGET};

use crate::error::{EngineError, Result};

/// PostgreSQL version whose catalog and behaviour are served.
pub const SERVER_VERSION: &str = concat!("15.0 (Azimuth ", env!("CARGO_PKG_VERSION"), ")");

/// How a setting's value is checked.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Any text.
    Text,
    /// on or off.
    Boolean,
    /// An integer in a range.
    Integer(i64, i64),
    /// An integer in a range, or auto.
    IntegerOrAuto(i64, i64),
    /// A number in a range, or auto.
    NumberOrAuto(f64, f64),
    /// Milliseconds, or a number with a unit.
    Duration,
    /// One of a few values; anything else would have to be honoured and cannot be.
    OneOf(&'static [&'static str]),
    /// A name of UTF-8, in which only letters and digits count.
    Encoding,
    /// A level of isolation that is not above what every transaction has.
    Isolation,
    /// Cannot be changed.
    Fixed,
}

/// The value of settings that leave the choice to the server.
const AUTO: &str = "auto";

const SETTINGS: &[(&str, &str, Kind)] = &[
    ("application_name", "", Kind::Text),
    ("bytea_output", "hex", Kind::OneOf(&["hex"])),
    ("client_encoding", "UTF8", Kind::Encoding),
    (
        "client_min_messages",
        "notice",
        Kind::OneOf(&["debug5", "debug1", "log", "notice", "warning", "error"]),
    ),
    (
        "DateStyle",
        "ISO, MDY",
        Kind::OneOf(&["ISO", "iso", "ISO, MDY", "ISO,MDY", "iso, mdy", "ISO, DMY", "ISO, YMD"]),
    ),
    ("default_table_access_method", "heap", Kind::OneOf(&["heap"])),
    ("default_tablespace", "", Kind::OneOf(&[""])),
    ("default_transaction_isolation", "repeatable read", Kind::Isolation),
    ("default_transaction_read_only", "off", Kind::Boolean),
    ("enable_ann", "on", Kind::Boolean),
    ("extra_float_digits", "1", Kind::Integer(1, 3)),
    (
        "hnsw.ef_search",
        AUTO,
        Kind::IntegerOrAuto(*HNSW_EF_SEARCH.start() as i64, *HNSW_EF_SEARCH.end() as i64),
    ),
    ("hnsw.recall_target", AUTO, Kind::NumberOrAuto(*RECALL_TARGET.start(), *RECALL_TARGET.end())),
    ("hnsw.strategy", AUTO, Kind::OneOf(&["auto", "graph", "scan", "exact"])),
    ("idle_in_transaction_session_timeout", "0", Kind::Duration),
    ("integer_datetimes", "on", Kind::Fixed),
    ("IntervalStyle", "postgres", Kind::OneOf(&["postgres"])),
    ("is_superuser", "on", Kind::Fixed),
    ("jit", "off", Kind::Boolean),
    ("lock_timeout", "0", Kind::OneOf(&["0"])),
    ("max_identifier_length", "63", Kind::Fixed),
    ("max_index_keys", "32", Kind::Fixed),
    ("search_path", "\"$user\", public", Kind::Text),
    ("server_encoding", "UTF8", Kind::Fixed),
    ("server_version", SERVER_VERSION, Kind::Fixed),
    ("server_version_num", "150000", Kind::Fixed),
    ("session_authorization", types::Principal::OWNER, Kind::Fixed),
    ("standard_conforming_strings", "on", Kind::OneOf(&["on", "true"])),
    ("statement_timeout", "0", Kind::Duration),
    ("TimeZone", "UTC", Kind::OneOf(&["UTC", "utc", "GMT", "Etc/UTC", "Z"])),
    ("transaction_isolation", "repeatable read", Kind::Isolation),
    ("transaction_read_only", "off", Kind::Boolean),
];

/// Settings that the wire reports at login and whenever they change.
pub const REPORTED: [&str; 11] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// The settings that last as long as a transaction.
const OF_TRANSACTION: [&str; 2] = ["transaction_isolation", "transaction_read_only"];

/// The settings of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    changed: BTreeMap<&'static str, String>,
}

fn find(name: &str) -> Result<&'static (&'static str, &'static str, Kind)> {
    SETTINGS.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name)).ok_or_else(|| {
        EngineError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )
    })
}

impl Settings {
    /// Every setting with its value, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS.iter().map(|(name, default, _)| {
            (*name, self.changed.get(name).map_or(*default, String::as_str))
        })
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn get(&self, name: &str) -> Result<&str> {
        let (name, default, _) = find(name)?;
        Ok(self.changed.get(name).map_or(default, String::as_str))
    }

    /// Changes a setting; returns its name as it is spelled here.
    ///
    /// # Errors
    /// When there is no such setting, it cannot be changed, or the value is not acceptable.
    pub fn set(&mut self, name: &str, value: &str) -> Result<&'static str> {
        let (name, _, kind) = find(name)?;
        let value = check(name, *kind, value.trim())?;
        self.changed.insert(name, value);
        Ok(name)
    }

    /// Puts a setting back to its default; returns its name as it is spelled here.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn reset(&mut self, name: &str) -> Result<&'static str> {
        let (name, _, _) = find(name)?;
        self.changed.remove(name);
        Ok(name)
    }

    /// Puts all settings back to their defaults.
    pub fn reset_all(&mut self) {
        self.changed.clear();
    }

    /// Takes from `other` what lasts as long as a transaction.
    pub(crate) fn keep_transaction(&mut self, other: &Self) -> Result<()> {
        for name in OF_TRANSACTION {
            match other.changed.get(name) {
                Some(value) => self.set(name, value)?,
                None => self.reset(name)?,
            };
        }
        Ok(())
    }

    /// Puts back what lasts as long as a transaction.
    pub(crate) fn end_transaction(&mut self) {
        OF_TRANSACTION.iter().for_each(|name| drop(self.changed.remove(name)));
    }

    /// `hnsw.ef_search`; `None` when it is to be chosen.
    #[must_use]
    pub fn ef_search(&self) -> Option<usize> {
        self.get("hnsw.ef_search").ok()?.parse().ok()
    }

    /// `hnsw.recall_target`; `None` for the index's own.
    #[must_use]
    pub fn recall_target(&self) -> Option<f64> {
        self.get("hnsw.recall_target").ok()?.parse().ok()
    }

    /// `hnsw.strategy`
    #[must_use]
    pub fn strategy(&self) -> &str {
        self.get("hnsw.strategy").unwrap_or("auto")
    }

    /// `enable_ann`
    #[must_use]
    pub fn enable_ann(&self) -> bool {
        self.is_on("enable_ann")
    }

    /// `statement_timeout`; `None` when there is none.
    #[must_use]
    pub fn statement_timeout(&self) -> Option<Duration> {
        let millis = parse_millis(self.get("statement_timeout").ok()?)?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// `idle_in_transaction_session_timeout`; `None` when there is none.
    #[must_use]
    pub fn idle_in_transaction_timeout(&self) -> Option<Duration> {
        let millis = parse_millis(self.get("idle_in_transaction_session_timeout").ok()?)?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// A setting that is on or off.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_ok_and(|value| value == "on")
    }

    /// First schema of `search_path` that is not the user's own.
    #[must_use]
    pub fn default_schema(&self) -> String {
        let path = self.get("search_path").unwrap_or("public");
        let mut names = path.split(',').map(|name| name.trim().trim_matches('"').to_owned());
        names.find(|name| name != "$user" && !name.is_empty()).unwrap_or_else(|| "public".into())
    }
}

fn check(name: &str, kind: Kind, value: &str) -> Result<String> {
    let invalid = || {
        EngineError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{name}\": \"{value}\""),
        )
    };
    let outside = |number: &dyn Display, least: &dyn Display, most: &dyn Display| {
        let message = format!(
            "{number} is outside the valid range for parameter \"{name}\" ({least} .. {most})"
        );
        EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message)
    };
    match kind {
        Kind::Text => Ok(value.to_owned()),
        Kind::Boolean => match value.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok("on".to_owned()),
            "off" | "false" | "no" | "0" => Ok("off".to_owned()),
            _ => Err(invalid().with_hint("The value is on or off.")),
        },
        Kind::IntegerOrAuto(..) | Kind::NumberOrAuto(..) if value.eq_ignore_ascii_case(AUTO) => {
            Ok(AUTO.to_owned())
        }
        Kind::Integer(least, most) | Kind::IntegerOrAuto(least, most) => {
            let number: i64 = value.parse().map_err(|_| invalid())?;
            let known = (least..=most).contains(&number);
            known.then(|| number.to_string()).ok_or_else(|| outside(&number, &least, &most))
        }
        Kind::NumberOrAuto(least, most) => {
            let number: f64 = value.parse().map_err(|_| invalid())?;
            let known = (least..=most).contains(&number);
            known.then(|| number.to_string()).ok_or_else(|| outside(&number, &least, &most))
        }
        Kind::Duration => parse_millis(value).map(format_millis).ok_or_else(invalid),
        Kind::OneOf(values) if values.contains(&value) => Ok(value.to_owned()),
        Kind::OneOf(values) => {
            Err(invalid().with_hint(format!("Supported values: {}.", values.join("; "))))
        }
        Kind::Encoding => {
            let counts = |c: &char| c.is_ascii_alphanumeric();
            let plain: String = value.chars().filter(counts).collect();
            match plain.to_ascii_lowercase().as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_owned()),
                _ => Err(invalid().with_hint("The only encoding is UTF8.")),
            }
        }
        Kind::Isolation => match value.to_lowercase().as_str() {
            "read uncommitted" | "read committed" | "repeatable read" => {
                Ok("repeatable read".to_owned())
            }
            "serializable" => Err(serializable()),
            _ => Err(invalid()),
        },
        Kind::Fixed => Err(EngineError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("parameter \"{name}\" cannot be changed"),
        )),
    }
}

/// The level of isolation that there is not.
pub(crate) fn serializable() -> EngineError {
    EngineError::unsupported("the isolation level SERIALIZABLE")
        .with_hint("Every transaction reads at one instant: use REPEATABLE READ.")
}

/// A duration in the largest unit that holds it exactly.
fn format_millis(millis: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    match units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => "0".to_owned(),
    }
}

fn parse_millis(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: u64 = digits.trim().parse().ok()?;
    let scale = match value[digits.len()..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(scale).filter(|millis| i32::try_from(*millis).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Coded as _;

    #[test]
    fn values_are_checked_and_defaults_come_back() {
        let mut settings = Settings::default();
        settings.set("HNSW.ef_search", "100").unwrap();
        assert_eq!(settings.ef_search(), Some(100));
        settings.set("hnsw.recall_target", "0.9").unwrap();
        assert_eq!(settings.recall_target(), Some(0.9));
        settings.set("statement_timeout", "2s").unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(2)));
        settings.set("search_path", "\"$user\", app, public").unwrap();
        assert_eq!(settings.default_schema(), "app");
        let refused = [
            ("hnsw.ef_search", "0", "22023"),
            ("hnsw.ef_search", "1001", "22023"),
            ("hnsw.ef_search", "x", "22023"),
            ("hnsw.recall_target", "0.49", "22023"),
            ("hnsw.recall_target", "1", "22023"),
            ("hnsw.recall_target", "NaN", "22023"),
            ("nope", "1", "42704"),
            ("server_version", "16", "22023"),
            ("TimeZone", "Europe/Berlin", "22023"),
        ];
        for (name, value, state) in refused {
            let error = settings.set(name, value).unwrap_err();
            assert_eq!(error.sql_state().code(), state, "{name} {value}: {error}");
        }
        settings.reset_all();
        assert_eq!((settings.ef_search(), settings.recall_target()), (None, None));
    }
}
