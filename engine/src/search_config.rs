//! The session's search settings in the form in which DataFusion carries settings about.

use datafusion::common::config::{ConfigExtension, ConfigOptions};
use datafusion::common::extensions_options;

use storage::memtable::Strategy;

use crate::exec::SearchSettings;
use crate::settings::Settings;

extensions_options! {
    /// Search settings of a session.
    pub struct SearchConfig {
        /// `hnsw.ef_search`
        pub ef_search: usize, default = 64
        /// `enable_ann`
        pub enable_ann: bool, default = true
        /// `hnsw.strategy`
        pub strategy: String, default = "auto".to_owned()
    }
}

impl ConfigExtension for SearchConfig {
    const PREFIX: &'static str = "azimuth";
}

impl SearchConfig {
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        Self {
            ef_search: settings.ef_search(),
            enable_ann: settings.enable_ann(),
            strategy: settings.strategy().to_owned(),
        }
    }

    pub(crate) fn of(options: &ConfigOptions) -> SearchSettings {
        let config = options.extensions.get::<Self>().cloned().unwrap_or_default();
        let strategy = Strategy::ALL.into_iter().find(|way| way.name() == config.strategy);
        SearchSettings { ef: config.ef_search, enable_ann: config.enable_ann, strategy }
    }
}
