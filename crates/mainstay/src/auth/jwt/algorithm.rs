//! How tokens are signed.

use jsonwebtoken::Algorithm as Theirs;

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the standard's names")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub(super) const SYMMETRIC: [Algorithm; 3] = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];
    pub(super) const ASYMMETRIC: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    pub(super) fn theirs(self) -> Theirs {
        match self {
            Algorithm::Hs256 => Theirs::HS256,
            Algorithm::Hs384 => Theirs::HS384,
            Algorithm::Hs512 => Theirs::HS512,
            Algorithm::Rs256 => Theirs::RS256,
            Algorithm::Rs384 => Theirs::RS384,
            Algorithm::Rs512 => Theirs::RS512,
            Algorithm::Ps256 => Theirs::PS256,
            Algorithm::Ps384 => Theirs::PS384,
            Algorithm::Ps512 => Theirs::PS512,
            Algorithm::Es256 => Theirs::ES256,
            Algorithm::Es384 => Theirs::ES384,
            Algorithm::EdDsa => Theirs::EdDSA,
        }
    }
}
