use crate::harness::Place;

mod conformance {
    mainstay_testkit::conformance!(crate::harness::Place::new(), durable);
}

mod through_another_process {
    mainstay_testkit::conformance!(crate::harness::Pair::new());
}

#[test]
fn the_store_does_what_the_model_does() {
    mainstay_testkit::model::run(Place::new);
}

#[test]
fn the_store_does_with_events_what_the_model_does() {
    mainstay_testkit::model::run_events(Place::new);
}
