//! Who is asking. A session cannot be made without one.

/// An authenticated identity. Until roles exist there is one role, which owns everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    role: String,
}

impl Principal {
    /// The role of a fresh server.
    pub const OWNER: &'static str = "azimuth";

    /// The principal of the role that owns everything.
    #[must_use]
    pub fn owner() -> Self {
        Self { role: Self::OWNER.to_owned() }
    }

    /// The role's name.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }
}
