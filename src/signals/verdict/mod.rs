//! From evidence to a verdict: one function, the same for compare and scan.
//!
//! **Hypotheses.** Two models are independent, or one descends from the other (or both from a third) in one of
//! several ways: with its tensors in place, with its hidden dimensions permuted or pruned to a subset, with them
//! rotated, or with the basis of its hidden space changed in a way that only invariant tests show.
//! [`super::evidence::Evidence`] holds the tests of each way.
//!
//! **Probability.** Each test ([`super::test::Test`]) is a *source*: under independence its effect is `N(0, sd)`; under descent
//! the source survived with a prior probability `s` and then has an effect spread evenly over
//! `[LEAST_EFFECT, 1]`, else it looks independent. The likelihood ratio of a source is therefore
//! `1 - s + s * L`, with
//!
//! ```text
//! L = sd sqrt(2 pi) exp(x^2 / 2 sd^2) [Phi((x - e)/sd) - Phi((x - 1)/sd)] / (1 - e) / choices
//! ```
//!
//! The odds are the prior odds times the sum over the ways of (prior of the way times the product over its
//! sources); the `score` is the posterior probability that they give. A source that is absent contributes
//! nothing; a weak one (large `sd`) contributes little.
//!
//! **Error rate.** `derived` also needs a source with an effect of at least `LEAST_EFFECT` and `p <= ALPHA`,
//! where p is its tail probability, corrected (Bonferroni) for the number of sources, of layer maps and of
//! models searched.
//!
//! **Abstaining.** `independent` needs every way of descent to have been tested. Where one could not be
//! (`Evidence::open`), where less than nine tenths of the parameters of both were compared, where tensors that no test
//! compares have equal bytes (`unseen`), where the posterior is in between, or where something is significant but too weak for
//! descent (runs from one seed share a few hundredths), the answer is that the weights do not tell.
//!
//! The constants come from what transformations do to weights, not from any set of test models.

mod adapters;
mod answer;
mod hypotheses;
mod judge;
mod relation;
mod sentences;
mod unseen;

pub use adapters::{correlate, misfit};
pub use answer::{ALPHA, Context, Verdict, VerdictKind};
pub use hypotheses::LEAST_EFFECT;
pub use judge::judge;
pub use relation::{Direction, Relation};
