//! Where the server listens, for whoever started it.

use std::net::SocketAddr;
use std::path::Path;

use mainstay::{Error, Result};
use serde_json::json;

/// Writes `{"api":"HOST:PORT","admin":"HOST:PORT"}` (`null` without an admin listener), whole: a reader sees the file as
/// it was before or as it is now.
pub(super) fn write(file: &str, api: SocketAddr, admin: Option<SocketAddr>) -> Result<()> {
    let text = json!({ "api": api.to_string(), "admin": admin.map(|admin| admin.to_string()) }).to_string();
    let path = Path::new(file);
    // Beside it: a rename does not cross file systems.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let written = std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&unfinished);
        Error::config(format!("addr_file: cannot write {file}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("addr.json");
        let name = file.to_str().unwrap();
        for port in [1, 2] {
            write(name, ([127, 0, 0, 1], port).into(), Some(([127, 0, 0, 1], 9).into())).unwrap();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, r#"{"admin":"127.0.0.1:9","api":"127.0.0.1:2"}"#);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(write("/nowhere/x", ([127, 0, 0, 1], 1).into(), None).unwrap_err().exit_code(), 78);
    }
}
