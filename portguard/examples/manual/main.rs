//! Writes the man pages and the completions of shells, all from the definition of the command line:
//! `cargo run --example manual -- FOLDER DATE`. `cargo xtask dist` runs this.

#[path = "completions.rs"]
mod completions;
#[path = "pages.rs"]
mod pages;

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, date] = &arguments[..] else {
        return Err(io::Error::other("usage: manual FOLDER DATE"));
    };
    let mut files: Vec<_> = pages::all(date)
        .into_iter()
        .map(|page| (format!("man/{}", page.file), page.text.into_bytes()))
        .collect();
    files.extend(completions::all().into_iter().map(|(file, text)| (format!("completions/{file}"), text)));
    for (file, text) in files {
        let path = Path::new(folder).join(file);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, text)?;
    }
    Ok(())
}
