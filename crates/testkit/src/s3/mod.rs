//! An S3 server over a local directory, in this process: for tests, for work without a cloud, and for the stack that
//! is built without an image registry. It checks signatures, and lets pages of any origin in. It does not sync what it
//! writes and keeps no quota, so it is no place for objects that anyone would miss.

mod disk;

use disk::Disk;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::cors::Cors;

/// Where a server listens, what it serves and to whom.
#[derive(Clone)]
pub struct ServerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory with one sub-directory per bucket; it is made when missing.
    pub root: PathBuf,
    /// The only access key that is let in.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl ServerConfig {
    /// A free loopback port, and keys that everybody may know.
    pub fn loopback(root: impl Into<PathBuf>) -> Self {
        ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            root: root.into(),
            access_key: "test-access".to_owned(),
            secret_key: "test-secret".to_owned(),
        }
    }
}

/// A running server. Dropping it closes the listener and all connections.
pub struct Server {
    address: SocketAddr,
    config: ServerConfig,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts serving on the current runtime.
    ///
    /// # Errors
    /// When the directory cannot be made or the address cannot be bound.
    pub async fn start(config: ServerConfig) -> io::Result<Self> {
        std::fs::create_dir_all(&config.root)?;
        let disk = Disk::open(&config.root)?;
        let mut builder = S3ServiceBuilder::new(disk);
        builder.set_auth(SimpleAuth::from_single(config.access_key.clone(), config.secret_key.clone()));
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, builder.build(), stop.clone(), tasks.clone()));
        Ok(Server { address, config, stop, tasks })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients, who must use path-style addressing.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it was started.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Makes a bucket; one that exists is fine.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn create_bucket(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.config.root.join(name))
    }

    /// Multipart uploads that are neither completed nor aborted, as (bucket, key).
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open_uploads(&self) -> io::Result<Vec<(String, String)>> {
        let uploads = disk::open_uploads(&self.config.root)?;
        Ok(uploads.into_iter().map(|upload| (upload.bucket, upload.key)).collect())
    }

    /// Ends all connections and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, service: S3Service, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A connection that broke before it was taken concerns nobody.
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let (service, stop) = (TowerToHyperService::new(Cors::permissive(service.clone())), stop.clone());
        tasks.spawn(async move {
            let builder = Builder::new(TokioExecutor::new()).http1_only();
            tokio::select! {
                () = stop.cancelled() => {}
                _ = builder.serve_connection(TokioIo::new(stream), service) => {}
            }
        });
    }
}
