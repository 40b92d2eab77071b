//! A bound on WebSocket frames while they come in. The codec looks at the size of a frame when all of it is
//! there, and keeps what came until then: the length that a frame declares is checked here, before the codec
//! sees it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use actix_codec::{Framed, FramedParts};
use awc::{BoxedSocket, error::PayloadError, ws::Codec};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes of a frame: what the codec takes, too.
const MAX_BYTES: u64 = 64 * 1024;
/// The longest head of a frame: two bytes, eight of the length, four of the mask.
const MAX_HEAD: usize = 14;

/// A frame declares more bytes than are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket frame declares {0} bytes, which is more than {MAX_BYTES}")]
pub struct FrameTooLarge(u64);

/// Follows the frames of one direction of a connection.
#[derive(Debug, Default)]
pub struct FrameLimit {
    /// The head of the next frame, as far as it is there.
    head: [u8; MAX_HEAD],
    head_bytes: usize,
    /// How many bytes of the present frame are still to come.
    left: u64,
}

impl FrameLimit {
    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// [`FrameTooLarge`]: nothing more of it must be kept.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), FrameTooLarge> {
        loop {
            let rest = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[rest..];
            self.left -= rest as u64;
            let [next, after @ ..] = bytes else { return Ok(()) };
            self.head[self.head_bytes] = *next;
            self.head_bytes += 1;
            bytes = after;
            if let Some(length) = declared(&self.head[..self.head_bytes]) {
                if length > MAX_BYTES {
                    return Err(FrameTooLarge(length));
                }
                (self.head_bytes, self.left) = (0, length);
            }
        }
    }
}

/// The length that a frame's head declares, once the head is complete (RFC 6455, section 5.2).
fn declared(head: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = head else { return None };
    let short = second & 0x7f;
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if rest.len() < extended + mask {
        return None;
    }
    Some(match extended {
        0 => short.into(),
        _ => rest[..extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    })
}

/// What comes in on a server's WebSocket, up to a frame that declares too much.
pub fn bounded_payload<S: Stream<Item = Result<Bytes, PayloadError>>>(
    payload: S,
) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    let mut limit = FrameLimit::default();
    payload.map(move |part| {
        let part = part?;
        limit.take(&part).map_err(|_| PayloadError::Overflow)?;
        Ok(part)
    })
}

/// A client's WebSocket, whose reading ends at a frame that declares too much.
///
/// # Errors
/// [`FrameTooLarge`]: such a frame came with the answer to the handshake.
pub fn bounded_socket(
    socket: Framed<BoxedSocket, Codec>,
) -> Result<Framed<BoundedSocket, Codec>, FrameTooLarge> {
    let parts = socket.into_parts();
    let mut limit = FrameLimit::default();
    limit.take(&parts.read_buf)?;
    let io = BoundedSocket { io: parts.io, limit };
    Ok(Framed::from_parts(FramedParts::with_read_buf(io, parts.codec, parts.read_buf)))
}

/// A socket on which frames are bounded.
pub struct BoundedSocket {
    io: BoxedSocket,
    limit: FrameLimit,
}

impl AsyncRead for BoundedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &read
            && let Err(error) = self.limit.take(&buf.filled()[before..])
        {
            buf.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        read
    }
}

impl AsyncWrite for BoundedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u64, masked: bool) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut head = match length {
            0..126 => vec![0x82, mask_bit | u8::try_from(length).unwrap()],
            126..=0xffff => [&[0x82, mask_bit | 0x7e][..], &length.to_be_bytes()[6..]].concat(),
            _ => [&[0x82, mask_bit | 0x7f][..], &length.to_be_bytes()].concat(),
        };
        head.extend(masked.then_some([1, 2, 3, 4]).into_iter().flatten());
        head
    }
    /// A frame of `length` bytes, all of which look like the head of one that is too large.
    fn whole(length: u64, masked: bool) -> Vec<u8> {
        let bytes = usize::try_from(length).unwrap();
        [frame(length, masked), vec![0xff; bytes]].concat()
    }

    #[test]
    fn frames_of_every_form_pass_up_to_the_bound_in_whatever_pieces_they_come() {
        let lengths = [0, 1, 125, 126, 127, 65_535, MAX_BYTES];
        let all: Vec<u8> = lengths
            .into_iter()
            .flat_map(|length| [whole(length, true), whole(length, false)])
            .flatten()
            .collect();
        for piece in [1, 2, 3, 7, 1_000, all.len()] {
            let mut limit = FrameLimit::default();
            for part in all.chunks(piece) {
                assert_eq!(limit.take(part), Ok(()), "in pieces of {piece}");
            }
            assert_eq!(limit.take(&frame(1 << 40, true)), Err(FrameTooLarge(1 << 40)));
        }
    }

    #[test]
    fn a_frame_that_declares_more_is_refused_by_its_head_alone() {
        for length in [MAX_BYTES + 1, 1 << 40, u64::MAX] {
            for masked in [true, false] {
                let head = frame(length, masked);
                let (last, most) = head.split_last().unwrap();
                let mut limit = FrameLimit::default();
                assert_eq!(limit.take(most), Ok(()));
                assert_eq!(limit.take(&[*last]), Err(FrameTooLarge(length)));
            }
        }
    }
}
