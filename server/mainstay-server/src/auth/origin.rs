//! Which web pages may call.

use http::request::Parts;
use http::{HeaderValue, Uri, header};
use mainstay_api::{Code, Problem};

/// The web origins that may call beside the server's own. A browser names a page's origin in every request that could
/// change something; programs name none.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// These, as `scheme://host[:port]`.
    pub fn new(allowed: &[String]) -> Origins {
        Origins(allowed.iter().map(|origin| origin.to_ascii_lowercase()).collect())
    }

    /// The foreign origin the answer may be shown to; `None` when there is none to mention.
    ///
    /// # Errors
    /// `forbidden`, for a foreign origin that was not allowed.
    pub fn admit(&self, request: &Parts) -> Result<Option<HeaderValue>, Problem> {
        let Some(origin) = request.headers.get(header::ORIGIN) else { return Ok(None) };
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        if self.0.contains(&text) {
            return Ok(Some(origin.clone()));
        }
        // TLS ends before us, if anywhere: our own pages came from the scheme a proxy says, else from plain HTTP.
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or(request.uri.authority().map(http::uri::Authority::as_str));
        let scheme = request.headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
        let own = host.map(|host| format!("{}://{}", scheme.unwrap_or("http"), host.to_ascii_lowercase()));
        if own.is_some_and(|own| own == text) {
            return Ok(None);
        }
        let detail = "a page of this origin may not call here: list it in `allowed_origins`";
        Err(Problem::new(Code::Forbidden, detail))
    }
}

/// Whether this is an origin: a scheme and a host, nothing after it.
pub fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let bare = !text.ends_with('/') && !text.contains('@') && uri.path_and_query().is_none_or(|p| p == "/");
    uri.scheme().is_some() && uri.host().is_some() && bare
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(origin: &str, host: &str) -> bool {
        let origins = Origins::new(&["https://ops.example.org".to_owned()]);
        let request =
            http::Request::builder().header("origin", origin).header("host", host).body(()).unwrap();
        origins.admit(&request.into_parts().0).is_ok()
    }

    #[test]
    fn only_own_and_listed_origins_are_admitted() {
        assert!(admitted("http://localhost:6246", "localhost:6246"));
        assert!(admitted("HTTPS://ops.example.org", "localhost:6246"));
        for foreign in ["null", "http://localhost:6247", "https://localhost:6246", "http://evil.example", ""]
        {
            assert!(!admitted(foreign, "localhost:6246"), "{foreign}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        assert!(is_origin("https://a.b:1") && is_origin("http://localhost"));
        for bad in ["a.b", "https://a.b/", "https://a.b/c", "https://u@a.b", "null", ""] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
