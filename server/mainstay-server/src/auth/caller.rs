//! Who a request is from.

use std::sync::Arc;

use mainstay::core::access::{Scope, ScopeKind};
use mainstay::core::name::Name;
use mainstay_api::{Code, Problem};

/// Who a request is from, and what they may do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    name: Option<Name>,
    /// `None`: no token exists, and none is needed.
    scopes: Option<Arc<[Scope]>>,
}

impl Caller {
    /// Anybody, where no token exists: may do everything.
    pub fn anybody() -> Caller {
        Caller { name: None, scopes: None }
    }

    pub(super) fn known(name: Name, scopes: Arc<[Scope]>) -> Caller {
        Caller { name: Some(name), scopes: Some(scopes) }
    }

    /// The token's name.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// As the audit trail names them.
    pub fn actor(&self) -> &str {
        self.name.as_ref().map_or("anonymous", Name::as_str)
    }

    /// Whether they may do this to the thing of this name.
    pub fn may(&self, kind: ScopeKind, name: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope.allows(kind, name)))
    }

    /// Whether they may do this to everything. Names need not be looked up then.
    pub fn may_always(&self, kind: ScopeKind) -> bool {
        // A prefix that is there does not fit the empty name.
        self.may(kind, "")
    }

    /// Whether they may do this to anything at all.
    pub fn may_sometimes(&self, kind: ScopeKind) -> bool {
        let fits = |scope: &Scope| scope.kind == kind || scope.kind == ScopeKind::Admin;
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(fits))
    }

    /// As [`may`](Self::may).
    ///
    /// # Errors
    /// `forbidden`, saying what is needed.
    pub fn must(&self, kind: ScopeKind, name: &str) -> Result<(), Problem> {
        if self.may(kind, name) { Ok(()) } else { Err(forbidden(kind, Some(name))) }
    }

    /// As [`may_always`](Self::may_always).
    ///
    /// # Errors
    /// `forbidden`, saying what is needed.
    pub fn must_always(&self, kind: ScopeKind) -> Result<(), Problem> {
        if self.may_always(kind) { Ok(()) } else { Err(forbidden(kind, None)) }
    }

    /// As [`may_sometimes`](Self::may_sometimes).
    ///
    /// # Errors
    /// `forbidden`, saying what is needed.
    pub fn must_sometimes(&self, kind: ScopeKind) -> Result<(), Problem> {
        if self.may_sometimes(kind) { Ok(()) } else { Err(forbidden(kind, None)) }
    }
}

fn forbidden(kind: ScopeKind, name: Option<&str>) -> Problem {
    let scope = kind.as_str();
    let detail = match name {
        Some(name) => format!("the token does not have the scope {scope} on `{name}`"),
        None => format!("the token does not have the scope {scope} without a prefix"),
    };
    Problem::new(Code::Forbidden, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[&str]) -> Caller {
        let scopes: Vec<_> = scopes.iter().map(|scope| Scope::parse(scope).unwrap()).collect();
        Caller::known(Name::new("ci").unwrap(), scopes.into())
    }

    #[test]
    fn scopes_hold_on_their_prefix_and_admin_implies_all() {
        let mail = caller(&["jobs:work=mail", "read"]);
        assert!(mail.may(ScopeKind::JobsWork, "mail.fast") && !mail.may(ScopeKind::JobsWork, "report"));
        assert!(!mail.may_always(ScopeKind::JobsWork) && mail.may_sometimes(ScopeKind::JobsWork));
        assert!(mail.may_always(ScopeKind::Read) && !mail.may_sometimes(ScopeKind::JobsProduce));
        let admin = caller(&["admin"]);
        assert!(ScopeKind::ALL.into_iter().all(|kind| admin.may_always(kind)));
        let tenant = caller(&["admin=acme:"]);
        assert!(tenant.may(ScopeKind::JobsProduce, "acme:mail") && !tenant.may_always(ScopeKind::Admin));
        assert!(caller(&["jobs:work="]).may_always(ScopeKind::JobsWork), "an empty prefix is none");
    }
}
