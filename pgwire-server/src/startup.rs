//! What happens before a session: TLS refusal, cancel requests, the start-up message.

use bytes::{Buf as _, BytesMut};
use engine::EngineError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use types::SqlState;
use types::limits::STARTUP_BYTES_MAX;

use crate::error::ConnectionError;
use crate::registry::Key;

const VERSION_3: u32 = 196_608;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// What a client came for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A session with these parameters; the minor protocol version it asked for.
    Session { parameters: Vec<(String, String)>, minor: u32 },
    /// To cancel a statement of another connection.
    Cancel(Key),
    /// Nothing: the client closed the connection.
    Gone,
}

/// Reads up to the start-up message. `buffer` keeps what the client sent ahead.
pub(crate) async fn open(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<Opening, ConnectionError> {
    loop {
        let Some(mut packet) = read_packet(socket, buffer).await? else {
            return Ok(Opening::Gone);
        };
        match packet.get_u32() {
            SSL_REQUEST | GSS_REQUEST => {
                // Bytes sent ahead of the answer would be read as if they had been encrypted.
                if !buffer.is_empty() {
                    let what = "received unencrypted data after an encryption request";
                    return Err(ConnectionError::protocol(what));
                }
                socket.write_all(b"N").await?;
            }
            CANCEL_REQUEST if packet.len() == 8 => {
                let (process, secret) = (packet.get_i32(), packet.get_i32());
                return Ok(Opening::Cancel(Key { process, secret }));
            }
            version if version >> 16 == VERSION_3 >> 16 => {
                let parameters = parameters(&packet)?;
                return Ok(Opening::Session { parameters, minor: version & 0xFFFF });
            }
            version => {
                let what =
                    format!("unsupported frontend protocol {}.{}", version >> 16, version & 0xFFFF);
                return Err(ConnectionError::Fatal(EngineError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    what,
                )));
            }
        }
    }
}

/// One packet of the start-up phase without its length; `None` when the client is gone.
async fn read_packet(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<Option<BytesMut>, ConnectionError> {
    loop {
        if let Some(head) = buffer.first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
            if !(8..=STARTUP_BYTES_MAX).contains(&length) {
                return Err(ConnectionError::protocol("invalid length of startup packet"));
            }
            if buffer.len() >= length {
                let mut packet = buffer.split_to(length);
                packet.advance(4);
                return Ok(Some(packet));
            }
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Names and values of a start-up message.
fn parameters(packet: &[u8]) -> Result<Vec<(String, String)>, ConnectionError> {
    let malformed = || ConnectionError::protocol("invalid startup packet layout");
    let text = packet.strip_suffix(b"\0").ok_or_else(malformed)?;
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Result<Vec<String>, _> = text
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8(part.to_vec()).map_err(|_| malformed()))
        .collect();
    let parts = parts?;
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() || pairs.iter().any(|[name, _]| name.is_empty()) {
        return Err(malformed());
    }
    Ok(pairs.iter().map(|[name, value]| (name.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_parameters_are_pairs() {
        let read = parameters(b"user\0me\0database\0azimuth\0\0").unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read, [pair("user", "me"), pair("database", "azimuth")]);
        assert_eq!(parameters(b"\0").unwrap(), []);
        for bad in [&b"user\0me"[..], b"user\0\0\0x\0\0", b"\xff\0x\0\0"] {
            assert!(parameters(bad).is_err(), "{bad:?}");
        }
    }
}
