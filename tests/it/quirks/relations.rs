//! Structural relations: from facts of the checkpoint.

use super::*;

#[test]
fn the_same_tensors_are_a_copy() {
    let bench = Bench::new();
    let copy = bench.model("copy", &demo_tensors(BASE), &json!({}));
    let other = bench.model("other", &demo_tensors(UNRELATED), &json!({}));
    assert_is(&bench.compare(&copy, &demo(BASE)), "identical", "identical", "undetermined");
    let moved = renamed(&demo_tensors(BASE), |name| format!("module.{name}"));
    assert_is(
        &bench.compare(&bench.model("x", &moved, &json!({})), &copy),
        "derived",
        "copy or cast",
        "undetermined",
    );
    assert_eq!(bench.compare(&other, &copy)["related"], false);
    assert_eq!(Tensor::f32(&[1], &[1.0]).values(), [1.0]);
}
