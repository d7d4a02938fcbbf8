//! The VFS: SQLite's calls on their way to the system, written down, and refused where the test planned it.
#![expect(unsafe_code, reason = "SQLite's VFS interface is a table of C functions over raw pointers")]

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    mem,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr, slice,
    sync::{Arc, Mutex, MutexGuard},
};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::{
    disk::{Call, State, Verdict, lock},
    log::{Event, FileId},
};

/// A VFS that SQLite knows, until dropped. The VFS itself stays in memory for good: a connection may outlive this.
pub(super) struct Registration(*mut sqlite3_vfs);

// SAFETY: the pointer is only handed to `sqlite3_vfs_unregister`, which takes SQLite's own mutex.
unsafe impl Send for Registration {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Registration {}

/// What a registered VFS knows: `pAppData` points to it, and it is never freed.
struct App {
    /// The system's own VFS.
    system: *mut sqlite3_vfs,
    state: Arc<Mutex<State>>,
}

/// An open file. The system's own file structure follows it in the same allocation, [`SYSTEM_AT`] bytes on.
#[repr(C)]
struct File {
    base: sqlite3_file,
    app: *const App,
    /// What the log calls it; [`UNLOGGED`] for SQLite's temporary files, which nobody misses after a crash.
    id: FileId,
    /// The system's VFS syncs the folder together with the first sync of a journal that was opened to be made.
    syncs_folder: bool,
}

const JOURNALS: c_int = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
const UNLOGGED: FileId = FileId::MAX;
const SYSTEM_AT: usize = mem::size_of::<File>().next_multiple_of(16);

impl Registration {
    pub(super) fn new(name: &str, state: Arc<Mutex<State>>) -> Registration {
        let name = CString::new(name).expect("the name has no zero in it");
        // SAFETY: finds SQLite's default VFS, which lives as long as the process.
        let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        assert!(!system.is_null(), "SQLite has a VFS for this system");
        // SAFETY: just checked; a registered VFS is valid and its fields do not change.
        let (os_file, max_path) = unsafe { ((*system).szOsFile, (*system).mxPathname) };
        let app = Box::into_raw(Box::new(App { system, state }));
        let vfs = sqlite3_vfs {
            iVersion: 2,
            szOsFile: SYSTEM_AT as c_int + os_file,
            mxPathname: max_path,
            pNext: ptr::null_mut(),
            zName: name.into_raw(),
            pAppData: app.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_int64),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        };
        let vfs = Box::into_raw(Box::new(vfs));
        // SAFETY: `vfs` is complete and never freed.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite takes the VFS in");
        Registration(vfs)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: it was registered by `new`. Connections that are open keep their pointer, which stays valid.
        unsafe { ffi::sqlite3_vfs_unregister(self.0) };
    }
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // Without xFetch: nothing is read past the log.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(file_lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Calls a method of the system's VFS.
macro_rules! system_vfs {
    ($vfs:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite hands in the VFS that `Registration::new` made; its `pAppData` is an `App` that is never
        // freed. The arguments are passed on as SQLite gave them, to a method with the same contract.
        unsafe {
            let system = (*(*$vfs).pAppData.cast::<App>()).system;
            let method = (*system).$method.expect("the system's VFS has every method");
            method(system $(, $argument)*)
        }
    }};
}

/// Calls a method of the system's file.
macro_rules! system_file {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite hands in a file that `open` made and that is not closed yet, so the system's file behind it
        // is open too. The arguments are passed on as SQLite gave them, to a method with the same contract.
        unsafe {
            let system = system_part($file);
            let method = (*(*system).pMethods).$method.expect("the system's files have every method");
            method(system $(, $argument)*)
        }
    }};
}

/// The system's file in the same allocation.
///
/// # Safety
/// `file` points to `szOsFile` bytes of a VFS made here.
unsafe fn system_part(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` counts `SYSTEM_AT` bytes and then those of the system's file.
    unsafe { file.cast::<u8>().add(SYSTEM_AT).cast() }
}

/// The state and the name of an open file; `None`: it is not logged.
fn logged<'a>(file: *mut sqlite3_file) -> Option<(MutexGuard<'a, State>, FileId)> {
    // SAFETY: SQLite hands in a file that `open` made; its `app` is never freed.
    let (app, id) = unsafe {
        let file = file.cast::<File>();
        (&*(*file).app, (*file).id)
    };
    (id != UNLOGGED).then(|| (lock(&app.state), id))
}

fn verdict(state: &mut State, call: Call, id: FileId) -> Verdict {
    // After the disk was dropped, there are no names; nor is there anybody to plan anything.
    let name = state.log.names.get(id).cloned().unwrap_or_default();
    state.verdict(call, &name)
}

/// A path as SQLite gives it.
///
/// # Safety
/// `name` is a C string that lives for `'a`.
unsafe fn path<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: promised by the caller.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: as in `system_vfs!`.
    let app = unsafe { &*(*vfs).pAppData.cast::<App>() };
    let id = if name.is_null() {
        UNLOGGED
    } else {
        // SAFETY: SQLite's file names are C strings that live until the file is closed.
        let path = unsafe { path(name) };
        lock(&app.state).log.opened(path)
    };
    let syncs_folder = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & JOURNALS != 0;
    let new = File { base: sqlite3_file { pMethods: ptr::null() }, app, id, syncs_folder };
    // SAFETY: SQLite hands in `szOsFile` zeroed bytes, aligned for any type; a `File` fits.
    let system = unsafe {
        file.cast::<File>().write(new);
        system_part(file)
    };
    let code = system_vfs!(vfs, xOpen, name, system, flags, out_flags);
    // A file without methods is not closed by SQLite; one that the system has set them for must be.
    // SAFETY: both parts were written: ours above, the system's by its own `xOpen` or by SQLite's zeroes.
    let opened = unsafe {
        let opened = !(*system).pMethods.is_null();
        if opened {
            (*file).pMethods = &METHODS;
        }
        opened
    };
    if !opened && id != UNLOGGED {
        lock(&app.state).log.closed(id);
    }
    code
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let Some((mut state, id)) = logged(file) else { return system_file!(file, xClose) };
    let code = system_file!(file, xClose);
    state.log.closed(id);
    code
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    system_file!(file, xRead, into, amount, offset)
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // The lock is held over the system's call: the log has the order of the disk.
    let Some((mut state, id)) = logged(file) else { return system_file!(file, xWrite, from, amount, offset) };
    // What lands of a write that fails: whole sectors of its first half.
    let half = amount / 2 / 512 * 512;
    let (amount, answer) = match verdict(&mut state, Call::Write, id) {
        Verdict::Go => (amount, ffi::SQLITE_OK),
        Verdict::Fail => (half, ffi::SQLITE_IOERR_WRITE),
        Verdict::Full => (half, ffi::SQLITE_FULL),
    };
    if amount > 0 {
        let code = system_file!(file, xWrite, from, amount, offset);
        if code != ffi::SQLITE_OK {
            return code;
        }
        // SAFETY: SQLite hands in at least `amount` readable bytes.
        let data = unsafe { slice::from_raw_parts(from.cast::<u8>(), amount as usize) };
        state.log.push(Event::Write { file: id, offset: offset as usize, data: data.into() });
    }
    answer
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    let Some((mut state, id)) = logged(file) else { return system_file!(file, xTruncate, len) };
    if verdict(&mut state, Call::Truncate, id) != Verdict::Go {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    let code = system_file!(file, xTruncate, len);
    if code == ffi::SQLITE_OK {
        state.log.push(Event::Truncate { file: id, len: len as usize });
    }
    code
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let Some((mut state, id)) = logged(file) else { return system_file!(file, xSync, flags) };
    if verdict(&mut state, Call::Sync, id) != Verdict::Go {
        state.log.push(Event::SyncFailed { file: id });
        return ffi::SQLITE_IOERR_FSYNC;
    }
    state.log.push(Event::Sync { file: id });
    // SAFETY: SQLite hands in a file that `open` made, and lets one thread at a time use it.
    if unsafe { mem::replace(&mut (*file.cast::<File>()).syncs_folder, false) } {
        state.log.push(Event::SyncFolder);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    system_file!(file, xFileSize, size)
}

unsafe extern "C" fn file_lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    system_file!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    system_file!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    system_file!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    system_file!(file, xFileControl, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    system_file!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    system_file!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    system_file!(file, xShmMap, region, size, extend, out)
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    system_file!(file, xShmLock, offset, n, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    system_file!(file, xShmBarrier)
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    system_file!(file, xShmUnmap, delete)
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: as in `system_vfs!`; SQLite's file names are C strings that live over the call.
    let (app, path) = unsafe { (&*(*vfs).pAppData.cast::<App>(), path(name)) };
    let mut state = lock(&app.state);
    // Nothing is planned for it, but it is a write point.
    let _ = state.verdict(Call::Delete, "");
    // Whether the folder is synced is for the log to say; the system need not.
    let code = system_vfs!(vfs, xDelete, name, 0);
    if code == ffi::SQLITE_OK {
        state.log.deleted(path, sync_dir != 0);
    }
    code
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    system_vfs!(vfs, xAccess, name, flags, out)
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    system_vfs!(vfs, xFullPathname, name, len, out)
}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    system_vfs!(vfs, xRandomness, len, out)
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, micros: c_int) -> c_int {
    system_vfs!(vfs, xSleep, micros)
}

unsafe extern "C" fn current_time(vfs: *mut sqlite3_vfs, out: *mut f64) -> c_int {
    system_vfs!(vfs, xCurrentTime, out)
}

unsafe extern "C" fn current_time_int64(vfs: *mut sqlite3_vfs, out: *mut sqlite3_int64) -> c_int {
    system_vfs!(vfs, xCurrentTimeInt64, out)
}

unsafe extern "C" fn last_error(vfs: *mut sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    system_vfs!(vfs, xGetLastError, len, out)
}
