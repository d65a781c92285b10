//! Serves the metrics and the health of the guards over HTTP.
//!
//! If the port is open to other hosts, its clients are not trusted. The number of connections is limited, in total and for
//! each source. Each connection has one request, whose head must arrive soon and fit into a small buffer. If too many
//! are open, old ones are closed. The guards are read for one request at a time, in
//! a separate thread. So such clients can make Prometheus wait a short time, but neither the service nor the guards.

pub(crate) mod address;
mod connections;
pub mod page;
mod reader;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use self::connections::Connections;
pub(super) use self::reader::Reader;
use crate::error::{Error, Result};
use crate::ops::Console;

/// The length of the queue of connections in the kernel.
const MOST_WAITING: u32 = 64;
/// The longest time of a connection, with its request and its reply.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest time until the head of a request is complete.
const HEAD_LIMIT: Duration = Duration::from_secs(2);
/// The size of the buffer for the head of a request, in bytes.
const BUFFER: usize = 16 << 10;
/// The pause after a connection could not be accepted, for lack of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);

const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_1: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const WORDS: &str = "text/plain; charset=utf-8";

/// Listens on the port. The caller must be within the runtime.
///
/// # Errors
/// Another process has the port, or the kernel refuses it.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // The service starts before the network, and so before the address exists.
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
        socket.bind(address)?;
        socket.listen(MOST_WAITING)
    };
    listen().map_err(|error| {
        let kind = error.kind();
        let failed = Error::failed(format!("cannot serve metrics on {address}")).caused_by(error);
        match kind {
            io::ErrorKind::AddrInUse => failed.remedy(
                "Each service needs a port of its own: choose another one (--metrics, or PORTGUARD_METRICS).",
            ),
            _ => failed,
        }
    })
}

/// Replies to requests until the runtime ends.
pub(super) fn serve(listener: TcpListener, reader: Reader, console: &dyn Console) {
    if let Ok(address) = listener.local_addr() {
        console.note(format!("metrics at http://{address}/metrics"));
    }
    let reader = Arc::new(Mutex::new(reader));
    let mut connections = Connections::default();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let reader = Arc::clone(&reader);
            let connection = tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, Arc::clone(&reader)));
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .max_buf_size(BUFFER)
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_LIMIT)
                    .serve_connection(TokioIo::new(stream), service);
                // The client notices an error or a time-out itself.
                let _ = timeout(LIMIT, connection).await;
            });
            connections.add(peer.ip(), connection.abort_handle());
        }
    });
}

async fn answer(
    request: Request<Incoming>,
    reader: Arc<Mutex<Reader>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = matches!(request.uri().path(), "/metrics" | "/healthz");
    Ok(match (known, request.method()) {
        (false, _) => {
            response(StatusCode::NOT_FOUND, WORDS, "the paths are /metrics and /healthz\n".to_owned())
        }
        (true, &Method::GET | &Method::HEAD) if request.uri().path() == "/metrics" => {
            let open_metrics = asks_for_open_metrics(&request);
            match in_thread(reader, Reader::metrics).await {
                Ok(metrics) if open_metrics => {
                    response(StatusCode::OK, OPEN_METRICS_1, metrics.into_open_metrics())
                }
                Ok(metrics) => response(StatusCode::OK, PLAIN, page::plain(&metrics.into_open_metrics())),
                Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, WORDS, format!("{error}\n")),
            }
        }
        (true, &Method::GET | &Method::HEAD) => match in_thread(reader, |reader| reader.health()).await {
            Ok(health) => {
                let is_well = health.iter().all(|(_, health)| health.is_as_ordered());
                let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let lines = health.iter().map(|(name, health)| format!("{name}: {health}\n"));
                response(status, WORDS, lines.collect())
            }
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, WORDS, format!("{error}\n")),
        },
        (true, _) => {
            let mut response =
                response(StatusCode::METHOD_NOT_ALLOWED, WORDS, "the methods are GET and HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            response
        }
    })
}

fn asks_for_open_metrics(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|types| types.contains(OPEN_METRICS)))
}

/// Reads the guards in a separate thread: for one request at a time, even if the client does not wait for the reply.
async fn in_thread<T: Send + 'static>(
    reader: Arc<Mutex<Reader>>,
    read: impl FnOnce(&mut Reader) -> T + Send + 'static,
) -> T {
    let mut reader = reader.lock_owned().await;
    let done = spawn_blocking(move || read(&mut reader));
    // The task is never cancelled, so an error means that it has panicked.
    done.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
