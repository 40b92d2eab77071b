//! Large bodies: written slice by slice, so that a connection never buffers more
//! than one, and counted until they are sent, so that slow readers cannot make the
//! master hold without bound what each of them reads.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::Ordering::SeqCst,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, MessageBody},
    web,
};
use bytes::Bytes;
use shef_common::problem::{Code, Problem};

use super::{Api, ApiError};

/// The size of a connection's buffer.
const SLICE_BYTES: usize = 32 * 1024;
/// The most bytes of large bodies on their way at once, however many readers there are.
pub const MAX_UNSENT_BYTES: usize = 128 * 1024 * 1024;

/// A body on its way; its bytes count until it is dropped.
pub struct Slices {
    left: Bytes,
    counted: usize,
    api: web::Data<Api>,
}

impl Slices {
    /// Takes `body`'s bytes into account.
    ///
    /// # Errors
    /// Overloaded, when [`MAX_UNSENT_BYTES`] are on their way; a body larger than that goes alone.
    pub fn of(body: Bytes, api: &web::Data<Api>) -> Result<Self, ApiError> {
        let counted = body.len();
        let before = api.unsent_bytes.fetch_add(counted, SeqCst);
        // Made first, so that the bytes are given back by its drop.
        let slices = Self { left: body, counted, api: api.clone() };
        if before > 0 && before + counted > MAX_UNSENT_BYTES {
            let detail = format!(
                "{before} bytes of answers are on their way to slow readers, and {MAX_UNSENT_BYTES} is \
                 the bound; ask again later"
            );
            return Err(Problem::new(Code::Overloaded, detail).into());
        }
        Ok(slices)
    }
}

impl Drop for Slices {
    fn drop(&mut self) {
        self.api.unsent_bytes.fetch_sub(self.counted, SeqCst);
    }
}

impl MessageBody for Slices {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let take = self.left.len().min(SLICE_BYTES);
        Poll::Ready((take > 0).then(|| Ok(self.left.split_to(take))))
    }
}
