//! The session's search settings in the form in which DataFusion carries settings about.

use datafusion::common::config::{ConfigExtension, ConfigOptions};
use datafusion::common::extensions_options;

use storage::memtable::Strategy;

use crate::exec::SearchSettings;
use crate::settings::Settings;
use crate::tuner::Goal;

extensions_options! {
    /// Search settings of a session.
    pub struct SearchConfig {
        /// `hnsw.ef_search`; 0 when it is to be chosen.
        pub ef_search: usize, default = 0
        /// `hnsw.recall_target`; 0 for the index's own.
        pub recall_target: f64, default = 0.0
        /// `enable_ann`
        pub enable_ann: bool, default = true
        /// `hnsw.strategy`
        pub strategy: String, default = "auto".to_owned()
        /// Whether the answer is compared with the exact one.
        pub measure_recall: bool, default = false
    }
}

impl ConfigExtension for SearchConfig {
    const PREFIX: &'static str = "azimuth";
}

impl SearchConfig {
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        Self {
            ef_search: settings.ef_search().unwrap_or(0),
            recall_target: settings.recall_target().unwrap_or(0.0),
            measure_recall: false,
            enable_ann: settings.enable_ann(),
            strategy: settings.strategy().to_owned(),
        }
    }

    pub(crate) fn of(options: &ConfigOptions) -> SearchSettings {
        let config = options.extensions.get::<Self>().cloned().unwrap_or_default();
        let strategy = Strategy::ALL.into_iter().find(|way| way.name() == config.strategy);
        let goal = match (config.ef_search, config.recall_target) {
            (0, target) if target > 0.0 => Goal::Recall(target),
            (0, _) => Goal::Index,
            (ef, _) => Goal::Ef(ef),
        };
        let SearchConfig { enable_ann, measure_recall, .. } = config;
        SearchSettings { goal, enable_ann, strategy, measure_recall }
    }
}
