//! The sockets: one receive loop for UDP, one task per TCP connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::reply::{Transport, reply};
use super::zone::Zone;

/// Attempts to find a port that is free for both UDP and TCP: a collision is rare, two in a row nearly impossible.
const BIND_ATTEMPTS: usize = 16;

/// Largest UDP datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Answers that wait for their delay at once, a task of about 1 KiB each; a question beyond is not answered.
const MAX_DELAYED: usize = 65_536;

/// TCP connections at once: well below the usual 1,048,576 descriptors and above any test's need; more wait in the backlog.
const MAX_TCP_CONNECTIONS: usize = 4_096;

/// Answers that wait for a slow TCP reader before we stop reading its questions.
const TCP_QUEUE: usize = 64;

/// A TCP connection without a question for so long is closed, as servers do.
const TCP_IDLE: Duration = Duration::from_secs(60);

/// Pause after a socket error, so that a lasting one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(1);

/// Both sockets on the same port.
pub(super) async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let listener = TcpListener::bind(address).await?;
        match UdpSocket::bind(listener.local_addr()?).await {
            Ok(socket) => return Ok((socket, listener)),
            // Only a port that the system chose can be chosen again.
            Err(_) if address.port() == 0 && attempt < BIND_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// Answers datagrams for ever.
pub(super) async fn serve_udp(socket: UdpSocket, zone: Arc<Zone>) {
    let socket = Arc::new(socket);
    let delayed = Arc::new(Semaphore::new(MAX_DELAYED));
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            sleep(ERROR_PAUSE).await;
            continue;
        };
        let Some(answer) = reply(&zone, &buffer[..length], Transport::Udp) else {
            continue;
        };
        if answer.delay.is_zero() {
            // A client that has gone is not our concern.
            let _ = socket.send_to(&answer.bytes, peer).await;
            continue;
        }
        let Ok(permit) = Arc::clone(&delayed).try_acquire_owned() else {
            continue;
        };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            sleep(answer.delay).await;
            let _ = socket.send_to(&answer.bytes, peer).await;
            drop(permit);
        });
    }
}

/// Accepts connections for ever.
pub(super) async fn serve_tcp(listener: TcpListener, zone: Arc<Zone>) {
    let connections = Arc::new(Semaphore::new(MAX_TCP_CONNECTIONS));
    let delayed = Arc::new(Semaphore::new(MAX_DELAYED));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ERROR_PAUSE).await;
            continue;
        };
        let zone = Arc::clone(&zone);
        let delayed = Arc::clone(&delayed);
        tokio::spawn(async move {
            // However the connection ends, the client sees it.
            let _ = converse(stream, &zone, &delayed).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, zone: &Zone, delayed: &Arc<Semaphore>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let (answers, queue) = mpsc::channel(TCP_QUEUE);
    tokio::spawn(write_answers(writer, queue));
    loop {
        let question = timeout(TCP_IDLE, read_question(&mut reader)).await??;
        let Some(answer) = reply(zone, &question, Transport::Tcp) else {
            continue;
        };
        if answer.delay.is_zero() {
            if answers.send(answer.bytes).await.is_err() {
                return Ok(());
            }
            continue;
        }
        let Ok(permit) = Arc::clone(delayed).try_acquire_owned() else {
            continue;
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            sleep(answer.delay).await;
            let _ = answers.send(answer.bytes).await;
            drop(permit);
        });
    }
}

async fn read_question(reader: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut question = vec![0; usize::from(length)];
    reader.read_exact(&mut question).await?;
    Ok(question)
}

async fn write_answers(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = queue.recv().await {
        // The encoder never passes 65,535 bytes.
        let Ok(length) = u16::try_from(answer.len()) else {
            continue;
        };
        // One write: a length that travels alone costs a round trip with delayed acknowledgements.
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        if writer.write_all(&framed).await.is_err() {
            return;
        }
    }
}
