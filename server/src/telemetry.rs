//! Where events go: standard error, filtered by the environment variable `AZIMUTH_LOG`.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber; a second call does nothing.
pub(crate) fn install() {
    let filter = EnvFilter::builder()
        .with_env_var("AZIMUTH_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}
