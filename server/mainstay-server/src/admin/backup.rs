//! A consistent copy of the embedded store: `POST /admin/backup`.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, header};
use mainstay::core::access::ScopeKind;
use mainstay_api::Problem;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::api::input::Nothing;
use crate::api::{Answer, Call, audit, error};

/// How much is read at once.
const PIECE: usize = 256 << 10;
/// How many pieces are read ahead of the client.
const AHEAD: usize = 4;

/// The copy is made beside the store, where there is room if anywhere, and sent from there.
pub(super) async fn backup(call: Call) -> Answer {
    let mut input = call.input();
    let nothing = input.body::<Nothing>()?;
    input.finish(nothing)?;
    call.caller.must_always(ScopeKind::Admin)?;
    let random = call.api.store.entropy();
    let copy = Copy(call.api.backup_dir.join(format!(".mainstay-backup-{random:016x}.db")));
    call.api.store.store().backup(&copy.0).await.map_err(|error| error::failed(&error))?;
    call.apply(vec![audit(&call, "store.backup", "store")], None).await?;
    let (file, length) = open(&copy.0).await?;
    let (pieces, sent) = mpsc::channel(AHEAD);
    // On the main runtime: files are not to hold up the thread that answers probes.
    call.api.tasks.spawn("backup", async move {
        // The open file is all there is of it now: however this ends, nothing is left on the disk.
        drop(copy);
        read(file, pieces).await;
    });
    let body = stream::unfold(sent, async |mut sent| sent.recv().await.map(|piece| (piece, sent)));
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3"));
    let attachment = HeaderValue::from_static("attachment; filename=\"mainstay-backup.db\"");
    headers.insert(header::CONTENT_DISPOSITION, attachment);
    Ok(response)
}

async fn open(path: &Path) -> Result<(File, u64), Problem> {
    let opened = async {
        let file = File::open(path).await?;
        let length = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, length))
    };
    opened.await.map_err(|error| error::internal(&format!("the copy cannot be read: {error}")))
}

/// Until the end, a failure, or the client's leave.
async fn read(mut file: File, pieces: mpsc::Sender<std::io::Result<Bytes>>) {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = match file.read_buf(&mut piece).await {
            Ok(0) => return,
            Ok(_) => Ok(piece.freeze()),
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        if pieces.send(read).await.is_err() || failed {
            return;
        }
    }
}

/// A file that is removed when its name is not needed any more, with whatever SQLite may have put beside it.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal", "-lock"] {
            let mut path = self.0.as_os_str().to_owned();
            path.push(suffix);
            let _ = std::fs::remove_file(path);
        }
    }
}
