use super::{ApiError, HttpClient};
use crate::RawJson;
use crate::query::{PageQuery, percent_encode};
use crate::types::{Enqueued, Page, PutSchedule, ScheduleAnswer, ScheduleView};

/// Schedules.
impl HttpClient {
    /// All schedules.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn schedules(&self, page: &PageQuery) -> Result<Page<ScheduleView>, ApiError> {
        self.get(format!("/v1/schedules{}", page.to_query())).await
    }

    /// One schedule.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn schedule(&self, name: &str) -> Result<ScheduleView, ApiError> {
        self.get(schedule_path(name, "")).await
    }

    /// Makes a schedule, or replaces the whole of it.
    ///
    /// # Errors
    /// `validation-failed`.
    pub async fn put_schedule(&self, name: &str, schedule: &PutSchedule) -> Result<ScheduleAnswer, ApiError> {
        self.put_json(schedule_path(name, ""), schedule).await
    }

    /// Forgets a schedule; jobs it has made stay.
    ///
    /// # Errors
    /// `not-found`, also when an earlier try of this very call did it.
    pub async fn delete_schedule(&self, name: &str) -> Result<(), ApiError> {
        self.delete(schedule_path(name, "")).await
    }

    /// Makes its job now, beside its ticks.
    ///
    /// # Errors
    /// `not-found`; `queue-full`.
    pub async fn trigger_schedule(&self, name: &str) -> Result<Enqueued, ApiError> {
        self.post_once(schedule_path(name, "/trigger"), &RawJson::EMPTY_OBJECT).await
    }

    /// Stops it from firing.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn pause_schedule(&self, name: &str) -> Result<(), ApiError> {
        self.post_bare(schedule_path(name, "/pause")).await
    }

    /// Lets it fire again.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn resume_schedule(&self, name: &str) -> Result<(), ApiError> {
        self.post_bare(schedule_path(name, "/resume")).await
    }
}

fn schedule_path(name: &str, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", percent_encode(name))
}
