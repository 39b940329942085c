//! What a running engine exposes: the metrics of the page and no others, few enough and quickly, and the alerts on them.

mod alerts;
mod exposed;
pub(crate) mod scrapes;
