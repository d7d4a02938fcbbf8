//! Photographs that appear in a folder become a contact sheet: a schedule looks for new files, a job for each shrinks
//! it, and a job that waits for all of them puts the thumbnails together. One photograph is still being written when
//! it is found: its job fails, and is tried again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use mainstay::{
    App, Boot, Error, Job, JobContext, JobError, Result, Shutdown, Workers,
    config::Loader,
    core::job::{Backoff, Jitter, JobPolicy},
    secs,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};

/// Thumbnails are so many pixels wide and high.
const SIZE: usize = 16;

/// Looks for new photographs.
#[derive(Serialize, Deserialize)]
struct Scan;
impl Job for Scan {
    const KIND: &'static str = "scan";
    const QUEUE: &'static str = "album";
}

/// Makes one thumbnail.
#[derive(Serialize, Deserialize)]
struct Shrink {
    photo: String,
}
impl Job for Shrink {
    const KIND: &'static str = "shrink";
    const QUEUE: &'static str = "album";

    fn policy() -> JobPolicy {
        // Whoever writes a file is done with it soon.
        let backoff = Backoff { base_ms: 50, factor_milli: 1_500, max_ms: 1_000, jitter: Jitter::None };
        JobPolicy { backoff, ..JobPolicy::default() }
    }
}

/// Puts the thumbnails together.
#[derive(Serialize, Deserialize)]
struct Sheet {
    photos: Vec<String>,
}
impl Job for Sheet {
    const KIND: &'static str = "sheet";
    const QUEUE: &'static str = "album";
}

#[derive(Clone)]
struct Album {
    folder: PathBuf,
    /// The photographs whose job had to be tried again.
    again: Arc<Mutex<Vec<String>>>,
    /// Tells that a job could not read its file, and that the sheet is done.
    incomplete: Arc<Semaphore>,
    done: Arc<Semaphore>,
}

async fn scan(_: Scan, cx: JobContext<Album>) -> Result<(), JobError> {
    let photos = new_photos(&cx.folder)?;
    let mut batch = cx.store().batch();
    if photos.is_empty() {
        return Ok(());
    }
    for photo in &photos {
        // The next scan may find the same file before this job has ended: then it is the same job.
        batch = batch.add(Shrink { photo: photo.clone() }.with().unique(photo.as_str()));
    }
    let count = photos.len();
    let batch = batch.on_success(Sheet { photos }.with().unique("sheet")).await?;
    if !batch.then[0].deduplicated {
        println!("{count} photographs found");
    }
    Ok(())
}

async fn shrink(job: Shrink, cx: JobContext<Album>) -> Result<(), JobError> {
    let photo = Image::read(&cx.folder.join(&job.photo)).inspect_err(|_| cx.incomplete.add_permits(1))?;
    if cx.attempt() > 1 {
        cx.again.lock().expect("nobody panics with it").push(job.photo.clone());
    }
    // A second run of this job writes the same file again: nothing to be afraid of.
    Ok(photo.shrunk().write(&cx.folder.join(thumbnail(&job.photo)))?)
}

async fn sheet(job: Sheet, cx: JobContext<Album>) -> Result<String, JobError> {
    let mut sheet = Image { width: SIZE * job.photos.len(), height: SIZE, rgb: vec![] };
    let read = |photo: &String| Image::read(&cx.folder.join(thumbnail(photo)));
    let thumbnails = job.photos.iter().map(read).collect::<io::Result<Vec<_>>>()?;
    for row in 0..SIZE {
        for thumbnail in &thumbnails {
            sheet.rgb.extend(&thumbnail.rgb[row * SIZE * 3..(row + 1) * SIZE * 3]);
        }
    }
    sheet.write(&cx.folder.join("sheet.ppm"))?;
    println!("Tried again: {}", cx.again.lock().expect("nobody panics with it").join(", "));
    println!("Contact sheet: {} thumbnails, {} x {} pixels", thumbnails.len(), sheet.width, sheet.height);
    cx.done.add_permits(1);
    Ok(job.photos.join(" "))
}

async fn boot(b: &mut Boot<()>) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("mainstay-contact-sheet-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(Error::from_any)?;
    let remove = folder.clone();
    b.on_stop("folder", secs(1), async move || fs::remove_dir_all(remove));

    let album = Album {
        folder,
        again: Arc::default(),
        incomplete: Arc::new(Semaphore::new(0)),
        done: Arc::new(Semaphore::new(0)),
    };
    b.store("memory:").await?; // `sqlite:album.db` would outlive a crash
    b.workers(Workers::new("album", album.clone()).on(scan).on(shrink).on(sheet).concurrency(4));
    // One scan at a time: a tick adds none while the last one has not ended.
    b.schedule("scan", "* * * * * *", Scan.with().unique("scan")).await?;

    // And a photographer, so that this example ends by itself.
    b.background("photographer", async move |shutdown: Shutdown| {
        timeout(secs(50), photographer(album)).await.expect("the sheet is done in time")?;
        shutdown.begin();
        Ok::<_, io::Error>(())
    });
    Ok(())
}

fn main() -> ExitCode {
    let config = Loader::new("example").default_value("admin_listen", "off").default_value("lame_duck_ms", 0);
    let exit = App::<()>::new("example").config(config).run(boot);
    if exit == ExitCode::SUCCESS {
        println!("Nothing left to do");
    }
    exit
}

async fn photographer(album: Album) -> io::Result<()> {
    // Written elsewhere and moved here in one go, so that no scan finds some of them.
    let studio = album.folder.join("studio");
    fs::create_dir_all(&studio)?;
    let photos =
        [("dunes.ppm", [230, 200, 140]), ("harbour.ppm", [40, 90, 160]), ("moss.ppm", [60, 120, 50])];
    for (name, colour) in photos {
        Image::gradient(64, 48, colour).write(&studio.join(name))?;
    }
    // The last one is still being written.
    let whole = fs::read(studio.join("harbour.ppm"))?;
    fs::write(studio.join("harbour.ppm"), &whole[..whole.len() / 2])?;
    fs::rename(&studio, album.folder.join("roll"))?;
    album.incomplete.acquire().await.expect("it is never closed").forget();
    fs::write(album.folder.join("roll/harbour.ppm"), &whole)?;
    album.done.acquire().await.expect("it is never closed").forget();
    Ok(())
}

/// Photographs without a thumbnail, in the order of their names.
fn new_photos(folder: &Path) -> io::Result<Vec<String>> {
    let roll = match fs::read_dir(folder.join("roll")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        roll => roll?,
    };
    let mut photos = vec![];
    for file in roll {
        let name = format!("roll/{}", file?.file_name().to_string_lossy());
        if name.ends_with(".ppm") && !folder.join(thumbnail(&name)).exists() {
            photos.push(name);
        }
    }
    photos.sort();
    Ok(photos)
}

fn thumbnail(photo: &str) -> String {
    format!("{photo}.thumbnail")
}

/// A picture in the binary form of PPM: three bytes a pixel.
struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Image {
    fn read(path: &Path) -> io::Result<Image> {
        let bytes = fs::read(path)?;
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
        let (magic, size) = (parts.next(), parts.next());
        let (_, rgb) = (parts.next(), parts.next().ok_or(bad("the file ends in its head"))?);
        let size = size.and_then(|size| std::str::from_utf8(size).ok()?.split_once(' '));
        let (width, height) = size.ok_or(bad("no size"))?;
        let number = |text: &str| text.parse().map_err(|_| bad("a size that is no number"));
        let image = Image { width: number(width)?, height: number(height)?, rgb: rgb.to_vec() };
        match image.rgb.len() == image.width * image.height * 3 && magic == Some(b"P6") {
            true => Ok(image),
            false => Err(bad("the file is not complete")),
        }
    }

    /// Under another name first, so that nobody reads half of it.
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut bytes = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        bytes.extend(&self.rgb);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, bytes)?;
        fs::rename(unfinished, path)
    }

    fn gradient(width: usize, height: usize, [r, g, b]: [u8; 3]) -> Image {
        let shade = |value: u8, x: usize| (usize::from(value) * (x + 1) / width) as u8;
        let pixel = |at: usize| [r, g, b].map(|value| shade(value, at % width));
        Image { width, height, rgb: (0..width * height).flat_map(pixel).collect() }
    }

    /// Each pixel is the mean of those it stands for.
    fn shrunk(&self) -> Image {
        let mut rgb = Vec::with_capacity(SIZE * SIZE * 3);
        let range = |at: usize, of: usize| at * of / SIZE..((at + 1) * of / SIZE).max(at * of / SIZE + 1);
        for (y, x) in (0..SIZE).flat_map(|y| (0..SIZE).map(move |x| (y, x))) {
            for channel in 0..3 {
                let pixels = range(y, self.height).flat_map(|y| range(x, self.width).map(move |x| (x, y)));
                let values: Vec<_> =
                    pixels.map(|(x, y)| usize::from(self.rgb[(y * self.width + x) * 3 + channel])).collect();
                rgb.push((values.iter().sum::<usize>() / values.len()) as u8);
            }
        }
        Image { width: SIZE, height: SIZE, rgb }
    }
}
