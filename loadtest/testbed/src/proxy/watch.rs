//! Watch streams on their way to the client: counted in events, cut on demand.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::sync::oneshot;

use super::answer::{Error, gone_event};
use super::rule::WatchEnd;

/// The watches that are open now.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    resource: String,
    /// Dropped to end the stream.
    _end: oneshot::Sender<()>,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(self: &Arc<Self>, resource: &str) -> Registration {
        let (_end, ended) = oneshot::channel();
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        let resource = resource.to_owned();
        inner.open.insert(id, Open { resource, _end });
        let watches = Arc::clone(self);
        Registration { id, ended, watches }
    }

    pub(super) fn count(&self, resource: &str) -> usize {
        let inner = self.lock();
        let mut open = 0;
        for watch in inner.open.values() {
            open += usize::from(watch.resource == resource);
        }
        open
    }

    /// Ends the open watches of this resource, or all; gives their number.
    pub(super) fn cut(&self, resource: Option<&str>) -> usize {
        let mut inner = self.lock();
        let before = inner.open.len();
        // A dropped sender ends the stream.
        inner.open.retain(|_, watch| resource.is_some_and(|resource| watch.resource != resource));
        before - inner.open.len()
    }
}

/// One open watch; it leaves the list when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    id: u64,
    ended: oneshot::Receiver<()>,
    watches: Arc<Watches>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.watches.lock().open.remove(&self.id);
    }
}

/// When and how a rule ends the stream.
pub(super) type Limit = (u64, WatchEnd);

/// The API server's stream, up to its limit.
#[derive(Debug)]
pub(super) struct WatchBody {
    upstream: Incoming,
    registration: Registration,
    /// Events that may still pass, and what happens then.
    limit: Option<Limit>,
    ended: bool,
    /// The events before an abort have had their chance to leave.
    flushed: bool,
}

impl WatchBody {
    pub(super) fn new(upstream: Incoming, registration: Registration, limit: Option<Limit>) -> Self {
        Self { upstream, registration, limit, ended: false, flushed: false }
    }

    /// The part of the data that may pass. An event is a line.
    fn pass(&mut self, data: Bytes) -> Bytes {
        let Some((left, _)) = &mut self.limit else {
            return data;
        };
        for (at, byte) in data.iter().enumerate() {
            if *byte == b'\n' {
                *left -= 1;
                if *left == 0 {
                    return data.slice(..=at);
                }
            }
        }
        data
    }

    fn end(&mut self, how: WatchEnd, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // An error discards what the connection has buffered; waiting once makes it flush.
        if how == WatchEnd::Abort && !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ended = how != WatchEnd::Stall;
        match how {
            WatchEnd::Clean => Poll::Ready(None),
            WatchEnd::Abort => Poll::Ready(Some(Err("watch aborted by a rule".into()))),
            // The registration keeps the waker: only a cut ends a silent stream.
            WatchEnd::Stall => Poll::Pending,
            WatchEnd::Gone => Poll::Ready(Some(Ok(Frame::data(gone_event())))),
        }
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.ended || Pin::new(&mut this.registration.ended).poll(context).is_ready() {
            this.ended = true;
            return Poll::Ready(None);
        }
        if let Some((0, how)) = this.limit {
            return this.end(how, context);
        }
        match ready!(Pin::new(&mut this.upstream).poll_frame(context)) {
            Some(Ok(frame)) => {
                let frame = frame.map_data(|data| this.pass(data));
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }
}
