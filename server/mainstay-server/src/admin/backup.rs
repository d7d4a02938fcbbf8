//! A consistent copy of the embedded store: `POST /admin/backup`.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use futures_util::stream;
use http::{HeaderValue, header};
use mainstay::core::access::ScopeKind;
use mainstay_api::Problem;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::api::input::Nothing;
use crate::api::{Answer, Call, audit, error};

/// How much is read at once.
const PIECE: usize = 256 << 10;

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
    // From here on the open file is all there is of it: however this ends, nothing is left on the disk.
    drop(copy);
    let mut response = Response::new(Body::from_stream(stream::try_unfold(file, piece)));
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

async fn piece(mut file: File) -> std::io::Result<Option<(bytes::Bytes, File)>> {
    let mut piece = BytesMut::with_capacity(PIECE);
    let read = file.read_buf(&mut piece).await?;
    Ok((read > 0).then(|| (piece.freeze(), file)))
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
