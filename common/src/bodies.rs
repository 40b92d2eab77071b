//! How long the body of a request may take. A client that sends nothing, or a byte now and then, must not
//! hold a connection, or what its request waits for, for as long as it likes.

use std::{io, time::Duration};

use awc::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::clock::{DurationMs, MonoMs, Now};

/// How long a body may take before its rate counts.
const GRACE: DurationMs = DurationMs(10_000);
/// The lowest rate from then on, in bytes a second.
const MIN_RATE: u64 = 16 * 1024;
/// The longest that a body may take, however large.
const MOST: DurationMs = DurationMs(120_000);

/// The deadline for the next byte of a body that began at `began` and of which `received` bytes are there.
fn deadline(began: MonoMs, received: u64) -> MonoMs {
    let by_rate = DurationMs(GRACE.0 + received.saturating_mul(1_000) / MIN_RATE);
    began + by_rate.min(MOST)
}

/// The body, which ends with an error once it comes too slowly.
pub fn paced<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin>(
    body: S,
) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    stream::unfold(Some((body, Now::read().mono, 0)), |state| async move {
        let (mut body, began, received) = state?;
        let left = Duration::from(deadline(began, received) - Now::read().mono);
        match tokio::time::timeout(left, body.next()).await {
            Ok(Some(Ok(part))) => {
                let received = received + part.len() as u64;
                Some((Ok(part), Some((body, began, received))))
            }
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => {
                let seconds = (Now::read().mono - began).0 / 1_000;
                let why = format!("{received} bytes have come within {seconds} s");
                Some((Err(PayloadError::Io(io::Error::new(io::ErrorKind::TimedOut, why))), None))
            }
        }
    })
}

/// Whether this is how [`paced`] ends a body.
#[must_use]
pub fn is_too_slow(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_grace_then_a_lowest_rate_and_an_end() {
        let began = MonoMs(7);
        let limit = |received| deadline(began, received) - began;
        assert_eq!(limit(0), GRACE);
        assert_eq!(limit(MIN_RATE * 5), DurationMs(GRACE.0 + 5_000));
        assert_eq!(limit(u64::MAX), MOST);
    }

    #[test]
    fn a_body_that_stalls_ends_and_one_that_flows_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let flows = stream::iter((0..3).map(|_| Ok(Bytes::from_static(b"abc"))));
            let parts: Vec<_> = paced(Box::pin(flows)).collect().await;
            assert!(parts.len() == 3 && parts.iter().all(Result::is_ok));
            let fails = stream::iter([Err(PayloadError::Overflow), Ok(Bytes::new())]);
            let parts: Vec<_> = paced(Box::pin(fails)).collect().await;
            assert!(matches!(parts[..], [Err(PayloadError::Overflow)]));
        });
    }
}
