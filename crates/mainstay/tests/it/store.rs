//! Opening stores by URL.

use mainstay::store::open;

#[test]
fn a_store_url_that_cannot_be_opened_says_why_and_what_can() {
    let rows = [
        ("mysql://x", "the forms are memory:, sqlite:PATH, postgres://… and http://HOST:PORT"),
        ("memory:x", "is not a store URL"),
        ("sqlite:", "is not a store URL"),
        ("", "is not a store URL"),
        ("postgres:localhost", "is not a store URL"),
        ("redis://localhost", "`redis:` cannot be opened by this version yet"),
        ("nats://localhost", "`nats:` cannot be opened by this version yet"),
        ("https://localhost:6246", "put a TLS proxy beside this program"),
        ("http://me:secret@localhost:6246", "give the token apart from it"),
        ("http:", "is not a store URL"),
    ];
    for (url, says) in rows {
        let error = open(url).unwrap_err();
        assert!(error.to_string().contains(says), "{url}: {error}");
        assert_eq!(error.exit_code(), 78, "{url}");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn jobs_outlive_a_client_of_the_embedded_store() {
    use mainstay::{Job, secs};
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Note;
    impl Job for Note {
        const KIND: &'static str = "note";
        const QUEUE: &'static str = "notes";
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("jobs.db").display());
    let store = open(&url).unwrap();
    let id = store.enqueue(Note).await.unwrap().id;
    store.store().close(secs(5)).await.unwrap();
    let again = open(&url).unwrap();
    assert_eq!(again.job(id).await.unwrap().unwrap().state.as_str(), "available");
    again.store().close(secs(5)).await.unwrap();
}
