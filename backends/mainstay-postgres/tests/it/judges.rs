use crate::{crowd::Eight, harness::Place, pooler::Pooled};

mod conformance {
    mainstay_testkit::conformance!(crate::harness::Place::new(), durable);
}

mod through_eight_handles {
    mainstay_testkit::conformance!(crate::crowd::Eight::new());
}

#[test]
fn the_store_does_what_the_model_does() {
    mainstay_testkit::model::run(Place::new);
}

#[test]
fn the_store_does_with_events_what_the_model_does() {
    mainstay_testkit::model::run_events(Place::new);
}

#[test]
fn eight_handles_do_what_the_model_does() {
    mainstay_testkit::model::run_one_in(4, Eight::new);
}

#[test]
fn eight_handles_do_with_events_what_the_model_does() {
    mainstay_testkit::model::run_events_one_in(4, Eight::new);
}

#[test]
fn behind_a_pooler_the_store_does_what_the_model_does() {
    mainstay_testkit::model::run_one_in(4, Pooled::new);
}
