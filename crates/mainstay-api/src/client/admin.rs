use super::{ApiError, Call, HttpClient};
use crate::query::{PageQuery, percent_encode};
use crate::types::{
    AuditRecord, Config, LogLevel, NewToken, Page, Probe, StoreInfo, TokenCreated, TokenView,
};

/// Operations. All but [`store`](HttpClient::store) and the probes are on the admin listener.
impl HttpClient {
    /// What the store can.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn store(&self) -> Result<StoreInfo, ApiError> {
        self.get("/v1/store".to_owned()).await
    }

    /// Whether the server wants work; a server that says no has answered, too.
    ///
    /// # Errors
    /// Those of the connection. Not tried again.
    pub async fn readyz(&self) -> Result<Probe, ApiError> {
        self.probe("/readyz?verbose").await
    }

    /// Whether the server makes progress.
    ///
    /// # Errors
    /// Those of the connection. Not tried again.
    pub async fn livez(&self) -> Result<Probe, ApiError> {
        self.probe("/livez?verbose").await
    }

    async fn probe(&self, path: &str) -> Result<Probe, ApiError> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let answer =
            self.transport.send(&Call::new(http::Method::GET, path.to_owned()), None, deadline).await?;
        answer.json()
    }

    /// Starts the drain.
    ///
    /// # Errors
    /// `forbidden`.
    pub async fn drain(&self) -> Result<(), ApiError> {
        self.post_bare("/admin/drain".to_owned()).await
    }

    /// Makes an access token; this is the only time it is shown.
    ///
    /// # Errors
    /// `state-conflict` when the name is taken.
    pub async fn create_token(&self, token: &NewToken) -> Result<TokenCreated, ApiError> {
        self.post_once("/admin/tokens".to_owned(), token).await
    }

    /// The access tokens there are.
    ///
    /// # Errors
    /// `forbidden`.
    pub async fn tokens(&self, page: &PageQuery) -> Result<Page<TokenView>, ApiError> {
        self.get(format!("/admin/tokens{}", page.to_query())).await
    }

    /// Ends an access token.
    ///
    /// # Errors
    /// `not-found`, also when an earlier try of this very call did it.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ApiError> {
        self.delete(format!("/admin/tokens/{}", percent_encode(name))).await
    }

    /// What was done by whom, newest first.
    ///
    /// # Errors
    /// `forbidden`.
    pub async fn audit(&self, page: &PageQuery) -> Result<Page<AuditRecord>, ApiError> {
        self.get(format!("/admin/audit{}", page.to_query())).await
    }

    /// The effective configuration.
    ///
    /// # Errors
    /// `forbidden`.
    pub async fn config(&self) -> Result<Config, ApiError> {
        self.get("/admin/config".to_owned()).await
    }

    /// The log level.
    ///
    /// # Errors
    /// `forbidden`.
    pub async fn log_level(&self) -> Result<LogLevel, ApiError> {
        self.get("/admin/log-level".to_owned()).await
    }

    /// Changes the log level.
    ///
    /// # Errors
    /// `validation-failed` when it is none.
    pub async fn set_log_level(&self, level: &LogLevel) -> Result<(), ApiError> {
        self.put("/admin/log-level".to_owned(), level).await
    }
}
