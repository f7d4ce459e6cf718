//! A collector of traces on loopback.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

/// What was posted: path, content type, body.
pub type Post = (String, String, Vec<u8>);

pub struct Sink {
    pub base: String,
    posts: UnboundedReceiver<Post>,
    serving: AbortHandle,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(posts): State<UnboundedSender<Post>>, uri: Uri, headers: HeaderMap, body: Bytes) {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    posts.send((uri.path().to_owned(), kind.to_owned(), body.to_vec())).unwrap();
}

impl Sink {
    pub async fn start() -> Self {
        let (sender, posts) = unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(sender);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Sink { base, posts, serving }
    }

    /// The next post; it was sent already, or is on its way.
    pub async fn next(&mut self) -> Post {
        tokio::time::timeout(Duration::from_secs(10), self.posts.recv()).await.unwrap().unwrap()
    }

    pub fn is_empty(&mut self) -> bool {
        self.posts.try_recv().is_err()
    }
}

/// The body holds these bytes: protobuf keeps strings and ids as they are.
pub fn holds(body: &[u8], bytes: &[u8]) -> bool {
    body.windows(bytes.len()).any(|window| window == bytes)
}
