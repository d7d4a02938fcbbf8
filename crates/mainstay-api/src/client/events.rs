use super::stream::EventStream;
use super::{ApiError, Call, HttpClient};
use crate::RawJson;
use crate::query::{PageQuery, QueryWriter, percent_encode};
use crate::types::{
    CLOUDEVENT_JSON, DeadChanged, DeadEvent, DeadEventSelect, DeliveriesReleased, Envelope, Fetch, Fetched,
    GroupConfig, GroupView, LogPage, Page, Published, ReleaseDeliveries, Seek, SettleDeliveries,
    SettledDeliveries, Sought, TopicConfig, TopicPut, TopicView,
};

/// Events, topics and consumer groups.
impl HttpClient {
    /// Publishes an event: a CloudEvent in the JSON format, of which everything may be left out.
    ///
    /// # Errors
    /// `validation-failed`, also when the topic's schema does not fit.
    pub async fn publish(&self, topic: &str, event: &RawJson) -> Result<Published, ApiError> {
        let call = Call::new(http::Method::POST, topic_path(topic, "/events")).body(event)?;
        self.once(call.declared(CLOUDEVENT_JSON)).await
    }

    /// A page of a topic's events, from a position on: `earliest`, `latest`, a number or an instant.
    ///
    /// # Errors
    /// `history-gone` when retention has removed what was asked for.
    pub async fn events(
        &self,
        topic: &str,
        from: Option<&str>,
        page: &PageQuery,
    ) -> Result<Page<Envelope>, ApiError> {
        let mut query = QueryWriter::default();
        query.optional("from", from);
        page.write(&mut query);
        self.get(topic_path(topic, &format!("/events{}", query.text()))).await
    }

    /// A piece of the log: events of all topics that match, from a position on. No filters: all topics.
    ///
    /// # Errors
    /// Those of the connection. What retention has removed is no error: the answer says so.
    pub async fn log(&self, topics: &[String], from: &str, limit: u32) -> Result<LogPage, ApiError> {
        let mut query = QueryWriter::default();
        query.optional("topics", (!topics.is_empty()).then(|| topics.join(",")).as_deref());
        query.optional("from", Some(from));
        query.optional("limit", Some(&limit.to_string()));
        self.get(format!("/v1/events{}", query.text())).await
    }

    /// The events of all topics that match, from a position on and then as they come. No filters: all topics.
    ///
    /// # Errors
    /// `history-gone`, as [`events`](Self::events).
    pub async fn stream(
        &self,
        topics: &[String],
        from: Option<&str>,
        last: Option<u64>,
    ) -> Result<EventStream, ApiError> {
        let mut query = QueryWriter::default();
        query.optional("topics", (!topics.is_empty()).then(|| topics.join(",")).as_deref());
        query.optional("from", from);
        self.open_stream(format!("/v1/events/stream{}", query.text()), last).await
    }

    /// All topics.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn topics(&self, page: &PageQuery) -> Result<Page<TopicView>, ApiError> {
        self.get(format!("/v1/topics{}", page.to_query())).await
    }

    /// One topic.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn topic(&self, topic: &str) -> Result<TopicView, ApiError> {
        self.get(topic_path(topic, "")).await
    }

    /// Replaces the whole configuration of a topic, and makes it if need be.
    ///
    /// # Errors
    /// `validation-failed`.
    pub async fn put_topic(&self, topic: &str, config: &TopicConfig) -> Result<TopicPut, ApiError> {
        self.json(Call::new(http::Method::PUT, topic_path(topic, "")).body(config)?).await
    }

    /// Forgets a topic with all of its events.
    ///
    /// # Errors
    /// `not-found`, also when an earlier try of this very call did it.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), ApiError> {
        self.delete(topic_path(topic, "")).await
    }

    /// All groups.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn groups(&self, page: &PageQuery) -> Result<Page<GroupView>, ApiError> {
        self.get(format!("/v1/groups{}", page.to_query())).await
    }

    /// One group.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn group(&self, group: &str) -> Result<GroupView, ApiError> {
        self.get(group_path(group, "")).await
    }

    /// Makes a group, or replaces its whole configuration.
    ///
    /// # Errors
    /// `validation-failed`.
    pub async fn put_group(&self, group: &str, config: &GroupConfig) -> Result<GroupView, ApiError> {
        self.json(Call::new(http::Method::PUT, group_path(group, "")).body(config)?).await
    }

    /// Forgets a group with its dead letters.
    ///
    /// # Errors
    /// `not-found`, also when an earlier try of this very call did it.
    pub async fn delete_group(&self, group: &str) -> Result<(), ApiError> {
        self.delete(group_path(group, "")).await
    }

    /// Takes events, waiting for the first as long as the fetch says.
    ///
    /// # Errors
    /// `not-found` when there is no such group.
    pub async fn fetch(&self, group: &str, fetch: &Fetch) -> Result<Fetched, ApiError> {
        let mut call = Call::new(http::Method::POST, group_path(group, "/fetch")).body(fetch)?;
        call.wait = std::time::Duration::from_millis(fetch.wait_ms);
        self.once(call).await
    }

    /// Acks, nacks and prolongs deliveries, each alone.
    ///
    /// # Errors
    /// `not-found` when there is no such group.
    pub async fn settle_deliveries(
        &self,
        group: &str,
        settle: &SettleDeliveries,
    ) -> Result<SettledDeliveries, ApiError> {
        self.post_once(group_path(group, "/settle"), settle).await
    }

    /// Gives deliveries back, of whatever groups, as if they had not been fetched; they may have to wait.
    ///
    /// # Errors
    /// Those of the connection. A lease that is not live is not one.
    pub async fn release_deliveries(
        &self,
        release: &ReleaseDeliveries,
    ) -> Result<DeliveriesReleased, ApiError> {
        self.post("/v1/events/release".to_owned(), release, 0).await
    }

    /// Moves a group; open leases are void.
    ///
    /// # Errors
    /// `not-found` when there is no such group.
    pub async fn seek(&self, group: &str, to: &Seek) -> Result<Sought, ApiError> {
        self.post_once(group_path(group, "/seek"), to).await
    }

    /// A group's dead letters.
    ///
    /// # Errors
    /// `validation-failed` when the cursor belongs to another query.
    pub async fn dead_events(&self, group: &str, page: &PageQuery) -> Result<Page<DeadEvent>, ApiError> {
        self.get(group_path(group, &format!("/dead{}", page.to_query()))).await
    }

    /// Delivers dead letters again; the group's cursor stays.
    ///
    /// # Errors
    /// `validation-failed`.
    pub async fn requeue_dead_events(
        &self,
        group: &str,
        which: &DeadEventSelect,
    ) -> Result<DeadChanged, ApiError> {
        self.post_once(group_path(group, "/dead/requeue"), which).await
    }
}

fn topic_path(topic: &str, rest: &str) -> String {
    format!("/v1/topics/{}{rest}", percent_encode(topic))
}

fn group_path(group: &str, rest: &str) -> String {
    format!("/v1/groups/{}{rest}", percent_encode(group))
}
