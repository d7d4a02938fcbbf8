//! The asynchronous HTTP client.
